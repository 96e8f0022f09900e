"""Headers enter once: each is read wherever it is sent, and has an effect where it means something."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from apps.collections import documents, ingestion
from apps.collections.models import Chunk, Document
from apps.core import dispatch
from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work
from apps.core.headers import HEADERS
from tests.api.test_authentication import check_problem
from tests.personas import Persona

API = "/api/v1"
TEXT = "\n\n".join(f"The {number}th paragraph stands for itself. " + "It goes on and on. " * 7 for number in range(7))
#: Of each header something that cannot be.
MALFORMED = {
    "X-Tenant-ID": "mine",
    "X-Tenant-Tier": "a b",
    "X-Session-ID": "",
    "X-User-ID": "x" * 129,
    "X-Request-Source": "é",
    "X-Client-Version": "1 2",
    "X-Context-Type": "maintenance",
    "X-Agent-ID": "helper",
    "X-Conversation-ID": "1",
    "X-Collection-ID": "notes",
    "X-RAG-Collections": '["notes"]',
    "X-LLM-Provider": "open ai",
    "X-LLM-Model": "",
    "X-LLM-Temperature": "2.01",
    "X-LLM-Max-Tokens": "0",
    "X-Embedding-Provider": "\t",
    "X-Embedding-Model": "a;b",
    "X-Embedding-Dimensions": "256.0",
    "X-RAG-Similarity-Threshold": "nan",
    "X-RAG-Results-Limit": "51",
    "X-RAG-Chunk-Size": "63",
}


def make_collection(persona: Persona, *, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    body = {"slug": f"c-{uuid4().hex[:8]}", "name": "Notes", **fields}
    return persona.api.post(f"{API}/collections", body, format="json", headers=headers or {})


@pytest.fixture
def collection(owner: Persona) -> str:
    return str(make_collection(owner).json()["id"])


@pytest.fixture
def agent(owner: Persona, collection: str) -> str:
    body = {"slug": "helper", "name": "Helper", "rag": {"collections": [collection]}}
    return str(owner.api.post(f"{API}/agents", body, format="json").json()["id"])


def ask(persona: Persona, agent: str, headers: dict[str, str], **body: Any) -> Any:
    question = {"agent_id": agent, "message": "Hello?", **body}
    return persona.api.post(f"{API}/chat", question, format="json", headers=headers)


def upload(persona: Persona, collection: str, headers: dict[str, str], text: str = TEXT) -> Any:
    path = f"{API}/collections/{collection}/documents"
    return persona.api.post(path, {"name": "a.md", "text": text}, format="json", headers=headers)


def search(persona: Persona, collection: str, headers: dict[str, str], **body: Any) -> Any:
    path = f"{API}/collections/{collection}/search"
    return persona.api.post(path, {"query": "What goes on?", **body}, format="json", headers=headers)


def config_of(persona: Persona, accepted: Any) -> dict[str, Any]:
    """The configuration of a run that was accepted."""
    assert accepted.status_code == 202, accepted.json()
    found: dict[str, Any] = persona.api.get(f"{API}/runs/{accepted.json()['run_id']}").json()["config"]
    return found


def context_of(persona: Persona, document: str) -> ExecutionContext:
    with unit_of_work(persona.ctx):
        return Document.objects.get(pk=document).context


def test_of_every_header_something_is_known_to_be_wrong() -> None:
    assert MALFORMED.keys() == HEADERS.keys()


@pytest.mark.parametrize(("header", "value"), MALFORMED.items())
def test_a_malformed_header_is_named_wherever_it_is_sent(owner: Persona, header: str, value: str) -> None:
    problem = check_problem(owner.api.get(f"{API}/agents", headers={header: value}), 400, "invalid_request")
    assert [error["field"] for error in problem["errors"]] == [header]
    assert header in problem["detail"]


OVERRIDES: list[tuple[str, str, tuple[str, str], Any]] = [
    ("X-LLM-Provider", "local", ("llm_config", "provider"), "local"),
    ("X-LLM-Model", "extractive", ("llm_config", "model"), "extractive"),
    ("X-LLM-Temperature", "1", ("llm_config", "temperature"), 1.0),
    ("X-LLM-Max-Tokens", " 77 ", ("llm_config", "max_tokens"), 77),
    ("X-RAG-Results-Limit", "9", ("rag_config", "max_results"), 9),
]


@pytest.mark.parametrize(("header", "value", "setting", "expected"), OVERRIDES)
def test_a_question_is_answered_as_its_headers_say_and_says_so(
    owner: Persona, agent: str, header: str, value: str, setting: tuple[str, str], expected: Any
) -> None:
    section, name = setting
    config = config_of(owner, ask(owner, agent, {header: value}))
    assert config[section][name] == expected
    assert config["sources"][f"{section}.{name}"] == "request"
    without = config_of(owner, ask(owner, agent, {}))
    assert without["sources"][f"{section}.{name}"] != "request"


def test_a_threshold_of_the_request_is_every_collections(owner: Persona, agent: str) -> None:
    config = config_of(owner, ask(owner, agent, {"X-RAG-Similarity-Threshold": "0.5"}))
    assert [each["similarity_threshold"] for each in config["rag_config"]["collections"]] == [0.5]


@pytest.mark.parametrize(
    ("header", "value", "body"),
    [
        ("X-LLM-Model", "one", {"model_preferences": {"model": "another"}}),
        ("X-LLM-Temperature", "0.1", {"model_preferences": {"temperature": 0.2}}),
        ("X-RAG-Collections", "[]", {"collections": ["00000000-0000-7000-8000-000000000000"]}),
        ("X-Collection-ID", "00000000-0000-7000-8000-000000000001", {"collections": []}),
        ("X-Agent-ID", "00000000-0000-7000-8000-000000000001", {}),
        ("X-Conversation-ID", str(uuid4()), {"conversation_id": str(uuid4())}),
    ],
)
def test_a_header_and_a_body_that_disagree_are_refused(
    owner: Persona, agent: str, header: str, value: str, body: dict[str, Any]
) -> None:
    problem = check_problem(ask(owner, agent, {header: value}, **body), 400, "preference_conflict")
    assert header in problem["detail"]


def test_a_header_and_a_body_that_agree_are_one(owner: Persona, agent: str) -> None:
    accepted = ask(owner, agent, {"X-LLM-Temperature": "0.20"}, model_preferences={"temperature": 0.2})
    assert config_of(owner, accepted)["llm_config"]["temperature"] == 0.2


def test_one_collection_may_be_named_by_its_own_header(owner: Persona, agent: str, collection: str) -> None:
    other = str(make_collection(owner).json()["id"])
    for headers in ({"X-Collection-ID": other}, {"X-Collection-ID": other, "X-RAG-Collections": f'["{other}"]'}):
        config = config_of(owner, ask(owner, agent, headers))
        assert [each["collection_id"] for each in config["rag_config"]["collections"]] == [other]
    check_problem(ask(owner, agent, {"X-Collection-ID": str(uuid4())}), 404, "collection_not_found")


def test_a_strangers_collection_is_one_that_does_not_exist(owner: Persona, stranger: Persona, agent: str) -> None:
    theirs = make_collection(stranger).json()["id"]
    check_problem(ask(owner, agent, {"X-Collection-ID": theirs}), 404, "collection_not_found")


@pytest.mark.parametrize("call", [upload, search])
def test_what_is_about_a_collection_is_about_no_other(owner: Persona, collection: str, call: Any) -> None:
    check_problem(call(owner, collection, {"X-Collection-ID": str(uuid4())}), 400, "preference_conflict")
    assert call(owner, collection, {"X-Collection-ID": collection}).status_code < 300


def test_a_kind_of_work_that_is_not_the_calls_is_refused(owner: Persona, agent: str, collection: str) -> None:
    for call, kind, where in ((ask, "chat", agent), (search, "search", collection), (upload, "ingestion", collection)):
        assert call(owner, where, {"X-Context-Type": kind}).status_code < 300
        problem = check_problem(call(owner, where, {"X-Context-Type": "usage"}), 400, "invalid_request")
        assert [error["field"] for error in problem["errors"]] == ["X-Context-Type"]
    # What a client sends with all of its calls does no harm to those that have no kind of their own.
    assert owner.api.get(f"{API}/agents", headers={"X-Context-Type": "chat"}).status_code == 200


# Embedding


def test_a_new_collection_is_embedded_as_the_headers_say(owner: Persona) -> None:
    headers = {"X-Embedding-Dimensions": "64", "X-RAG-Chunk-Size": "128"}
    made = make_collection(owner, headers=headers).json()
    assert made["embedding"] == {"provider": "local", "model": "wordllama-256", "dimensions": 64}
    assert made["chunk_size"] == 128
    same = make_collection(owner, headers=headers, embedding={"dimensions": 64}, chunk_size=128)
    assert same.status_code == 201
    for body in ({"embedding": {"dimensions": 128}}, {"chunk_size": 256}):
        check_problem(make_collection(owner, headers=headers, **body), 400, "preference_conflict")


@pytest.mark.parametrize("call", [ask, search, upload])
@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Embedding-Provider", "openai"),
        ("X-Embedding-Model", "text-embedding-3-small"),
        ("X-Embedding-Dimensions", "64"),
    ],
)
def test_vectors_of_another_space_are_refused_with_both_spaces(
    owner: Persona, agent: str, collection: str, call: Any, header: str, value: str
) -> None:
    response = call(owner, agent if call is ask else collection, {header: value})
    problem = check_problem(response, 409, "embedding_space_mismatch")
    own: dict[str, Any] = {"provider": "local", "model": "wordllama-256", "dimensions": 256}
    name = header.rpartition("-")[2].lower()
    assert problem["collection_id"] == collection
    assert problem["collection_space"] == own
    assert problem["requested_space"] == {**own, name: type(own[name])(value)}


@pytest.mark.parametrize("call", [ask, search, upload])
def test_vectors_of_the_collections_own_space_are_asked_for_in_vain(
    owner: Persona, agent: str, collection: str, call: Any
) -> None:
    headers = {"X-Embedding-Model": "wordllama-256", "X-Embedding-Dimensions": "256"}
    assert call(owner, agent if call is ask else collection, headers).status_code < 300


# Chunks


@pytest.fixture
def lost_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """No message reaches a worker: what is delivered is delivered here."""
    monkeypatch.setattr(dispatch, "_publish", lambda *_: None)


def chunk_sizes(persona: Persona, document: str) -> list[int]:
    ingestion.chunk_document(persona.ctx, UUID(document), task_id="test")
    with unit_of_work(persona.ctx):
        return list(Chunk.objects.filter(document=UUID(document)).order_by("ordinal").values_list("tokens", flat=True))


@pytest.mark.usefixtures("lost_messages")
def test_a_document_is_cut_as_its_upload_says(owner: Persona, collection: str) -> None:
    document = upload(owner, collection, {"X-RAG-Chunk-Size": "64"}).json()["id"]
    ctx = context_of(owner, document)
    assert ctx.processing_config is not None
    assert (ctx.processing_config.chunk_size, ctx.processing_config.chunk_overlap) == (64, 32)
    assert ctx.config_sources["processing_config.chunk_size"] == "request"
    assert max(chunk_sizes(owner, document)) <= 64
    other = upload(owner, collection, {}, TEXT + " And on.").json()["id"]
    assert "processing_config.chunk_size" not in context_of(owner, other).config_sources
    assert max(chunk_sizes(owner, other)) > 64


@pytest.mark.usefixtures("lost_messages")
def test_a_document_that_is_tried_again_is_cut_as_its_upload_said(owner: Persona, collection: str) -> None:
    document = upload(owner, collection, {"X-RAG-Chunk-Size": "96"}).json()["id"]
    with unit_of_work(owner.ctx):
        Document.objects.filter(pk=document).update(status="failed", lease_expires_at=None)
    documents.retry_document(owner.ctx, UUID(document), tier_defaults={})
    ctx = context_of(owner, document)
    assert ctx.processing_config is not None
    assert ctx.processing_config.chunk_size == 96
    assert ctx.config_sources["processing_config.chunk_size"] == "request"


def fail(persona: Persona, document: str) -> None:
    with unit_of_work(persona.ctx):
        Document.objects.filter(pk=document).update(status="failed", lease_expires_at=None)


@pytest.mark.usefixtures("lost_messages")
def test_a_failed_document_that_is_not_cut_yet_is_cut_as_its_next_upload_says(owner: Persona, collection: str) -> None:
    document = upload(owner, collection, {}).json()["id"]
    for header, size in (({"X-RAG-Chunk-Size": "64"}, 64), ({}, 64), ({"X-RAG-Chunk-Size": "128"}, 128)):
        fail(owner, document)
        again = upload(owner, collection, header)
        assert (again.status_code, again.json()["id"], again.json()["status"]) == (200, document, "pending")
        ctx = context_of(owner, document)
        assert ctx.processing_config is not None
        assert ctx.processing_config.chunk_size == size
    assert 64 < max(chunk_sizes(owner, document)) <= 128


@pytest.mark.usefixtures("lost_messages")
@pytest.mark.parametrize("status", ["pending", "embedding", "failed"])
def test_no_upload_asks_in_vain_for_chunks_of_another_size(owner: Persona, collection: str, status: str) -> None:
    document = upload(owner, collection, {"X-RAG-Chunk-Size": "64"}).json()["id"]
    if status != "pending":
        chunk_sizes(owner, document)
    if status == "failed":
        fail(owner, document)
    problem = check_problem(upload(owner, collection, {"X-RAG-Chunk-Size": "96"}), 409, "chunk_size_mismatch")
    assert problem["document_id"] == document
    assert "in chunks of 64 tokens, not of 96" in problem["detail"]
    assert owner.api.get(f"{API}/documents/{document}").json()["status"] == status
    for header in ({"X-RAG-Chunk-Size": "64"}, {}):
        assert upload(owner, collection, header).json()["id"] == document


@pytest.mark.usefixtures("lost_messages")
def test_an_upload_may_ask_for_the_chunks_that_its_collection_has(owner: Persona, collection: str) -> None:
    document = upload(owner, collection, {}).json()["id"]
    assert upload(owner, collection, {"X-RAG-Chunk-Size": "512"}).json()["id"] == document
