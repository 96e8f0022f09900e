"""An answer that breaks off on its way: asked for again, or kept as far as it came, as its agent says."""

from dataclasses import replace
from typing import Any

import pytest
from django.db import OperationalError

from apps.agents import generation
from apps.agents.models import Message, Run
from apps.agents.types import Author
from apps.core.admin_pages import change_url
from apps.core.db import unit_of_work
from apps.ledger.models import Attempt, Entry
from apps.ledger.types import OperationKind
from tests.admin.test_site import staff
from tests.api.test_authentication import check_problem
from tests.fakes.process import FakeProvider
from tests.faults.scene import Scene, wait_until
from tests.gateway import streams
from tests.gateway.test_purchase import asked, context, fail
from tests.ledger.test_till import check_books
from tests.personas import Persona

SECONDS = 30
#: The fake's first event is the role, then it says a word an event: what has come after so many events.
BEGINNINGS = {5: "According to the documents ", 6: "According to the documents [1]: "}
BEFORE_THE_MARK, WITH_THE_MARK = BEGINNINGS


def agent(scene: Scene, policy: str | None, **rag: Any) -> str:
    llm = {"provider": scene.provider, "model": "fake-chat", "max_tokens": 200, "on_interrupted_stream": policy}
    return str(scene.post("/agents", {"slug": "helper", "name": "Helper", "llm": llm, "rag": rag})["id"])


def interrupt(scene: Scene, question: str, *, events: int = WITH_THE_MARK) -> None:
    """Let the next answer be counted and break off, after so many events."""
    scene.fake.fail("cut", events=events, match={"path": "chat", "contains": question})


def shown(scene: Scene, run: Run) -> dict[str, Any]:
    found: dict[str, Any] = scene.persona.api.get(f"/api/v1/runs/{run.pk}").json()
    return found


def calls(scene: Scene, question: str) -> list[dict[str, Any]]:
    """What was sent to the model."""
    arrivals = scene.fake.arrivals()
    return [each["body"] for each in arrivals if "chat" in each["path"] and question in str(each["body"])]


def attempts(scene: Scene) -> list[Attempt]:
    with unit_of_work(scene.persona.ctx):
        rows = Attempt.objects.filter(operation__operation=OperationKind.CHAT)
        return list(rows.select_related("operation").order_by("number"))


def entry(scene: Scene) -> Entry:
    """The one of the answer."""
    with unit_of_work(scene.persona.ctx):
        return Entry.objects.get(operation=OperationKind.CHAT)


def check_estimated(scene: Scene, *, brought: bool) -> None:
    """The entry stands at an estimate; its attempt is in doubt and keeps the rest of its hold."""
    [attempt], booked = attempts(scene), entry(scene)
    assert (booked.token_source, booked.attempt_id) == ("estimated", attempt.pk)
    assert (booked.input_tokens > 0, booked.output_tokens > 0) == (True, brought)
    assert (attempt.state, attempt.estimate_entry_id) == ("unknown", booked.pk)
    books = check_books(scene.persona.ctx)
    assert books.held_tokens == attempt.hold_tokens - booked.total_tokens > 0


@pytest.mark.parametrize("policy", ["retry", None])
def test_where_the_agent_does_not_say_otherwise_the_answer_is_asked_for_again(
    scene: Scene, question: str, policy: str | None
) -> None:
    scene.fake.fail("drop", match={"path": "chat", "contains": question})
    run = shown(scene, scene.wait_for_run(scene.ask(agent(scene, policy), question)))
    assert (run["status"], run["finish_reason"]) == ("succeeded", "stop")
    assert question in run["answer"]
    assert [attempt.state for attempt in attempts(scene)] == ["unknown", "settled"]
    assert (entry(scene).token_source, run["usage"]["token_source"]) == ("api", "api")


def test_what_came_is_the_answer_where_the_agent_says_so(scene: Scene, question: str) -> None:
    interrupt(scene, question)
    run = scene.wait_for_run(scene.ask(agent(scene, "partial"), question))
    found = shown(scene, run)
    assert (found["status"], found["answer"]) == ("succeeded", BEGINNINGS[WITH_THE_MARK])
    assert (found["finish_reason"], found["usage"]["token_source"]) == ("interrupted", "estimated")
    assert found["usage"]["output_tokens"] == entry(scene).output_tokens
    assert len(calls(scene, question)) == 1
    check_estimated(scene, brought=True)

    messages = scene.persona.api.get(f"/api/v1/conversations/{run.conversation_id}/messages").json()["results"]
    assert [(message["content"], message["finish_reason"]) for message in messages] == [
        (question, None),
        (BEGINNINGS[WITH_THE_MARK], "interrupted"),
    ]
    assert "interrupted" in staff("view_run").get(change_url("agents.run", run.pk)).content.decode()


def test_an_answer_that_comes_whole_is_as_it_would_be_otherwise(scene: Scene, question: str) -> None:
    run = shown(scene, scene.wait_for_run(scene.ask(agent(scene, "partial"), question)))
    assert (run["status"], run["finish_reason"], run["usage"]["token_source"]) == ("succeeded", "stop", "api")
    assert question in run["answer"]
    assert [call["stream"] for call in calls(scene, question)] == [True]
    assert [attempt.state for attempt in attempts(scene)] == ["settled"]


def test_of_an_answer_that_brought_nothing_nothing_can_be_kept(scene: Scene, question: str) -> None:
    interrupt(scene, question, events=1)
    run = scene.wait_for_run(scene.ask(agent(scene, "partial"), question))
    assert (run.status, run.finish_reason) == ("succeeded", "stop")
    assert [attempt.state for attempt in attempts(scene)] == ["unknown", "settled"]


def test_the_whole_answer_is_taken_where_the_provider_still_has_it(scene: Scene, question: str) -> None:
    scene = replace(scene, provider="askable")
    interrupt(scene, question)
    run = shown(scene, scene.wait_for_run(scene.ask(agent(scene, "partial"), question)))
    assert (run["status"], run["finish_reason"], run["usage"]["token_source"]) == ("succeeded", "stop", "api")
    assert question in run["answer"]
    assert len(calls(scene, question)) == 1
    assert [attempt.state for attempt in attempts(scene)] == ["settled"]


@pytest.mark.parametrize(("events", "cited"), [(BEFORE_THE_MARK, 0), (WITH_THE_MARK, 1)])
def test_a_partial_answer_cites_what_it_came_to_cite(scene: Scene, question: str, events: int, cited: int) -> None:
    collection = scene.collection()
    text = f"{question.replace('Who', 'The porter')[:-1]} in the drawer."
    assert scene.wait_for_document(scene.upload(collection, text)).status == "ready"
    interrupt(scene, question, events=events)
    run_id = scene.ask(agent(scene, "partial", collections=[collection], similarity_threshold=0.0), question)
    run = shown(scene, scene.wait_for_run(run_id))
    assert (run["answer"], run["finish_reason"]) == (BEGINNINGS[events], "interrupted")
    assert [citation["quote"] for citation in run["citations"]] == [text] * cited


def test_delivered_again_after_it_was_booked_a_partial_answer_is_given_again_without_a_call(
    scene: Scene, question: str
) -> None:
    interrupt(scene, question)
    run = scene.wait_for_run(scene.ask(agent(scene, "partial"), question))
    before = shown(scene, run)
    assert before["finish_reason"] == "interrupted"
    forget_the_answer(scene, run)
    again = shown(scene, scene.wait_for_run(run.pk))
    for name in ("status", "answer", "finish_reason", "citations", "usage"):
        assert again[name] == before[name]
    assert len(calls(scene, question)) == 1
    check_estimated(scene, brought=True)
    with unit_of_work(scene.persona.ctx):
        said = Message.objects.get(run=run, author=Author.ASSISTANT)
    assert (said.pk, said.content, said.finish_reason) == (run.answer_message_id, run.answer, "interrupted")


def forget_the_answer(scene: Scene, run: Run) -> None:
    """As if the worker had died between booking the answer and saying it; the run is delivered again."""
    with unit_of_work(scene.persona.ctx):
        Message.objects.filter(run=run, author=Author.ASSISTANT).delete()
        Run.objects.filter(pk=run.pk).update(
            status="generating", answer="", finish_reason="", citations=[], finished_at=None
        )
        run.publish()


def test_cancelled_while_its_answer_is_awaited_the_call_is_ended_and_booked_at_an_estimate(
    scene: Scene, question: str
) -> None:
    scene.fake.fail("hold", match={"path": "chat", "contains": question})
    run_id = scene.ask(agent(scene, "partial"), question)
    wait_until(lambda: bool(calls(scene, question)), seconds=SECONDS)
    scene.persona.api.post(f"/api/v1/runs/{run_id}/cancel")
    # Before the provider says anything.
    wait_until(lambda: attempts(scene)[0].state == "unknown", seconds=SECONDS)
    check_estimated(scene, brought=False)
    scene.fake.release()

    [attempt] = attempts(scene)
    assert (attempt.operation.state, len(calls(scene, question))) == ("cancelled", 1)
    run = shown(scene, scene.run(run_id))
    assert (run["status"], run["answer"], run["finish_reason"]) == ("cancelled", None, None)


def test_the_run_says_what_was_in_force_and_who_said_it(scene: Scene, question: str) -> None:
    helper = agent(scene, "partial")
    assert in_force(scene, helper, question) == ("partial", "agent")
    changes = {"llm": {"on_interrupted_stream": None}}
    changed = scene.persona.api.patch(f"/api/v1/agents/{helper}", changes, format="json").json()
    assert changed["llm"]["on_interrupted_stream"] is None
    assert in_force(scene, helper, question) == ("retry", "deployment")


def in_force(scene: Scene, agent: str, question: str) -> tuple[str, str]:
    config = shown(scene, scene.wait_for_run(scene.ask(agent, question)))["config"]
    return config["llm_config"]["on_interrupted_stream"], config["sources"]["llm_config.on_interrupted_stream"]


def test_an_agent_that_wants_something_else_is_refused(owner: Persona) -> None:
    body = {"slug": "helper", "name": "Helper", "llm": {"on_interrupted_stream": "keep"}}
    response = owner.api.post("/api/v1/agents", body, format="json")
    check_problem(response, 400, "invalid_request")
    [problem] = response.json()["errors"]
    assert problem["field"] == "llm.on_interrupted_stream"


# The looks at the run meanwhile


def test_while_an_answer_comes_a_no_is_good_for_as_long_as_its_asker_says(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, question, "cut", events=streams.EVENTS)
    looks: list[str] = []

    def cancelled() -> bool:
        looks.append(question)
        return False

    events = list(streams.stream(context(owner, retries=1), question, cancelled=cancelled, look_seconds=3600))
    assert streams.kinds(events) == ["Delta", "Reset", "Delta", "Done"]
    assert len(looks) == len(["before the first call", "before the second"])


def test_a_database_that_is_away_while_an_answer_comes_does_not_break_it_off(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    ctx = context(owner)
    assert ctx.llm_config is not None
    config = ctx.llm_config.model_copy(update={"provider": "fake", "on_interrupted_stream": "partial"})
    charge, request = asked(question)

    def away() -> bool:
        raise OperationalError

    answer = generation.buy(ctx.model_copy(update={"llm_config": config}), charge, lambda _: request, cancelled=away)
    assert (answer.finish_reason, answer.counts.source) == ("stop", "api")
