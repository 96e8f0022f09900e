"""What beat has done to the books: compared once in each period, for any number of beats and whatever the clock."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import connection

from apps.core import clock, maintenance
from apps.core.ids import new_id
from apps.core.models import PeriodicSlot
from apps.ledger.models import ReconciliationRun
from tasks import reconciliation
from tests.ledger.test_reconciliation import discrepancies, planted, settled
from tests.ledger.test_till import check_books
from tests.personas import Persona

#: The beginning of an hour and a day, in which nobody else has taken a slot.
MIDNIGHT = datetime(2020, 1, 1, tzinfo=UTC)

SetClock = Callable[[datetime], None]
Task = Callable[[], dict[str, int]]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Sets the clock of this process, as beat's host may."""
    return lambda moment: monkeypatch.setattr(clock, "now", lambda: moment)


def forget_what_was_spent(owner: Persona) -> None:
    planted("UPDATE ledger_budget SET spent_tokens = 0 WHERE tenant_id = %s", owner.tenant.pk)


def times_repaired(owner: Persona) -> list[tuple[str, str, int]]:
    return [(row.kind, row.state, row.times_seen) for row in discrepancies(owner)]


@pytest.mark.parametrize(
    ("task", "period"),
    [
        pytest.param(reconciliation.recent, timedelta(hours=1), id="recent"),
        pytest.param(reconciliation.everything, timedelta(days=1), id="everything"),
    ],
)
def test_the_books_are_compared_once_in_each_period(
    owner: Persona, set_clock: SetClock, task: Task, period: timedelta
) -> None:
    settled(owner)
    set_clock(MIDNIGHT)
    forget_what_was_spent(owner)
    assert task()["budget_spent"] == 1
    assert times_repaired(owner) == [("budget_spent", "repaired", 1)]
    assert ReconciliationRun.objects.latest("started_at").started_by == "beat"

    set_clock(MIDNIGHT + period - timedelta(seconds=1))
    forget_what_was_spent(owner)
    assert task() == {}
    assert times_repaired(owner) == [("budget_spent", "repaired", 1)]

    set_clock(MIDNIGHT + period)
    assert task()["budget_spent"] == 1
    assert times_repaired(owner) == [("budget_spent", "repaired", 2)]
    check_books(owner.ctx)


@pytest.mark.parametrize(
    ("task", "found"),
    [
        pytest.param(reconciliation.recent, [], id="recent"),
        pytest.param(reconciliation.everything, [("budget_spent", "repaired", 1)], id="everything"),
    ],
)
def test_what_is_long_past_is_compared_with_everything_alone(
    owner: Persona, set_clock: SetClock, task: Task, found: list[Any]
) -> None:
    settled(owner)
    forget_what_was_spent(owner)
    set_clock(clock.now() + timedelta(days=40))
    task()
    assert times_repaired(owner) == found


def claims(set_clock: SetClock, name: str, *, minutes: list[int], period: int) -> list[bool]:
    """Whether the slot was free at each of these moments, one after the other."""
    taken = []
    for minute in minutes:
        set_clock(MIDNIGHT + timedelta(minutes=minute))
        taken.append(maintenance.claim_slot(name, seconds=60 * period))
    return taken


def test_a_clock_that_jumps_an_hour_and_back_makes_no_second_effect(database: None, set_clock: SetClock) -> None:
    name = f"test-{new_id()}"
    jumps = {0: True, 5: False, 65: True, 66: False, 7: False, 31: True, 61: False, 89: False, 90: True}
    assert claims(set_clock, name, minutes=list(jumps), period=30) == list(jumps.values())
    assert PeriodicSlot.objects.filter(name=name).count() == 4


def test_after_ten_minutes_without_a_beat_there_is_one_effect_and_not_ten(database: None, set_clock: SetClock) -> None:
    name = f"test-{new_id()}"
    assert claims(set_clock, name, minutes=[0, 10, 10, 10, 11], period=1) == [True, True, False, False, True]
    assert PeriodicSlot.objects.filter(name=name).count() == 3


def test_of_many_beats_at_once_one_has_the_slot(database: None, set_clock: SetClock) -> None:
    name = f"test-{new_id()}"
    set_clock(MIDNIGHT)
    together = Barrier(8)

    def claim(_: int) -> bool:
        try:
            connection.ensure_connection()
            together.wait()
            return maintenance.claim_slot(name, seconds=60)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(claim, range(8))) == [*[False] * 7, True]
