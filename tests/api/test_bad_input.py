"""Whatever a client sends: a documented error with a code, nothing lost, nothing half-written."""

from typing import Any
from uuid import uuid4

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from apps.agents.models import Conversation, Message, Run
from apps.collections.models import Chunk, Collection, Document
from apps.core.db import unit_of_work
from apps.ledger.models import Entry, Operation
from nooble.processes import Supervisor
from tests.api.test_authentication import check_problem
from tests.collections import files
from tests.fakes.process import FakeProvider
from tests.faults.scene import Scene
from tests.personas import Persona

MEBIBYTE = 1024 * 1024


@pytest.fixture
def scene(owner: Persona, fake_provider: FakeProvider, worker: Supervisor) -> Scene:
    return Scene(persona=owner, fake=fake_provider, provider="fake")


@pytest.fixture
def collection(scene: Scene) -> str:
    return scene.collection()


def upload(persona: Persona, collection: str, name: str, data: bytes) -> Any:
    return persona.api.post(
        f"/api/v1/collections/{collection}/documents", {"file": SimpleUploadedFile(name, data)}, format="multipart"
    )


@pytest.mark.parametrize(
    ("name", "data", "status", "code"),
    [
        ("empty.txt", b"", 422, "empty_document"),
        ("blank.txt", b" \n\t ", 422, "empty_document"),
        ("huge.txt", b"word " * (10 * MEBIBYTE), 413, "too_large"),
    ],
    ids=["empty", "no tokens", "50 MB"],
)
def test_what_can_be_seen_at_once_is_refused_at_once(
    scene: Scene, collection: str, name: str, data: bytes, status: int, code: str
) -> None:
    check_problem(upload(scene.persona, collection, name, data), status, code)
    with unit_of_work(scene.persona.ctx):
        assert not Document.objects.exists()


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("report.pdf", b"This is no PDF.", "document_unreadable"),
        ("report.pdf", b"%PDF-1.7\n" + bytes(range(256)) * 20, "document_unreadable"),
        ("secret.pdf", files.encrypted_pdf(password="secret"), "document_encrypted"),
        ("garbage.txt", bytes(range(256)) * 50, "not_text"),
    ],
    ids=["not a PDF", "a broken PDF", "an encrypted PDF", "garbage named .txt"],
)
def test_what_reading_finds_out_stands_on_the_document(
    scene: Scene, collection: str, name: str, data: bytes, code: str
) -> None:
    response = upload(scene.persona, collection, name, data)
    assert response.status_code == 202
    scene.wait_for_document(response.json()["id"])
    shown = scene.persona.api.get(f"/api/v1/documents/{response.json()['id']}").json()
    assert (shown["status"], shown["error"]["code"]) == ("failed", code)
    assert shown["error"]["detail"]
    assert "Traceback" not in shown["error"]["detail"]
    with unit_of_work(scene.persona.ctx):
        assert not Chunk.objects.exists()
        assert not Operation.objects.exists()


def test_a_failed_document_is_not_found_and_can_be_tried_again_or_deleted(scene: Scene, collection: str) -> None:
    document = upload(scene.persona, collection, "x.pdf", b"This is no PDF.").json()["id"]
    scene.wait_for_document(document)
    api = scene.persona.api
    assert api.post(f"/api/v1/documents/{document}/retry").status_code == 202
    scene.wait_for_document(document)
    assert api.delete(f"/api/v1/documents/{document}").status_code == 204
    check_problem(api.get(f"/api/v1/documents/{document}"), 404, "document_not_found")


def test_latin_1_text_is_read(scene: Scene, collection: str) -> None:
    document = upload(scene.persona, collection, "menu.txt", "Das Menü kostet zwölf Euro.".encode("latin-1")).json()
    assert scene.wait_for_document(document["id"]).status == "ready"
    chunks = scene.persona.api.get(f"/api/v1/documents/{document['id']}/chunks").json()["results"]
    assert [chunk["text"] for chunk in chunks] == ["Das Menü kostet zwölf Euro."]


def test_the_same_content_is_in_a_collection_once(scene: Scene, collection: str) -> None:
    first = upload(scene.persona, collection, "a.txt", b"The same words.")
    second = upload(scene.persona, collection, "b.txt", b"The same words.")
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json()["id"] == second.json()["id"]


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a\0b", "text": "x"},
        {"name": "a", "text": "x\0y"},
        {"name": "a", "text": "x", "metadata": {"k": "a\0b"}},
        {"name": "a", "text": "x", "metadata": ["no", "object"]},
        {"name": "a", "text": "x", "metadata": {"k": "v" * 20_000}},
        {"name": "", "text": "x"},
        {"name": "n" * 300, "text": "x"},
        {"text": "x"},
        {"name": "a", "text": 7.5e300, "metadata": None},
        ["a list"],
        "a string",
        None,
    ],
)
def test_a_malformed_text_document_is_refused(scene: Scene, collection: str, body: Any) -> None:
    response = scene.persona.api.post(f"/api/v1/collections/{collection}/documents", body, format="json")
    check_problem(response, 400, "invalid_request")
    with unit_of_work(scene.persona.ctx):
        assert not Document.objects.exists()


def test_a_question_of_100_000_characters_is_refused(scene: Scene, collection: str) -> None:
    agent = scene.agent(collection)
    response = scene.persona.api.post("/api/v1/chat", {"agent_id": agent, "message": "a" * 100_000}, format="json")
    check_problem(response, 413, "too_large")
    with unit_of_work(scene.persona.ctx):
        assert not Run.objects.exists()
        assert not Conversation.objects.exists()
        assert not Message.objects.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"message": ""},
        {"message": "a\0b"},
        {"message": None},
        {"message": {"no": "text"}},
        {"model_preferences": {"temperature": 3}},
        {"model_preferences": {"temperature": "NaN"}},
        {"model_preferences": {"max_tokens": 0}},
        {"model_preferences": {"max_tokens": 10**30}},
        {"model_preferences": {"provider": "nobody"}},
        {"model_preferences": "gpt"},
        {"agent_id": "not-an-id"},
        {"collections": ["not-an-id"]},
        {"collections": [str(uuid4())] * 100},
    ],
)
def test_a_malformed_question_is_refused(scene: Scene, collection: str, change: dict[str, Any]) -> None:
    body = {"agent_id": scene.agent(collection), "message": "Hello?", **change}
    response = scene.persona.api.post("/api/v1/chat", body, format="json")
    assert response.status_code == 400, response.json()
    with unit_of_work(scene.persona.ctx):
        assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-LLM-Temperature", "warm"),
        ("X-LLM-Temperature", "2.1"),
        ("X-LLM-Temperature", "nan"),
        ("X-LLM-Max-Tokens", "1e3"),
        ("X-LLM-Max-Tokens", "999999"),
        ("X-LLM-Provider", "nobody"),
        ("X-RAG-Collections", "["),
        ("X-RAG-Collections", "[[[[[["),
        ("X-RAG-Collections", '{"a": 1}'),
        ("X-RAG-Collections", '["x"]'),
        ("X-RAG-Similarity-Threshold", "2"),
        ("X-RAG-Results-Limit", "0"),
        ("X-Agent-ID", "x"),
        ("X-Conversation-ID", "x"),
    ],
)
def test_a_malformed_header_is_refused(scene: Scene, collection: str, header: str, value: str) -> None:
    body = {"agent_id": scene.agent(collection), "message": "Hello?"}
    response = scene.persona.api.post("/api/v1/chat", body, format="json", headers={header: value})
    assert response.status_code == 400, response.json()


PATHS = [
    "/api/v1/agents/{}",
    "/api/v1/agents/{}/shares",
    "/api/v1/collections/{}",
    "/api/v1/collections/{}/documents",
    "/api/v1/documents/{}",
    "/api/v1/documents/{}/chunks",
    "/api/v1/runs/{}",
    "/api/v1/conversations/{}",
    "/api/v1/conversations/{}/messages",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("identifier", [str(uuid4()), "0", "%00", "x" * 500, "..%2f.."])
def test_an_unknown_id_is_not_found(owner: Persona, path: str, identifier: str) -> None:
    response = owner.api.get(path.format(identifier))
    assert response.status_code == 404


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000, b""])
def test_a_body_that_is_no_json_is_refused(owner: Persona, body: bytes) -> None:
    response = owner.api.post("/api/v1/agents", body, content_type="application/json")
    check_problem(response, 400, "invalid_request")


def test_a_body_of_a_kind_that_is_not_read_is_refused(owner: Persona) -> None:
    response = owner.api.post("/api/v1/agents", b"<a/>", content_type="application/xml")
    check_problem(response, 415, "unsupported_media_type")


def test_a_method_that_is_not_taken_is_refused(owner: Persona) -> None:
    check_problem(owner.api.put("/api/v1/agents"), 405, "method_not_allowed")


@pytest.mark.parametrize(
    "query",
    [
        "from=yesterday",
        "from=2026-02-30",
        "from=%00",
        "from=2026-02-01&to=2026-01-01",
        "from=1900-01-01&to=2026-01-01",
        "granularity=hour",
        "group_by=provider,nothing",
        "role=everybody",
    ],
)
def test_a_malformed_usage_query_is_refused(owner: Persona, query: str) -> None:
    check_problem(owner.api.get(f"/api/v1/usage?{query}"), 400, "invalid_request")


@pytest.mark.parametrize("query", ["cursor=nonsense", "cursor=%00", "page_size=0", "page_size=100000", "cursor=cD0%3D"])
def test_a_malformed_page_is_no_server_error(owner: Persona, query: str) -> None:
    assert owner.api.get(f"/api/v1/agents?{query}").status_code in {200, 404}


def test_another_tenants_things_are_not_found(scene: Scene, collection: str, stranger: Persona) -> None:
    agent = scene.agent(collection)
    document = upload(scene.persona, collection, "a.txt", b"The owner's words.").json()["id"]
    run = scene.ask(agent, "What are the owner's words?")
    conversation = scene.run(run).conversation_id
    found = {
        "/api/v1/agents/{}": agent,
        "/api/v1/agents/{}/shares": agent,
        "/api/v1/collections/{}": collection,
        "/api/v1/documents/{}": document,
        "/api/v1/documents/{}/chunks": document,
        "/api/v1/runs/{}": run,
        "/api/v1/conversations/{}": conversation,
        "/api/v1/conversations/{}/messages": conversation,
    }
    for path, identifier in found.items():
        assert scene.persona.api.get(path.format(identifier)).status_code == 200
        assert stranger.api.get(path.format(identifier)).status_code == 404
        assert stranger.api.delete(path.format(identifier)).status_code in {404, 405}
    for path in ("agents", "collections", "runs", "conversations", "usage/entries"):
        assert stranger.api.get(f"/api/v1/{path}").json()["results"] == []
    scene.wait_for_run(run)


def test_another_tenants_ids_cannot_be_used(scene: Scene, collection: str, stranger: Persona) -> None:
    agent = scene.agent(collection)
    scene.wait_for_run(scene.ask(agent, "Hello?"))
    [conversation] = scene.persona.api.get("/api/v1/conversations").json()["results"]
    own = stranger.api.post("/api/v1/agents", {"slug": "own", "name": "Own"}, format="json").json()["id"]
    attempts: list[tuple[str, dict[str, Any], str]] = [
        ("chat", {"agent_id": agent, "message": "Hi"}, "agent_not_found"),
        ("chat", {"agent_id": own, "message": "Hi", "collections": [collection]}, "collection_not_found"),
        ("chat", {"agent_id": own, "message": "Hi", "conversation_id": conversation["id"]}, "conversation_not_found"),
        ("agents", {"slug": "thief", "name": "T", "rag": {"collections": [collection]}}, "collection_not_found"),
        (f"agents/{agent}/shares", {"tenant_id": str(uuid4()), "payer": "consumer"}, "agent_not_found"),
        (f"collections/{collection}/documents", {"name": "a", "text": "b"}, "collection_not_found"),
        (f"collections/{collection}/search", {"query": "words"}, "collection_not_found"),
    ]
    for path, body, code in attempts:
        check_problem(stranger.api.post(f"/api/v1/{path}", body, format="json"), 404, code)
    with unit_of_work(stranger.ctx):
        assert not Run.objects.exists()
        assert not Collection.objects.exists()
        assert not Entry.objects.exists()
