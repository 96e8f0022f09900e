"""A run whose worker died is delivered again: it puts the same question to the model, whatever has changed meanwhile.

Deliveries die in processes of their own, after the provider has seen the question and before anything of its answer is
written down. This provider cannot be asked, so that the next delivery asks it again.
"""

import signal
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from apps.agents.models import Message
from apps.collections import ingestion
from apps.collections.models import EmbeddingBatch
from apps.core import dispatch
from apps.core.db import unit_of_work
from tests.fakes.process import FakeProvider
from tests.faults.purchases import Buyers
from tests.faults.scene import Scene
from tests.faults.test_fault_table import deliver, expire
from tests.personas import Persona

#: Its first call embeds the question, its second one asks the model.
ANSWERED = ["after send", 1]


@pytest.fixture(autouse=True)
def lost_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """No message reaches a worker: what is delivered is delivered here."""
    monkeypatch.setattr(dispatch, "_publish", lambda *_: None)


@pytest.fixture
def question() -> str:
    return f"How much does the pump {uuid4().hex} weigh?"


@pytest.fixture
def scene(owner: Persona, fake_provider: FakeProvider) -> Iterator[Scene]:
    yield (scene := Scene(persona=owner, fake=fake_provider, provider="fake"))
    scene.check_books()


@pytest.fixture(scope="module")
def buyers(database: None, fake_provider_process: FakeProvider) -> Iterator[Buyers]:
    with Buyers() as buyers:
        yield buyers


@pytest.fixture
def collection(scene: Scene) -> str:
    return scene.collection()


@pytest.fixture
def agent(scene: Scene, collection: str) -> str:
    return scene.agent(collection)


def ingest(scene: Scene, collection: str, text: str) -> str:
    """Upload a document and do all its work here."""
    document = scene.upload(collection, text)
    ingestion.chunk_document(scene.persona.ctx, document, task_id="")
    with unit_of_work(scene.persona.ctx):
        batches = list(EmbeddingBatch.objects.filter(document=document).values_list("pk", flat=True))
    for batch in batches:
        ingestion.embed_batch(scene.persona.ctx, batch, task_id="")
    assert scene.document(document).status == "ready"
    return str(document)


def deliver_here(scene: Scene, buyers: Buyers, run_id: UUID, kill: list[Any] | None = None) -> dict[str, Any]:
    return deliver(scene, buyers, run_id, kill=kill, messages="lost")


def die(scene: Scene, buyers: Buyers, run_id: UUID) -> None:
    """Deliver the run to a process that is killed when the model has answered; its leases run out."""
    assert deliver_here(scene, buyers, run_id, kill=ANSWERED)["status"] == -signal.SIGKILL
    expire(scene)


def finish(scene: Scene, buyers: Buyers, run_id: UUID) -> None:
    assert deliver_here(scene, buyers, run_id)["bought"] == "delivered"
    assert scene.run(run_id).status == "succeeded"


def asked(scene: Scene, question: str) -> list[dict[str, Any]]:
    """The bodies in which the model was asked the question."""
    chats = [each["body"] for each in scene.fake.arrivals() if each["path"].endswith("/chat/completions")]
    return [body for body in chats if question in body["messages"][-1]["content"]]


def best(scene: Scene, collection: str, question: str) -> str:
    """The document that a search would find first now."""
    return str(scene.post(f"/collections/{collection}/search", {"query": question})["results"][0]["document_id"])


def test_it_asks_with_the_passages_that_were_found_first(
    scene: Scene, buyers: Buyers, collection: str, agent: str, question: str
) -> None:
    cited = ingest(scene, collection, f"The pump of the question {question} is heavy.")
    ingest(scene, collection, "The lighthouse keeper feeds the gulls at dawn.")
    run_id = scene.ask(agent, question)
    die(scene, buyers, run_id)

    assert scene.persona.api.delete(f"/api/v1/documents/{cited}").status_code == 204
    better = ingest(scene, collection, f"{question} {question} The pump weighs 12 kilograms.")
    assert best(scene, collection, question) == better
    finish(scene, buyers, run_id)

    first, second = asked(scene, question)
    assert first == second
    assert "is heavy" in first["messages"][-1]["content"]
    [citation] = scene.run(run_id).citations
    assert (citation["document_id"], scene.run(run_id).deliveries) == (cited, 2)
    assert [entry.operation for entry in scene.entries()].count("chat") == 1


def test_it_asks_as_its_version_of_the_agent_does(scene: Scene, buyers: Buyers, agent: str, question: str) -> None:
    run_id = scene.ask(agent, question)
    die(scene, buyers, run_id)
    changes = {"prompt": "Answer in verse.", "llm": {"model": "another", "max_tokens": 9}, "rag": {"collections": []}}
    assert scene.persona.api.patch(f"/api/v1/agents/{agent}", changes, format="json").status_code == 200
    finish(scene, buyers, run_id)
    first, second = asked(scene, question)
    assert first == second


def test_it_asks_without_what_was_said_after_the_question(
    scene: Scene, buyers: Buyers, agent: str, question: str
) -> None:
    """An answer's id is older than the answer: of one that was on its way, only the moment tells."""
    before = scene.ask(agent, f"Before: {uuid4().hex}?")
    die(scene, buyers, before)
    conversation = scene.run(before).conversation_id
    body = {"agent_id": agent, "message": question, "conversation_id": str(conversation)}
    run_id = UUID(scene.post("/chat", body)["run_id"])
    die(scene, buyers, run_id)
    finish(scene, buyers, before)
    finish(scene, buyers, UUID(scene.post("/chat", {**body, "message": "After?"})["run_id"]))
    finish(scene, buyers, run_id)

    with unit_of_work(scene.persona.ctx):
        late = Message.objects.get(run=before, author="assistant")
        assert late.pk < Message.objects.get(run=run_id, author="user").pk
    first, second = asked(scene, question)
    assert first == second
    assert [message["role"] for message in first["messages"]] == ["system", "user", "user"]


def test_it_fails_for_the_reason_for_which_its_call_was_refused(
    scene: Scene, buyers: Buyers, agent: str, question: str
) -> None:
    """Its worker died when the operation had been failed, and before the run was."""
    scene.fake.fail("400", match={"path": "chat", "contains": question})
    run_id = scene.ask(agent, question)
    assert deliver_here(scene, buyers, run_id, kill=["after fail", 0])["status"] == -signal.SIGKILL
    expire(scene)
    assert deliver_here(scene, buyers, run_id)["bought"] == "delivered"
    run = scene.run(run_id)
    assert (run.status, run.error_code, run.deliveries) == ("failed", "provider_refused", 2)
    assert "(400)" in run.error_detail
    assert len(asked(scene, question)) == 1
