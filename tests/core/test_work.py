"""The work list: who gets a row, who loses it, and what is published again."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from apps.agents.models import Conversation, Run
from apps.core import clock, delivery, leases, maintenance, work
from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work
from apps.core.errors import BusyError, NoobleError
from apps.core.ids import new_id
from apps.core.models import DeadLetter
from apps.core.work import WorkFailedError
from apps.gateway.errors import ProviderStillRunningError
from apps.ledger.errors import BudgetExceededError
from tests.personas import Persona


@pytest.fixture
def run(owner: Persona) -> Iterator[Run]:
    """A run whose message is lost, and that nobody is woken up for after the test."""
    with unit_of_work(owner.ctx):
        conversation = Conversation.objects.create(tenant_id=owner.tenant.pk, agent_id=new_id())
        run = Run.objects.create(
            tenant_id=owner.tenant.pk,
            owner_tenant_id=owner.tenant.pk,
            payer_tenant_id=owner.tenant.pk,
            agent_id=new_id(),
            agent_version=1,
            conversation=conversation,
            session_id="s",
            question="Why?",
            signed_context=owner.ctx.sign(),
            publications=1,
        )
    yield run
    with unit_of_work(owner.ctx):
        Run.objects.update(status="cancelled")


def claim(owner: Persona, run: Run) -> Run | None:
    with unit_of_work(owner.ctx):
        return work.claim(Run, run.pk, task_id="task-1")


def claimed(owner: Persona, run: Run) -> Run:
    item = claim(owner, run)
    assert item is not None
    return item


def change(owner: Persona, run: Run, **values: Any) -> None:
    with unit_of_work(owner.ctx):
        Run.objects.filter(pk=run.pk).update(**values)


def current(owner: Persona, run: Run) -> Run:
    with unit_of_work(owner.ctx):
        return Run.objects.get(pk=run.pk)


def test_of_many_deliveries_at_once_one_gets_the_row(owner: Persona, run: Run) -> None:
    def deliver(_: int) -> bool:
        try:
            return claim(owner, run) is not None
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        assert sum(pool.map(deliver, range(10))) == 1


def test_a_row_whose_lease_ran_out_is_taken_under_a_new_epoch(owner: Persona, run: Run) -> None:
    first = claimed(owner, run)
    assert claim(owner, run) is None
    change(owner, run, lease_expires_at=Now() - timedelta(seconds=1))
    second = claimed(owner, run)
    assert (first.lease_epoch, second.lease_epoch, second.deliveries) == (1, 2, 2)
    with unit_of_work(owner.ctx):
        assert not work.advance(first, status="succeeded")
        assert work.advance(second, status="succeeded")


@pytest.mark.parametrize(
    ("error", "seconds"), [(BusyError("x"), delivery.POSTPONE_SECONDS), (ProviderStillRunningError("x"), 60)]
)
def test_work_that_meets_somebody_at_it_waits_as_long_as_that_may_take(
    owner: Persona, run: Run, error: NoobleError, seconds: float
) -> None:
    def perform(*_: Any) -> None:
        raise error

    def give_up(*_: Any) -> None:
        raise AssertionError("it is not given up")

    assert delivery.drive(owner.ctx, Run, run.pk, task_id="t", perform=perform, give_up=give_up)
    waits = current(owner, run).available_at - clock.now()
    assert timedelta(seconds=seconds - 5) < waits <= timedelta(seconds=seconds)


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_a_finished_row_is_nobodys(owner: Persona, run: Run, status: str) -> None:
    change(owner, run, status=status)
    assert claim(owner, run) is None


def test_a_row_that_is_not_due_waits(owner: Persona, run: Run) -> None:
    change(owner, run, available_at=Now() + timedelta(minutes=1))
    assert claim(owner, run) is None


def test_a_lease_is_kept_while_its_holder_lives(owner: Persona, run: Run) -> None:
    item = claimed(owner, run)
    change(owner, run, lease_expires_at=Now() + timedelta(seconds=1))
    leases.Lease(ctx=owner.ctx, model=Run, row_id=item.pk, epoch=item.lease_epoch).renew()
    expires = current(owner, run).lease_expires_at
    assert expires is not None
    assert expires > clock.now() + timedelta(seconds=10)


def test_a_lease_that_was_taken_over_is_known_to_be_lost(owner: Persona, run: Run) -> None:
    item = claimed(owner, run)
    lease = leases.Lease(ctx=owner.ctx, model=Run, row_id=item.pk, epoch=item.lease_epoch)
    change(owner, run, lease_epoch=item.lease_epoch + 1)
    lease.renew()
    assert lease.lost.is_set()


@contextmanager
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What is handed to the broker; nobody is woken up."""
    sent: list[Any] = []
    monkeypatch.setattr("celery.app.task.Task.apply_async", lambda self, **message: sent.append(message["kwargs"]))
    yield sent


def is_published(run: Run, monkeypatch: pytest.MonkeyPatch) -> bool:
    with published(monkeypatch) as sent:
        maintenance.republish([Run])
    return {"run_id": str(run.pk)} in sent


def test_a_message_that_came_is_not_published_again(owner: Persona, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed(owner, run)
    assert not is_published(run, monkeypatch)


def test_a_message_that_did_not_come_is_published_again_ever_more_rarely(
    owner: Persona, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_published(run, monkeypatch)
    change(owner, run, published_at=Now() - timedelta(seconds=11))
    assert is_published(run, monkeypatch)
    change(owner, run, published_at=Now() - timedelta(seconds=11))
    assert not is_published(run, monkeypatch)
    change(owner, run, published_at=Now() - timedelta(seconds=21))
    assert is_published(run, monkeypatch)


def test_a_row_whose_worker_died_is_published_at_once(
    owner: Persona, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed(owner, run)
    change(owner, run, lease_expires_at=Now() - timedelta(seconds=1))
    assert is_published(run, monkeypatch)
    assert not is_published(run, monkeypatch)


def test_after_a_worker_died_a_lost_message_is_missed_as_soon_as_the_first(
    owner: Persona, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed(owner, run)
    change(owner, run, publications=6, lease_expires_at=Now() - timedelta(seconds=1))
    assert is_published(run, monkeypatch)
    change(owner, run, published_at=Now() - timedelta(seconds=11))
    assert is_published(run, monkeypatch)


def test_a_row_whose_context_is_not_ours_keeps_no_other_waiting(
    owner: Persona, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with unit_of_work(owner.ctx):
        damaged = Run.objects.get(pk=run.pk)
        damaged.pk, damaged.signed_context = new_id(), "damaged"
        damaged.save(force_insert=True)
        Run.objects.update(published_at=Now() - timedelta(minutes=1))
    assert is_published(run, monkeypatch)
    assert not is_published(damaged, monkeypatch)


def drive(owner: Persona, run: Run, error: NoobleError | None = None) -> list[str]:
    """Deliver the run once; what was given up and why."""
    given_up: list[str] = []

    def perform(ctx: ExecutionContext, item: Run) -> None:
        assert item.lease_epoch > 0
        if error:
            raise error

    def give_up(ctx: ExecutionContext, item: Run, reason: NoobleError) -> None:
        given_up.append(reason.code)
        with unit_of_work(ctx):
            work.advance(item, status="failed")
            work.bury(item, reason)

    delivery.drive(owner.ctx, Run, run.pk, task_id="t", perform=perform, give_up=give_up)
    return given_up


def test_an_error_that_stays_is_given_up(owner: Persona, run: Run) -> None:
    assert drive(owner, run, BudgetExceededError("Too much.")) == ["budget_exceeded"]
    assert current(owner, run).status == "failed"


def test_work_that_somebody_else_is_at_is_put_off(owner: Persona, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert drive(owner, run, BusyError()) == []
    waiting = current(owner, run)
    assert (waiting.status, waiting.lease_expires_at) == ("queued", None)
    assert waiting.available_at > clock.now()
    assert not is_published(run, monkeypatch)
    change(owner, run, available_at=Now() - timedelta(seconds=1))
    assert is_published(run, monkeypatch)


def test_poison_is_given_up_and_buried(owner: Persona, run: Run) -> None:
    change(owner, run, deliveries=delivery.MAX_DELIVERIES)
    assert drive(owner, run) == [WorkFailedError.code]
    with unit_of_work(owner.ctx):
        letter = DeadLetter.objects.get()
    assert (letter.row_id, letter.task_name) == (run.pk, "query.answer")


def test_a_defect_leaves_the_row_to_be_driven_again(owner: Persona, run: Run) -> None:
    def perform(ctx: ExecutionContext, item: Run) -> None:
        raise KeyError("a defect")

    with pytest.raises(KeyError):
        delivery.drive(owner.ctx, Run, run.pk, task_id="t", perform=perform, give_up=lambda *_: None)
    assert current(owner, run).status == "queued"


def test_of_sweeps_at_once_one_publishes(owner: Persona, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    change(owner, run, published_at=Now() - timedelta(seconds=11))

    def sweep(_: int) -> None:
        maintenance.republish([Run])
        connection.close()

    with published(monkeypatch) as sent, ThreadPoolExecutor(8) as pool:
        list(pool.map(sweep, range(8)))
    assert sent.count({"run_id": str(run.pk)}) == 1


def test_two_beats_have_one_effect_in_each_period(database: None) -> None:
    name = f"test-{new_id()}"
    assert [maintenance.claim_slot(name, seconds=3600) for _ in range(3)] == [True, False, False]
