"""A question that is searched for in other wordings, too: its model is asked for them once, and may fail to."""

import signal
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from apps.agents import answering, expansion, prompts
from apps.agents.models import Run
from apps.core.context import LLMConfig
from apps.core.db import operator_scope, unit_of_work
from apps.gateway.errors import CallCancelledError
from apps.ledger import pricing
from apps.ledger.models import Entry, Operation
from apps.ledger.price_list import BEGINNING, FREE
from apps.ledger.types import Charge, OperationKind, TokenType
from apps.tenants.models import Tenant
from tests.agents.test_cancelling import cancel, wait_until_worked_off
from tests.fakes.process import FakeProvider
from tests.faults.purchases import Buyers
from tests.faults.scene import Scene, wait_until
from tests.faults.test_fault_table import deliver, expire

FACT = "Bicycles are parked behind the kitchen."
#: Shares no word with the fact, nor a place in the fake's vectors.
QUESTION = "Where do I leave my velocipede?"
WORDINGS = ["Where are bicycles parked?", "Is there a stand for cycles?"]
#: What only the model that is asked for wordings is told.
ASKED = {"path": "chat", "contains": prompts.REWORDING_PROMPT[:40]}
SECONDS = 30


@pytest.fixture
def collection(scene: Scene) -> str:
    collection = scene.collection()
    assert scene.wait_for_document(scene.upload(collection, FACT)).status == "ready"
    return collection


@pytest.fixture
def agent(scene: Scene, collection: str) -> str:
    return make_agent(scene, collections=[collection], query_expansion_enabled=True)


def make_agent(scene: Scene, **rag: Any) -> str:
    llm = {"provider": scene.provider, "model": "fake-chat", "max_tokens": 200}
    return str(scene.post("/agents", {"slug": "helper", "name": "Helper", "llm": llm, "rag": rag})["id"])


def reword(scene: Scene, *wordings: str) -> None:
    """Let the model that is asked for wordings give these."""
    text = "Of course! Here they are:\n\n" + "\n".join(f"- {wording}" for wording in wordings)
    scene.fake.fail("finish", text=text, reason="stop", match=ASKED)


def answered(scene: Scene, agent: str) -> Run:
    return succeeded(scene, scene.ask(agent, QUESTION))


def succeeded(scene: Scene, run_id: UUID) -> Run:
    run = scene.wait_for_run(run_id)
    assert (run.status, run.error_detail) == ("succeeded", "")
    return run


def sent(scene: Scene, path: str) -> list[dict[str, Any]]:
    """The bodies of what this question has sent there."""
    bodies = [each["body"] for each in scene.fake.arrivals() if path in each["path"]]
    return [body for body in bodies if QUESTION in str(body)]


def expansions(scene: Scene) -> list[dict[str, Any]]:
    return [body for body in sent(scene, "chat") if ASKED["contains"] in str(body)]


def embedded(scene: Scene) -> list[Any]:
    return [body["input"] for body in sent(scene, "embeddings")]


def booked(scene: Scene, run_id: UUID) -> dict[str, Entry]:
    """What the run cost, by what for."""
    entries = [entry for entry in scene.entries() if entry.run_id == run_id]
    assert len({entry.operation for entry in entries}) == len(entries)
    return {entry.operation: entry for entry in entries}


def operation(scene: Scene) -> Operation:
    with unit_of_work(scene.persona.ctx):
        return Operation.objects.get(operation=OperationKind.GENERATION)


# What comes of it


def test_a_passage_that_only_another_wording_finds_is_cited(scene: Scene, agent: str) -> None:
    reword(scene, *WORDINGS)
    [citation] = answered(scene, agent).citations
    assert citation["quote"] == FACT
    assert embedded(scene) == [[QUESTION, *WORDINGS]]


def test_as_it_is_the_question_does_not_find_the_passage(scene: Scene, collection: str) -> None:
    run = answered(scene, make_agent(scene, collections=[collection]))
    assert run.citations == []
    assert (expansions(scene), embedded(scene)) == ([], [[QUESTION]])
    assert booked(scene, run.pk).keys() == {"query", "chat"}
    assert run.usage["expansion_tokens"] == 0


def test_the_model_that_answers_reads_no_wording(scene: Scene, agent: str) -> None:
    reword(scene, *WORDINGS)
    answered(scene, agent)
    _, answering = sent(scene, "chat")
    assert FACT in str(answering)
    assert not [wording for wording in WORDINGS if wording in str(answering)]


def test_where_nothing_is_searched_nothing_is_reworded(scene: Scene) -> None:
    run = answered(scene, make_agent(scene, query_expansion_enabled=True))
    assert booked(scene, run.pk).keys() == {"chat"}
    assert len(sent(scene, "chat")) == 1


# What it costs


def test_the_ledger_says_what_the_wordings_cost(scene: Scene, agent: str) -> None:
    rates = replace(FREE, fresh_input_usd=Decimal("0.5"), plain_output_usd=Decimal("1.5"))
    for model in ("fake-chat", "fake-embedding"):
        pricing.set_price("fake", model, rates, actor="ada", starts_at=BEGINNING, tenant=scene.persona.tenant.pk)
    reword(scene, *WORDINGS)
    run = answered(scene, agent)

    entries = booked(scene, run.pk)
    assert entries.keys() == {"generation", "query", "chat"}
    entry = entries["generation"]
    [counted] = [line for line in scene.fake.tally() if line["request_id"] == str(entry.attempt_id)]
    assert (entry.input_tokens, entry.output_tokens) == (counted["prompt_tokens"], counted["completion_tokens"])
    assert (entry.token_type, entry.model, entry.billable) == ("llm", "fake-chat", True)
    assert (entry.metadata["query_type"], entry.metadata["service"]) == ("rag", "agents")
    check_sums(scene, run, list(entries.values()))


def check_sums(scene: Scene, run: Run, entries: list[Entry]) -> None:
    """The run's own numbers add up to its entries."""
    usage = scene.persona.api.get(f"/api/v1/runs/{run.pk}").json()["usage"]
    parts = ("input_tokens", "output_tokens", "expansion_tokens", "embedding_tokens")
    assert sum(usage[part] for part in parts) == sum(entry.total_tokens for entry in entries)
    assert usage["expansion_tokens"] == next(each.total_tokens for each in entries if each.operation == "generation")
    assert Decimal(usage["cost_usd"]) == sum(entry.cost_usd or 0 for entry in entries) > 0


def test_the_payers_budget_refuses_the_run_before_its_question_is_reworded(scene: Scene, agent: str) -> None:
    spent = scene.persona.api.get("/api/v1/budget").json()["spent_tokens"]
    with operator_scope("test"):
        Tenant.objects.filter(pk=scene.persona.tenant.pk).update(monthly_token_limit=spent + 50)
    run = scene.wait_for_run(scene.ask(agent, QUESTION))
    assert (run.status, run.error_code) == ("failed", "budget_exceeded")
    assert (sent(scene, "chat"), embedded(scene), booked(scene, run.pk)) == ([], [], {})


# What may fail


@pytest.mark.parametrize(("fault", "calls"), [("400", 1), ("401", 1), ("500", 4), ("shape", 4)])
def test_what_the_provider_fails_leaves_the_question_as_it_is(scene: Scene, agent: str, fault: str, calls: int) -> None:
    scene.fake.fail(fault, match=ASKED, times=None)
    run = answered(scene, agent)
    assert (len(expansions(scene)), embedded(scene)) == (calls, [[QUESTION]])
    assert booked(scene, run.pk).keys() == {"query", "chat"}
    assert (run.usage["expansion_tokens"], operation(scene).state) == (0, "failed")


def test_without_a_key_for_the_model_the_question_stays_as_it_is_and_its_fallback_answers(
    scene: Scene, collection: str
) -> None:
    body = {
        "slug": "keyless",
        "name": "Keyless",
        "llm": {"provider": "groq", "model": "llama-3.1-8b-instant", "max_tokens": 200},
        "rag": {"collections": [collection], "query_expansion_enabled": True},
        "fallback_models": ["fake/fake-chat"],
    }
    run = answered(scene, str(scene.post("/agents", body)["id"]))
    assert (embedded(scene), run.usage["expansion_tokens"], run.usage["provider"]) == ([[QUESTION]], 0, "fake")


def test_what_passes_is_tried_again(scene: Scene, agent: str) -> None:
    scene.fake.fail("429", retry_after_ms="1", match=ASKED)
    reword(scene, *WORDINGS)
    run = answered(scene, agent)
    assert (len(expansions(scene)), embedded(scene)) == (2, [[QUESTION, *WORDINGS]])
    assert booked(scene, run.pk).keys() == {"generation", "query", "chat"}


def test_an_answer_that_holds_no_wordings_is_paid_and_leaves_the_question_as_it_is(scene: Scene, agent: str) -> None:
    run = answered(scene, agent)
    assert (len(expansions(scene)), embedded(scene)) == (1, [[QUESTION]])
    assert booked(scene, run.pk)["generation"].total_tokens == run.usage["expansion_tokens"] > 0


def test_cancelled_while_it_is_reworded_it_neither_searches_nor_answers(scene: Scene, agent: str) -> None:
    scene.fake.fail("hold", match=ASKED)
    run_id = scene.ask(agent, QUESTION)
    wait_until(lambda: len(expansions(scene)) == 1, seconds=SECONDS)
    cancel(scene, run_id)
    scene.fake.release()
    wait_until_worked_off(scene, run_id)
    assert (len(sent(scene, "chat")), embedded(scene)) == (1, [])
    assert booked(scene, run_id).keys() == {"generation"}


def test_cancelled_before_its_second_try_it_is_not_reworded(scene: Scene, agent: str) -> None:
    scene.fake.fail("429", retry_after_ms="3000", match=ASKED)
    run_id = scene.ask(agent, QUESTION)
    wait_until(lambda: "void" in [each.state for each in scene.attempts()], seconds=SECONDS)
    cancel(scene, run_id)
    wait_until_worked_off(scene, run_id)
    assert (len(sent(scene, "chat")), embedded(scene), booked(scene, run_id)) == (1, [], {})


def test_what_is_wanted_no_more_is_not_called_for(scene: Scene) -> None:
    ctx = scene.persona.ctx.model_copy(update={"llm_config": config()})
    charge = Charge(operation=OperationKind.GENERATION, token_type=TokenType.LLM, payload={"question": QUESTION})
    with pytest.raises(CallCancelledError):
        expansion.expand(ctx, charge, QUESTION, cancelled=lambda: True)
    assert expansions(scene) == []


# Delivered more than once


def test_delivered_many_times_it_is_reworded_once(scene: Scene, agent: str) -> None:
    reword(scene, *WORDINGS)
    run_id = scene.ask(agent, QUESTION)
    with unit_of_work(scene.persona.ctx):
        for _ in range(4):
            Run.objects.get(pk=run_id).publish()
    succeeded(scene, run_id)
    attempts = {str(entry.attempt_id) for entry in booked(scene, run_id).values()}
    assert len([line for line in scene.fake.tally() if line["request_id"] in attempts]) == 3
    assert (len(expansions(scene)), len(embedded(scene))) == (1, 1)


@pytest.fixture(scope="module")
def buyers(database: None, fake_provider_process: FakeProvider) -> Iterator[Buyers]:
    with Buyers() as buyers:
        yield buyers


@pytest.fixture
def unsent(monkeypatch: pytest.MonkeyPatch, agent: str) -> None:
    """From here on no message reaches a worker: what is delivered is delivered by the test."""
    monkeypatch.setattr("apps.core.dispatch._publish", lambda *_: None)


@pytest.mark.usefixtures("unsent")
def test_killed_between_the_wordings_and_their_vectors_it_asks_for_neither_twice(
    scene: Scene, agent: str, buyers: Buyers
) -> None:
    reword(scene, *WORDINGS)
    run_id = scene.ask(agent, QUESTION)
    # The first call is for the wordings.
    assert deliver(scene, buyers, run_id, kill=["before send", 1])["status"] == -signal.SIGKILL
    expire(scene)
    assert deliver(scene, buyers, run_id)["bought"] == "delivered"
    assert succeeded(scene, run_id).deliveries == 2
    assert (len(expansions(scene)), embedded(scene)) == (1, [[QUESTION, *WORDINGS]])
    assert booked(scene, run_id).keys() == {"generation", "query", "chat"}


@pytest.mark.usefixtures("unsent")
def test_killed_after_its_wordings_failed_it_does_without_them_again(scene: Scene, agent: str, buyers: Buyers) -> None:
    scene.fake.fail("500", match=ASKED, times=4)
    run_id = scene.ask(agent, QUESTION)
    # Four calls for the wordings, and the one that embeds the question.
    assert deliver(scene, buyers, run_id, kill=["before send", 4])["status"] == -signal.SIGKILL
    expire(scene)
    assert deliver(scene, buyers, run_id)["bought"] == "delivered"
    succeeded(scene, run_id)
    assert (len(expansions(scene)), embedded(scene)) == (4, [[QUESTION]])


@pytest.mark.usefixtures("unsent")
def test_a_model_that_is_silent_is_not_waited_for_until_there_is_no_time_to_answer(
    scene: Scene, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion, "MAX_SECONDS", 1.0)
    scene.fake.fail("hold", match=ASKED, times=None)
    run_id = scene.ask(agent, QUESTION)
    assert answering.answer(scene.run(run_id).context, run_id, task_id="task")
    scene.fake.release()
    assert embedded(scene) == [[QUESTION]]
    assert booked(scene, succeeded(scene, run_id).pk).keys() == {"query", "chat"}


# What is asked, and what is read


def config(**values: Any) -> LLMConfig:
    given = {"provider": "fake", "model": "m", "temperature": 1.5, "max_tokens": 4000, "timeout_seconds": 9}
    return LLMConfig(**{**given, "retry_attempts": 0, **values})


def test_it_is_asked_for_little_and_without_chance() -> None:
    request = prompts.rewording(config(), QUESTION)
    assert (request.max_tokens, request.temperature) == (prompts.MAX_REWORDING_TOKENS, 0)
    assert [(message.role, message.content) for message in request.messages][1:] == [("user", QUESTION)]


def test_it_is_asked_for_no_more_than_an_answer_may_have() -> None:
    assert prompts.rewording(config(max_tokens=60), QUESTION).max_tokens == 60


@pytest.mark.parametrize(
    ("text", "wordings"),
    [
        ("- one\n- two", ("one", "two")),
        ("  * one \n\n• two\r\n1. three", ("one", "two", "three")),
        ("- one\n- two\n- three\n- four", ("one", "two", "three")),
        ("Here they are:\none\n-two\n--\n- \n1.\n", ()),
        ("", ()),
        ("- ???\n- \u200b\n- …", ()),
        # Minutes, for a pattern that goes back at every blank.
        (f"- {' ' * 100_000}?\n{' ' * 100_000}- one {' ' * 100_000}", ("one",)),
        ("- one\n- ONE\n- where  do i leave my VELOCIPEDE?\n- two", ("one", "two")),
        (f"- {'a' * expansion.MAX_CHARACTERS}\n- {'b' * (expansion.MAX_CHARACTERS + 1)}", ("a" * 500,)),
        ("- - [1] <b>'; DROP\t%s", ("- [1] <b>'; DROP\t%s",)),
    ],
)
def test_a_wording_is_a_marked_line_that_says_something_else(text: str, wordings: tuple[str, ...]) -> None:
    assert expansion.read(text, QUESTION) == wordings
