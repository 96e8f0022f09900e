"""Reconciliation beside everybody's work: it keeps nobody waiting, and of two a difference is repaired by one."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Event
from typing import Any

from django.db import connection, connections, transaction

from apps.core.db import execute
from apps.ledger.models import ReconciliationRun
from apps.ledger.reconciliation import reconcile
from tests.ledger.test_reconciliation import SUMS, discrepancies, planted, settled
from tests.ledger.test_till import COUNTS, check_books
from tests.personas import Persona

#: One difference of each sum, none of which follows from another.
PLANTED = (
    "a day's row was raised",
    "a month's row was lowered",
    "the budget forgot what was spent",
    "the budget holds what nobody holds",
)
REPAIRED = [
    ("budget_held", "repaired", 1, 500),
    ("budget_spent", "repaired", 1, 50),
    ("daily_statistics", "repaired", 1, -7),
    ("monthly_statistics", "repaired", 1, 7),
]
WAITING = """
    SELECT count(DISTINCT pid) FROM pg_locks
     WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def tamper(owner: Persona) -> None:
    settled(owner)
    for name in PLANTED:
        planted(SUMS[name].statement, owner.tenant.pk)


@contextmanager
def two_stopped_after_their_check(pool: ThreadPoolExecutor) -> Iterator[list[Future[ReconciliationRun]]]:
    """Two reconciliations: one has compared and cannot write down what it found yet, the other waits for it."""
    with transaction.atomic("owner"), connections["owner"].cursor() as cursor:
        cursor.execute("LOCK TABLE ledger_discrepancy IN SHARE MODE")
        runs = [pool.submit(reconciled) for _ in range(2)]
        while waiting(cursor) < 2:
            assert not any(run.done() for run in runs)
            time.sleep(0.01)
        yield runs


def waiting(cursor: Any) -> int:
    cursor.execute(WAITING)
    [count] = cursor.fetchone()
    return int(count)


def reconciled() -> ReconciliationRun:
    try:
        return reconcile(started_by="test")
    finally:
        connection.close()


@contextmanager
def waiting_for_nobody() -> Iterator[None]:
    """A statement that finds a row or table locked fails."""
    execute("SET lock_timeout = '1s'")
    try:
        yield
    finally:
        execute("RESET lock_timeout")


def found(owner: Persona) -> list[tuple[str, str, int, int]]:
    return [(row.kind, row.state, row.times_seen, row.amount_tokens) for row in discrepancies(owner)]


def test_a_reconciliation_on_its_way_keeps_no_call_waiting(owner: Persona) -> None:
    tamper(owner)
    with ThreadPoolExecutor(2) as pool:
        with two_stopped_after_their_check(pool) as runs:
            with waiting_for_nobody():
                settled(owner)
            assert not any(run.done() for run in runs)
        assert [run.result().error for run in runs] == ["", ""]
    # What was settled between the comparison and the repair is in the sums, too.
    assert found(owner) == REPAIRED
    assert check_books(owner.ctx).spent_tokens == 2 * COUNTS.total_tokens


def settle_until(owner: Persona, ended: Event) -> int:
    """Hold and settle, once at least; returns how often."""
    count = 0
    try:
        while count == 0 or not ended.is_set():
            settled(owner)
            count += 1
        return count
    finally:
        connection.close()


def test_of_two_reconciliations_under_load_one_repairs_each_difference(owner: Persona) -> None:
    tamper(owner)
    ended = Event()
    with ThreadPoolExecutor(6) as pool:
        with two_stopped_after_their_check(pool) as runs:
            settlers = [pool.submit(settle_until, owner, ended) for _ in range(4)]
        wait(runs)
        ended.set()
        calls = 1 + sum(settler.result() for settler in settlers)
        assert [run.result().error for run in runs] == ["", ""]
    assert found(owner) == REPAIRED
    books = check_books(owner.ctx)
    assert (books.entries, books.spent_tokens, books.held_tokens) == (calls, calls * COUNTS.total_tokens, 0)
    reconcile(started_by="test")
    assert found(owner) == REPAIRED
