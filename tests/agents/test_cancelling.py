"""A run that is cancelled while it is worked on: what becomes of its calls, and who wins when it ends meanwhile."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from django.db import connections, transaction
from django_celery_results.models import TaskResult

from apps.agents import runs
from apps.agents.models import Conversation, Message, Run
from apps.core.db import execute, fetch_one, unit_of_work
from apps.ledger.models import Attempt, Operation
from apps.ledger.types import OperationKind
from tests.faults.scene import Scene, wait_until
from tests.personas import Persona

SECONDS = 30


@pytest.fixture
def agent(scene: Scene) -> str:
    return scene.agent(scene.collection())


def held(scene: Scene, agent: str, question: str, path: str) -> UUID:
    """A run whose call to the provider (``chat``, ``embeddings``) is there, and waits to be released."""
    scene.fake.fail("hold", match={"path": path, "contains": question})
    run_id = scene.ask(agent, question)
    wait_until(lambda: arrived(scene, question, path) == 1, seconds=SECONDS)
    return run_id


def arrived(scene: Scene, question: str, path: str) -> int:
    return sum(path in each["path"] and question in str(each["body"]) for each in scene.fake.arrivals())


def cancel(scene: Scene, run_id: UUID) -> dict[str, Any]:
    response = scene.persona.api.post(f"/api/v1/runs/{run_id}/cancel")
    assert response.status_code == 200, response.json()
    shown: dict[str, Any] = response.json()
    return shown


def operation(scene: Scene, kind: OperationKind) -> Operation:
    with unit_of_work(scene.persona.ctx):
        return Operation.objects.get(operation=kind)


def attempt(scene: Scene, kind: OperationKind) -> Attempt:
    with unit_of_work(scene.persona.ctx):
        return Attempt.objects.get(operation__operation=kind)


def said(scene: Scene, run_id: UUID) -> list[str]:
    with unit_of_work(scene.persona.ctx):
        return list(Message.objects.filter(run=run_id).order_by("id").values_list("author", flat=True))


def wait_until_worked_off(scene: Scene, run_id: UUID) -> None:
    """The worker has let go of the run, and does nothing more for it."""
    task_id = scene.run(run_id).task_id
    wait_until(lambda: TaskResult.objects.filter(task_id=task_id, status="SUCCESS").exists(), seconds=SECONDS)


def await_in_transaction(condition: Callable[[], bool]) -> None:
    """Wait without the sweeper, which has transactions of its own."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def waiting(*words: str) -> bool:
    """Whether another connection of the application waits for a row with a statement that has these words."""
    # What others do is looked at once in a transaction, unless it is told to look again.
    execute("SELECT pg_stat_clear_snapshot()")
    row = fetch_one(
        "SELECT count(*) AS waiting FROM pg_stat_activity"
        " WHERE cardinality(pg_blocking_pids(pid)) > 0 AND query LIKE ALL (%s)",
        [[f"%{word}%" for word in words]],
    )
    return bool(row and row["waiting"])


def test_a_call_on_its_way_is_ended_and_charged_at_an_estimate(scene: Scene, agent: str, question: str) -> None:
    run_id = held(scene, agent, question, "chat")
    assert cancel(scene, run_id)["status"] == "cancelled"
    wait_until_worked_off(scene, run_id)

    left = attempt(scene, OperationKind.CHAT)
    [entry] = [entry for entry in scene.entries() if entry.operation == "chat"]
    assert (entry.token_source, entry.attempt_id, entry.output_tokens) == ("estimated", left.pk, 0)
    # Nothing was answered: its prompt is what the provider may have counted. The rest stays set aside.
    assert 0 < entry.total_tokens == left.input_tokens
    assert (left.state, left.held_tokens) == ("unknown", left.hold_tokens - entry.total_tokens)
    assert (scene.run(run_id).status, operation(scene, OperationKind.CHAT).state) == ("cancelled", "cancelled")
    assert said(scene, run_id) == ["user"]
    scene.fake.release()


def test_cancelled_while_it_searches_it_asks_no_model(scene: Scene, agent: str, question: str) -> None:
    run_id = held(scene, agent, question, "embeddings")
    cancel(scene, run_id)
    scene.fake.release()
    wait_until_worked_off(scene, run_id)
    assert attempt(scene, OperationKind.QUERY).state == "settled"
    assert scene.run(run_id).passages is None
    assert arrived(scene, question, "chat") == 0
    assert [entry.operation for entry in scene.entries()] == ["query"]


def test_a_call_on_its_way_that_fails_after_the_cancel_is_not_made_again(
    scene: Scene, agent: str, question: str
) -> None:
    scene.fake.fail("500", match={"path": "chat", "contains": question}, times=None)
    run_id = held(scene, agent, question, "chat")
    cancel(scene, run_id)
    scene.fake.release()
    wait_until_worked_off(scene, run_id)
    assert arrived(scene, question, "chat") == 1
    assert operation(scene, OperationKind.CHAT).state == "cancelled"


def test_cancelled_just_before_its_call_it_makes_none(scene: Scene, agent: str, question: str) -> None:
    run_id = held(scene, agent, question, "embeddings")
    with conversations_unreadable():
        scene.fake.release()
        wait_until(lambda: scene.run(run_id).passages is not None, seconds=SECONDS)
        cancel(scene, run_id)
    wait_until_worked_off(scene, run_id)
    assert arrived(scene, question, "chat") == 0
    assert [entry.operation for entry in scene.entries()] == ["query"]


@contextmanager
def conversations_unreadable() -> Iterator[None]:
    """Let nobody read what was said before meanwhile, which is the last thing that a worker reads before it asks."""
    with transaction.atomic("owner"), connections["owner"].cursor() as cursor:
        cursor.execute("LOCK TABLE agents_message IN ACCESS EXCLUSIVE MODE")
        yield


def test_cancelled_before_it_is_tried_again_there_is_no_second_call(scene: Scene, agent: str, question: str) -> None:
    scene.fake.fail("429", retry_after_ms="3000", match={"path": "chat", "contains": question})
    run_id = scene.ask(agent, question)
    wait_until(lambda: [each.state for each in attempts(scene)] == ["void"], seconds=SECONDS)
    cancel(scene, run_id)
    assert operation(scene, OperationKind.CHAT).state == "cancelled"
    wait_until_worked_off(scene, run_id)
    assert arrived(scene, question, "chat") == 1
    assert [each.state for each in attempts(scene)] == ["void"]


def attempts(scene: Scene) -> list[Attempt]:
    with unit_of_work(scene.persona.ctx):
        return list(Attempt.objects.filter(operation__operation=OperationKind.CHAT))


def test_sent_again_with_its_key_a_cancel_is_answered_as_before(scene: Scene, agent: str, question: str) -> None:
    run_id = held(scene, agent, question, "chat")
    path, key = f"/api/v1/runs/{run_id}/cancel", {"Idempotency-Key": "cancel-1"}
    first, again = (scene.persona.api.post(path, headers=key) for _ in range(2))
    assert first.json() == again.json()
    assert again["Idempotent-Replayed"] == "true"
    scene.fake.release()
    wait_until_worked_off(scene, run_id)


# Who wins


def test_an_answer_that_is_settled_while_it_is_cancelled_is_charged_and_not_said(
    scene: Scene, agent: str, question: str
) -> None:
    run_id = held(scene, agent, question, "chat")
    with unit_of_work(scene.persona.ctx):
        runs.cancel_run(scene.persona.ctx, run_id)
        scene.fake.release()
        await_in_transaction(lambda: waiting("ledger_settle"))
    wait_until_worked_off(scene, run_id)
    assert (scene.run(run_id).status, attempt(scene, OperationKind.CHAT).state) == ("cancelled", "settled")
    assert said(scene, run_id) == ["user"]


def test_an_answer_that_was_settled_before_the_cancel_is_charged_and_not_said(
    scene: Scene, agent: str, question: str
) -> None:
    run_id = held(scene, agent, question, "chat")
    with unit_of_work(scene.persona.ctx):
        Run.objects.select_for_update().get(pk=run_id)
        scene.fake.release()
        await_in_transaction(lambda: waiting('UPDATE "agents_run"', "succeeded"))
        runs.cancel_run(scene.persona.ctx, run_id)
    wait_until_worked_off(scene, run_id)
    shown = scene.persona.api.get(f"/api/v1/runs/{run_id}").json()
    assert (shown["status"], shown["answer"]) == ("cancelled", None)
    assert said(scene, run_id) == ["user"]
    assert (operation(scene, OperationKind.CHAT).state, attempt(scene, OperationKind.CHAT).state) == ("done", "settled")
    assert sorted(entry.operation for entry in scene.entries()) == ["chat", "query"]


def test_a_run_that_is_finished_before_the_cancel_stays_as_it_is(scene: Scene, agent: str, question: str) -> None:
    run_id = held(scene, agent, question, "chat")
    with ThreadPoolExecutor(max_workers=1) as other, unit_of_work(scene.persona.ctx):
        # Keeps the worker from saying its answer, when it has changed the run's row and before it commits.
        Conversation.objects.select_for_update().get()
        scene.fake.release()
        await_in_transaction(lambda: waiting('INSERT INTO "agents_message"'))
        cancelling = other.submit(cancelled_elsewhere, scene, run_id)
        await_in_transaction(lambda: waiting('UPDATE "agents_run"', "cancelled"))
    assert cancelling.result()["status"] == "succeeded"
    assert cancelling.result()["answer"]
    assert said(scene, run_id) == ["user", "assistant"]
    assert operation(scene, OperationKind.CHAT).state == "done"


def cancelled_elsewhere(scene: Scene, run_id: UUID) -> dict[str, Any]:
    try:
        return cancel(scene, run_id)
    finally:
        connections.close_all()


def test_only_whose_it_is_cancels_a_run(scene: Scene, agent: str, question: str, stranger: Persona) -> None:
    run_id = held(scene, agent, question, "chat")
    assert stranger.api.post(f"/api/v1/runs/{run_id}/cancel").status_code == 404
    assert operation(scene, OperationKind.CHAT).state == "pending"
    scene.fake.release()
    assert scene.wait_for_run(run_id).status == "succeeded"
