"""Whatever a client sends: a documented error with a code, nothing lost, nothing half-written."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile

from apps.agents.models import Conversation, Message, Run
from apps.collections.models import Chunk, Document
from apps.core.db import unit_of_work
from apps.ledger.models import Operation
from tests.api.test_authentication import check_problem
from tests.collections import files
from tests.faults.scene import Scene
from tests.personas import Persona

MEBIBYTE = 1024 * 1024


@pytest.fixture
def collection(scene: Scene) -> str:
    return scene.collection()


@pytest.fixture
def before(database: None) -> set[Path]:
    """The files that lie in the storage when a test begins."""
    return stored()


def stored() -> set[Path]:
    return {path for path in Path(default_storage.path("")).rglob("*") if path.is_file()}


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
    scene: Scene, collection: str, before: set[Path], name: str, data: bytes, status: int, code: str
) -> None:
    check_problem(upload(scene.persona, collection, name, data), status, code)
    assert stored() == before
    with unit_of_work(scene.persona.ctx):
        assert not Document.objects.exists()


@pytest.mark.parametrize("text", ["", " \n\t\r\v\f "])
def test_a_text_without_words_is_refused(scene: Scene, collection: str, before: set[Path], text: str) -> None:
    body = {"name": "empty.md", "text": text}
    response = scene.persona.api.post(f"/api/v1/collections/{collection}/documents", body, format="json")
    check_problem(response, 422, "empty_document")
    assert stored() == before


def test_nothing_is_stored_for_a_collection_that_is_not_there(scene: Scene, stranger: Persona, collection: str) -> None:
    before = stored()
    for persona, named in ((scene.persona, str(uuid4())), (stranger, collection)):
        check_problem(upload(persona, named, "a.txt", b"Some words."), 404, "collection_not_found")
    assert stored() == before


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


def test_a_failed_document_can_be_tried_again_or_deleted(scene: Scene, collection: str, before: set[Path]) -> None:
    document = upload(scene.persona, collection, "x.pdf", b"This is no PDF.").json()["id"]
    scene.wait_for_document(document)
    api = scene.persona.api
    assert api.post(f"/api/v1/documents/{document}/retry").status_code == 202
    scene.wait_for_document(document)
    assert [path.name for path in stored() - before] == [document]
    assert api.delete(f"/api/v1/documents/{document}").status_code == 204
    check_problem(api.get(f"/api/v1/documents/{document}"), 404, "document_not_found")
    assert stored() == before


def test_files_go_with_their_collection(scene: Scene, collection: str, before: set[Path]) -> None:
    documents = {upload(scene.persona, collection, "a.txt", text).json()["id"] for text in (b"One.", b"Two.", b"One.")}
    assert {path.name for path in stored() - before} == documents
    assert len(documents) == 2
    assert scene.persona.api.delete(f"/api/v1/collections/{collection}").status_code == 204
    assert stored() == before


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
def test_a_malformed_text_document_is_refused(scene: Scene, collection: str, before: set[Path], body: Any) -> None:
    response = scene.persona.api.post(f"/api/v1/collections/{collection}/documents", body, format="json")
    check_problem(response, 400, "invalid_request")
    assert stored() == before
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
    ("change", "code"),
    [
        ({"message": ""}, "invalid_request"),
        ({"message": "a\0b"}, "invalid_request"),
        ({"message": None}, "invalid_request"),
        ({"message": {"no": "text"}}, "invalid_request"),
        ({"model_preferences": {"temperature": 3}}, "invalid_request"),
        ({"model_preferences": {"temperature": "NaN"}}, "invalid_request"),
        ({"model_preferences": {"max_tokens": 0}}, "invalid_request"),
        ({"model_preferences": {"max_tokens": 10**30}}, "invalid_request"),
        ({"model_preferences": {"provider": "nobody"}}, "unknown_provider"),
        ({"model_preferences": "gpt"}, "invalid_request"),
        ({"agent_id": "not-an-id"}, "invalid_request"),
        ({"collections": ["not-an-id"]}, "invalid_request"),
        ({"collections": [str(uuid4())] * 100}, "invalid_request"),
    ],
)
def test_a_malformed_question_is_refused(scene: Scene, collection: str, change: dict[str, Any], code: str) -> None:
    body = {"agent_id": scene.agent(collection), "message": "Hello?", **change}
    response = scene.persona.api.post("/api/v1/chat", body, format="json")
    check_problem(response, 400, code)
    with unit_of_work(scene.persona.ctx):
        assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [
        ("X-LLM-Temperature", "warm", "invalid_request"),
        ("X-LLM-Temperature", "2.1", "invalid_request"),
        ("X-LLM-Temperature", "nan", "invalid_request"),
        ("X-LLM-Max-Tokens", "1e3", "invalid_request"),
        ("X-LLM-Max-Tokens", "999999", "invalid_request"),
        ("X-LLM-Provider", "nobody", "unknown_provider"),
        ("X-RAG-Collections", "[", "invalid_request"),
        ("X-RAG-Collections", "[[[[[[", "invalid_request"),
        ("X-RAG-Collections", '{"a": 1}', "invalid_request"),
        ("X-RAG-Collections", '["x"]', "invalid_request"),
        ("X-RAG-Similarity-Threshold", "2", "invalid_request"),
        ("X-RAG-Results-Limit", "0", "invalid_request"),
        ("X-Agent-ID", "x", "invalid_request"),
        ("X-Conversation-ID", "x", "invalid_request"),
    ],
)
def test_a_malformed_header_is_refused(scene: Scene, collection: str, header: str, value: str, code: str) -> None:
    body = {"agent_id": scene.agent(collection), "message": "Hello?"}
    response = scene.persona.api.post("/api/v1/chat", body, format="json", headers={header: value})
    check_problem(response, 400, code)


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
