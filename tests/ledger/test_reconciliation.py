"""Reconciliation: what is planted behind the code's back is found, repaired where that is safe, and found no more."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from django.db.models.functions import Now
from django_celery_results.models import TaskResult

from apps.core import clock
from apps.core.db import unit_of_work
from apps.ledger import reconciliation, records, till
from apps.ledger.checks import CHECKS
from apps.ledger.models import Attempt, Discrepancy, ReconciliationRun
from apps.ledger.reconciliation import reconcile
from apps.ledger.types import Admitted, TokenCounts
from tests.ledger.alarms import alarms
from tests.ledger.test_till import COUNTS, RESULT, admitted, call, charge, check_books, expire_lease
from tests.personas import Persona


def planted(statement: str, *parameters: Any) -> None:
    """Run a statement as the tables' owner, past policies and triggers, as somebody with a database console would."""
    tables = ("ledger_entry", "ledger_operation", "ledger_attempt", "ledger_usagedaily", "ledger_usagemonthly")
    with transaction.atomic("owner"), transaction.get_connection("owner").cursor() as cursor:
        for table in (*tables, "ledger_budget"):
            cursor.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        cursor.execute(statement, parameters)
        assert cursor.rowcount == 1
        for table in (*tables, "ledger_budget"):
            cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
            cursor.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


def settled(owner: Persona) -> Admitted:
    held = admitted(till.hold(owner.ctx, charge(), call()))
    till.settle(owner.ctx, held.attempt_id, COUNTS, result=RESULT)
    return held


def discrepancies(owner: Persona) -> list[Discrepancy]:
    """What was found in the owner's books, except that the fake's models have no price."""
    with unit_of_work(owner.ctx):
        return list(Discrepancy.objects.exclude(kind="unpriced_model").order_by("kind"))


@dataclass(frozen=True)
class Plant:
    """What is planted, as a statement with the tenant's id, and which kinds it is found as."""

    statement: str
    kinds: set[str]


SUMS = {
    "a day's row was raised": Plant(
        "UPDATE ledger_usagedaily SET total_tokens = total_tokens + 7, plain_output_tokens = plain_output_tokens + 7"
        " WHERE payer_tenant_id = %s",
        {"daily_statistics"},
    ),
    "a day's row is gone": Plant("DELETE FROM ledger_usagedaily WHERE payer_tenant_id = %s", {"daily_statistics"}),
    "a day's row counts an entry too many": Plant(
        "UPDATE ledger_usagedaily SET entries = entries + 1 WHERE payer_tenant_id = %s", {"daily_statistics"}
    ),
    "a month's row was lowered": Plant(
        "UPDATE ledger_usagemonthly SET total_tokens = total_tokens - 7 WHERE payer_tenant_id = %s",
        {"monthly_statistics"},
    ),
    "a month's row is gone": Plant(
        "DELETE FROM ledger_usagemonthly WHERE payer_tenant_id = %s", {"monthly_statistics"}
    ),
    "the budget forgot what was spent": Plant(
        "UPDATE ledger_budget SET spent_tokens = spent_tokens - 50 WHERE tenant_id = %s", {"budget_spent"}
    ),
    "the day of the budget forgot what was spent": Plant(
        "UPDATE ledger_budget SET day_spent_tokens = 0 WHERE tenant_id = %s", {"budget_spent"}
    ),
    "the budget holds what nobody holds": Plant(
        "UPDATE ledger_budget SET held_tokens = held_tokens + 500, day_held_tokens = day_held_tokens + 500"
        " WHERE tenant_id = %s",
        {"budget_held"},
    ),
    "the budget is gone": Plant("DELETE FROM ledger_budget WHERE tenant_id = %s", {"budget_spent"}),
    "an entry is gone": Plant("DELETE FROM ledger_entry WHERE payer_tenant_id = %s", {"operation_without_entry"}),
    "an entry was changed": Plant(
        "UPDATE ledger_entry SET total_tokens = total_tokens + 9, plain_output_tokens = plain_output_tokens + 9"
        " WHERE payer_tenant_id = %s",
        {"daily_statistics", "monthly_statistics", "budget_spent"},
    ),
}


def open_past_its_deadline(owner: Persona) -> Admitted:
    held = admitted(till.hold(owner.ctx, charge(), call()))
    expire_lease(owner.ctx, held)
    planted("UPDATE ledger_attempt SET deadline = now() - interval '1 minute' WHERE id = %s", held.attempt_id)
    return held


def open_behind_an_ended_operation(owner: Persona) -> Admitted:
    held = admitted(till.hold(owner.ctx, charge(), call()))
    planted("UPDATE ledger_operation SET state = 'failed' WHERE id = %s", held.operation_id)
    return held


def unknown_past_its_grace_period(owner: Persona) -> Admitted:
    held = admitted(till.hold(owner.ctx, charge(), call()))
    till.fail(owner.ctx, held.operation_id, epoch=held.epoch, code="x", detail="x")
    planted("UPDATE ledger_attempt SET deadline = now() - interval '25 hours' WHERE id = %s", held.attempt_id)
    return held


def entry_of_a_failed_operation(owner: Persona) -> Admitted:
    held = settled(owner)
    planted("UPDATE ledger_operation SET state = 'failed' WHERE id = %s", held.operation_id)
    return held


def done_without_a_settled_attempt(owner: Persona) -> Admitted:
    held = admitted(till.hold(owner.ctx, charge(), call()))
    planted("UPDATE ledger_operation SET state = 'done', result = '{}' WHERE id = %s", held.operation_id)
    return held


def usage_without_a_price(owner: Persona) -> None:
    event = records.UsageEvent(
        idempotency_key=str(uuid4()),
        counts=TokenCounts(fresh_input_tokens=10),
        token_type=charge().token_type,
        operation=charge().operation,
        provider="nowhere",
        model="unheard-of",
    )
    records.record(owner.ctx, event)


def task_done_before_its_operation(owner: Persona, *, minutes: int = 11) -> None:
    run_id = uuid4()
    held = admitted(till.hold(owner.ctx, replace(charge(), run_id=run_id), call()))
    expire_lease(owner.ctx, held)
    result = TaskResult.objects.create(
        task_id=str(uuid4()), task_name="query.answer", status="SUCCESS", result=f'{{"run_id": "{run_id}"}}'
    )
    TaskResult.objects.filter(pk=result.pk).update(date_done=Now() - timedelta(minutes=minutes))


#: What is planted elsewhere than in a sum, by the kind it is found as.
OTHERS: dict[str, Callable[[Persona], object]] = {
    "operation_without_entry": done_without_a_settled_attempt,
    "entry_without_operation": entry_of_a_failed_operation,
    "hold_without_operation": open_behind_an_ended_operation,
    "open_past_deadline": open_past_its_deadline,
    "unknown_past_grace": unknown_past_its_grace_period,
    "task_result": task_done_before_its_operation,
    "unpriced_model": usage_without_a_price,
}


def test_every_kind_that_is_compared_is_planted() -> None:
    planted_kinds = {kind for plant in SUMS.values() for kind in plant.kinds} | set(OTHERS)
    assert planted_kinds == {check.kind.value for check in CHECKS}


def seen(owner: Persona) -> dict[tuple[str, str], tuple[str, int]]:
    """Everything that stands about the owner's books: its state, and how often it was seen."""
    with unit_of_work(owner.ctx):
        return {(row.kind, row.subject): (row.state, row.times_seen) for row in Discrepancy.objects.all()}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_was_found_is_not_found_again(owner: Persona, kind: str) -> None:
    OTHERS[kind](owner)
    reconcile(started_by="test")
    found = seen(owner)
    assert [times for (each, _), (_, times) in found.items() if each == kind] == [1]
    reconcile(started_by="test")
    assert seen(owner) == found


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_that_was_tampered_with_is_found_repaired_and_found_no_more(owner: Persona, name: str) -> None:
    settled(owner)
    planted(SUMS[name].statement, owner.tenant.pk)
    reconcile(started_by="test")
    found = discrepancies(owner)
    assert {(row.kind, row.state) for row in found} == {(kind, "repaired") for kind in SUMS[name].kinds}
    assert all(row.resolution and row.evidence for row in found)
    check_books(owner.ctx)
    reconcile(started_by="test")
    assert [row.times_seen for row in discrepancies(owner)] == [row.times_seen for row in found]


def test_books_that_agree_are_left_alone(owner: Persona) -> None:
    settled(owner)
    till.hold(owner.ctx, charge(), call())
    reconcile(started_by="test")
    assert discrepancies(owner) == []
    assert check_books(owner.ctx).held_tokens == 1000


def test_without_repair_it_is_only_written_down(owner: Persona) -> None:
    settled(owner)
    planted("UPDATE ledger_budget SET spent_tokens = 0 WHERE tenant_id = %s", owner.tenant.pk)
    first = reconcile(started_by="test", repair=False)
    again = reconcile(started_by="test", repair=False)
    [row] = discrepancies(owner)
    assert (row.kind, row.state, row.times_seen) == ("budget_spent", "open", 1)
    assert (first.repaired, again.found.get("budget_spent", 0)) == ({}, 0)
    reconcile(started_by="test")
    assert [row.state for row in discrepancies(owner)] == ["repaired"]


def test_what_an_operator_has_resolved_stays_so_until_it_changes(owner: Persona) -> None:
    held = entry_of_a_failed_operation(owner)
    reconcile(started_by="test")
    [row] = discrepancies(owner)
    reconciliation.resolve(row, reason="Known.", actor="ada")
    reconcile(started_by="test")
    [row] = discrepancies(owner)
    assert (row.state, row.resolution) == ("resolved", "ada: Known.")
    planted("UPDATE ledger_operation SET state = 'pending' WHERE id = %s", held.operation_id)
    reconcile(started_by="test")
    assert [row.state for row in discrepancies(owner)] == ["open"]


def test_known_differences_do_not_keep_new_ones_from_being_found(
    owner: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciliation, "MAX_DIFFERENCES", 1)
    for held in (settled(owner), settled(owner)):
        planted("UPDATE ledger_operation SET state = 'failed' WHERE id = %s", held.operation_id)
    while reconcile(started_by="test").found.get("entry_without_operation"):
        pass
    assert len(discrepancies(owner)) == 2


def test_what_cannot_be_repaired_does_not_keep_the_rest_from_being_found(
    owner: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciliation, "MAX_DIFFERENCES", 1)
    for held in (settled(owner), settled(owner)):
        planted("DELETE FROM ledger_entry WHERE operation_id = %s", held.operation_id)
        planted("UPDATE ledger_attempt SET state = 'lost' WHERE id = %s", held.attempt_id)
    while reconcile(started_by="test").found.get("operation_without_entry"):
        pass
    states = [row.state for row in discrepancies(owner) if row.kind == "operation_without_entry"]
    assert states == ["open", "open"]


def test_an_open_attempt_whose_worker_is_gone_becomes_unknown(owner: Persona) -> None:
    held = open_past_its_deadline(owner)
    reconcile(started_by="test")
    [row] = discrepancies(owner)
    assert (row.kind, row.state) == ("open_past_deadline", "repaired")
    assert attempt_state(owner, held) == "unknown"
    assert check_books(owner.ctx).held_tokens == 1000


def test_an_open_attempt_past_its_deadline_with_a_living_worker_is_left_alone(owner: Persona) -> None:
    held = admitted(till.hold(owner.ctx, charge(), call()))
    planted("UPDATE ledger_attempt SET deadline = now() - interval '1 minute' WHERE id = %s", held.attempt_id)
    reconcile(started_by="test")
    assert discrepancies(owner) == []
    assert attempt_state(owner, held) == "open"


def test_an_open_attempt_of_an_operation_that_has_ended_becomes_unknown(owner: Persona) -> None:
    held = open_behind_an_ended_operation(owner)
    reconcile(started_by="test")
    [row] = discrepancies(owner)
    assert (row.kind, row.state) == ("hold_without_operation", "repaired")
    assert attempt_state(owner, held) == "unknown"


def test_an_attempt_past_its_grace_period_is_lost(owner: Persona) -> None:
    held = unknown_past_its_grace_period(owner)
    reconcile(started_by="test")
    assert [(row.kind, row.state) for row in discrepancies(owner)] == [
        ("lost_attempt", "open"),
        ("unknown_past_grace", "repaired"),
    ]
    assert attempt_state(owner, held) == "lost"
    assert check_books(owner.ctx).held_tokens == 0


def test_an_entry_whose_operation_is_not_done_is_reported_and_not_touched(owner: Persona) -> None:
    entry_of_a_failed_operation(owner)
    first = reconcile(started_by="test")
    second = reconcile(started_by="test")
    [row] = discrepancies(owner)
    assert (row.kind, row.state, row.amount_tokens) == ("entry_without_operation", "open", COUNTS.total_tokens)
    assert (first.found["entry_without_operation"], second.found.get("entry_without_operation", 0)) == (1, 0)


def test_a_done_operation_whose_attempt_is_not_settled_is_reported(owner: Persona) -> None:
    done_without_a_settled_attempt(owner)
    reconcile(started_by="test")
    assert ("operation_without_entry", "open") in {(row.kind, row.state) for row in discrepancies(owner)}


def test_a_model_without_a_price_is_listed(owner: Persona) -> None:
    usage_without_a_price(owner)
    reconcile(started_by="test")
    with unit_of_work(owner.ctx):
        [row] = Discrepancy.objects.all()
    assert (row.kind, row.state, row.subject) == ("unpriced_model", "open", "nowhere/unheard-of")


def test_a_task_that_says_it_is_done_while_its_operation_waits_is_reported(owner: Persona) -> None:
    task_done_before_its_operation(owner, minutes=9)
    reconcile(started_by="test")
    assert discrepancies(owner) == []
    task_done_before_its_operation(owner, minutes=11)
    reconcile(started_by="test")
    assert [(row.kind, row.state) for row in discrepancies(owner)] == [("task_result", "open")]


def test_a_run_says_what_it_found_and_repaired(owner: Persona) -> None:
    settled(owner)
    planted("UPDATE ledger_budget SET spent_tokens = 0 WHERE tenant_id = %s", owner.tenant.pk)
    run = reconcile(started_by="an operator")
    kept = ReconciliationRun.objects.get(pk=run.pk)
    assert kept.finished_at
    assert (kept.started_by, kept.found["budget_spent"], kept.repaired["budget_spent"]) == ("an operator", 1, 1)
    assert "ledger_entry" in kept.read


def own(found: dict[str, int]) -> dict[str, int]:
    """Without the attempts that other tests left open, whose deadlines may pass between two comparisons."""
    return {kind: number for kind, number in found.items() if kind != "open_past_deadline"}


def test_books_that_differ_are_an_error_in_the_log_once(owner: Persona, caplog: pytest.LogCaptureFixture) -> None:
    settled(owner)
    reconcile(started_by="test")
    planted("UPDATE ledger_budget SET spent_tokens = 0 WHERE tenant_id = %s", owner.tenant.pk)
    caplog.clear()
    run = reconcile(started_by="test")
    reconcile(started_by="test")
    differing = alarms(caplog, "the books differ", "run", "found", "repaired")
    of_this = [(each, own(found), own(repaired)) for each, found, repaired in differing if own(found)]
    assert of_this == [(str(run.pk), {"budget_spent": 1}, {"budget_spent": 1})]


def test_a_model_without_a_price_is_no_error_in_the_log(owner: Persona, caplog: pytest.LogCaptureFixture) -> None:
    reconcile(started_by="test")
    usage_without_a_price(owner)
    caplog.clear()
    assert own(reconcile(started_by="test").found) == {"unpriced_model": 1}
    assert [found for (found,) in alarms(caplog, "the books differ", "found") if own(found)] == []


def test_it_compares_from_the_first_day_asked_for(owner: Persona) -> None:
    settled(owner)
    planted("UPDATE ledger_usagedaily SET total_tokens = 0 WHERE payer_tenant_id = %s", owner.tenant.pk)
    tomorrow = clock.today("UTC") + timedelta(days=40)
    reconcile(started_by="test", since=tomorrow)
    assert discrepancies(owner) == []
    reconcile(started_by="test", since=clock.today("UTC"))
    assert {row.kind for row in discrepancies(owner)} == {"daily_statistics"}


def attempt_state(owner: Persona, held: Admitted) -> str:
    with unit_of_work(owner.ctx):
        return str(Attempt.objects.get(pk=held.attempt_id).state)


def test_what_followed_from_another_difference_is_closed_when_it_is_gone(owner: Persona) -> None:
    held = entry_of_a_failed_operation(owner)
    reconcile(started_by="test")
    assert [row.state for row in discrepancies(owner)] == ["open"]
    planted("UPDATE ledger_operation SET state = 'done' WHERE id = %s", held.operation_id)
    reconcile(started_by="test", since=reconciliation.recent())
    assert [row.state for row in discrepancies(owner)] == ["open"]
    reconcile(started_by="test")
    assert [row.state for row in discrepancies(owner)] == ["repaired"]
