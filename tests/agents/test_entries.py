"""What the ledger says of a run beside the numbers: the message that came of it, and how it was answered."""

import os
import signal
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from apps.agents import runs
from apps.agents.models import Message, Run
from apps.agents.types import Author
from apps.core.db import unit_of_work
from apps.core.ids import new_id
from apps.ledger import pricing
from apps.ledger.models import Entry
from apps.ledger.price_list import BEGINNING, FREE
from apps.ledger.types import OperationKind
from nooble.processes import Supervisor
from tests.faults.scene import Scene, wait_until


def answer_of(scene: Scene, run_id: UUID) -> Message:
    with unit_of_work(scene.persona.ctx):
        return Message.objects.get(run=run_id, author=Author.ASSISTANT)


def shown(scene: Scene, operation: OperationKind) -> dict[str, Any]:
    """The one entry of this kind, as the tenant reads it."""
    entries = scene.persona.api.get("/api/v1/usage/entries").json()["results"]
    [entry] = [entry for entry in entries if entry["operation"] == operation]
    return dict(entry["metadata"])


def test_the_entry_of_an_answer_names_its_message_and_how_it_was_found(scene: Scene, question: str) -> None:
    run = scene.wait_for_run(scene.ask(scene.agent(scene.collection()), question))
    facts = shown(scene, OperationKind.CHAT)
    assert facts["message_id"] == str(answer_of(scene, run.pk).pk)
    assert (facts["query_type"], facts["strategy"], facts["passages"]) == ("rag", "hybrid", 0)
    found = shown(scene, OperationKind.QUERY)
    assert (found["query_type"], found["strategy"]) == ("rag", "hybrid")
    assert "message_id" not in found


def talker(scene: Scene) -> str:
    """An agent that searches nothing."""
    llm = {"provider": "fake", "model": "fake-chat", "max_tokens": 200}
    return str(scene.post("/agents", {"slug": "talker", "name": "Talker", "llm": llm})["id"])


def cost_shown(scene: Scene, run: Run) -> str | None:
    shown: str | None = scene.persona.api.get(f"/api/v1/runs/{run.pk}").json()["usage"]["cost_usd"]
    return shown


def test_a_run_says_what_its_entries_cost(scene: Scene, question: str) -> None:
    # So little that Decimal would write it with an exponent.
    rates = replace(FREE, fresh_input_usd=Decimal("0.0003"))
    pricing.set_price("fake", "fake-chat", rates, actor="ada", starts_at=BEGINNING, tenant=scene.persona.tenant.pk)
    run = scene.wait_for_run(scene.ask(talker(scene), question))
    [entry] = scene.entries()
    expected = (Decimal(entry.fresh_input_tokens) * 3 / 10**10).quantize(Decimal("1e-10"))
    assert expected
    assert cost_shown(scene, run) == f"{expected:f}"


def test_a_run_that_cost_nothing_says_so(scene: Scene, question: str) -> None:
    pricing.set_price("fake", "fake-chat", FREE, actor="ada", starts_at=BEGINNING, tenant=scene.persona.tenant.pk)
    run = scene.wait_for_run(scene.ask(talker(scene), question))
    assert cost_shown(scene, run) == "0.0000000000"


def test_a_run_of_a_model_without_a_price_costs_nothing_known(scene: Scene, question: str) -> None:
    run = scene.wait_for_run(scene.ask(talker(scene), question))
    assert cost_shown(scene, run) is None


def test_an_answer_without_a_search_has_no_strategy(scene: Scene, question: str) -> None:
    run = scene.wait_for_run(scene.ask(talker(scene), question))
    facts = shown(scene, OperationKind.CHAT)
    assert facts["message_id"] == str(answer_of(scene, run.pk).pk)
    assert (facts["query_type"], facts["passages"]) == ("chat", 0)
    assert "strategy" not in facts


def test_delivered_again_the_answer_has_the_message_that_was_named_before(
    scene: Scene, worker: Supervisor, question: str
) -> None:
    scene.fake.fail("stall", seconds=3, match={"path": "chat", "contains": question})
    run_id = scene.ask(scene.agent(scene.collection()), question)
    wait_until(lambda: any("chat" in each["path"] for each in scene.fake.arrivals()), seconds=30)
    decided = scene.run(run_id).answer_message_id
    os.kill(worker.process_ids()["worker"], signal.SIGKILL)
    run = scene.wait_for_run(run_id)
    assert (run.status, run.deliveries) == ("succeeded", 2)
    with unit_of_work(scene.persona.ctx):
        entry = Entry.objects.get(operation=OperationKind.CHAT)
    assert answer_of(scene, run_id).pk == decided == UUID(entry.metadata["message_id"])


def test_an_answer_that_came_after_the_question_is_not_what_was_said_before_it(scene: Scene, question: str) -> None:
    """Its id is older than the question, and no delivery of the question may depend on whether it is there yet."""
    agent = scene.agent(scene.collection())
    first = scene.wait_for_run(scene.ask(agent, f"First, {question}"))
    unanswered = cancelled(scene, first)
    decided = new_id()

    scene.fake.fail("hold", match={"path": "embeddings", "contains": f"Second, {question}"})
    body = {"agent_id": agent, "message": f"Second, {question}", "conversation_id": str(first.conversation_id)}
    second = UUID(scene.post("/chat", body)["run_id"])
    wait_until(lambda: _has_come(scene, "embeddings", f"Second, {question}"), seconds=30)
    say(unanswered, decided, "This was said too late.")
    scene.fake.release()
    assert scene.wait_for_run(second).status == "succeeded"

    [sent] = [str(each["body"]) for each in scene.fake.arrivals() if _is(each, "chat", f"Second, {question}")]
    assert first.answer in sent
    assert "too late" not in sent


def cancelled(scene: Scene, run: Run) -> Run:
    """Another run of the conversation, that nothing will be said for."""
    with unit_of_work(scene.persona.ctx):
        ctx = run.context.model_copy(update={"conversation_id": run.conversation_id})
        other = runs.start_run(ctx, "Never mind.")
        return runs.cancel_run(ctx, other.pk)


def say(run: Run, message_id: UUID, text: str) -> None:
    with unit_of_work(run.context):
        Message.objects.create(
            id=message_id,
            tenant_id=run.tenant_id,
            conversation_id=run.conversation_id,
            run=run,
            author=Author.ASSISTANT,
            content=text,
        )


def _has_come(scene: Scene, path: str, question: str) -> bool:
    return any(_is(each, path, question) for each in scene.fake.arrivals())


def _is(arrival: dict[str, Any], path: str, question: str) -> bool:
    return path in arrival["path"] and question in str(arrival["body"])
