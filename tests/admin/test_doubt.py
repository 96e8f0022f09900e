"""What operators do about doubt: resolve an unknown attempt, look into a discrepancy, have the books compared."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from apps.core import clock
from apps.core.admin_pages import change_url, list_url
from apps.core.db import operator_scope, unit_of_work
from apps.ledger import reconciliation, till
from apps.ledger.models import Attempt, Discrepancy, ReconciliationRun
from apps.ledger.types import Admitted
from apps.tenants.models import User
from nooble.processes import Supervisor
from tasks.reconciliation import compare
from tests.admin.test_site import staff
from tests.faults.scene import wait_until
from tests.ledger.test_reconciliation import planted, settled
from tests.ledger.test_till import admitted, call, charge, check_books
from tests.personas import Persona

COUNTED = {
    "_form_submitted": "on",
    "outcome": "counted",
    "fresh_input_tokens": "60",
    "cached_input_tokens": "0",
    "cache_write_tokens": "0",
    "plain_output_tokens": "20",
    "reasoning_tokens": "0",
    "evidence": "usage report of November",
}


COMPARE = f"{list_url('ledger.reconciliationrun')}reconcile_now/"
TODAY = {"_form_submitted": "on", "since": f"{clock.today('UTC')}"}


@pytest.fixture
def unknown(owner: Persona) -> Admitted:
    held = admitted(till.hold(owner.ctx, charge(), call()))
    till.fail(owner.ctx, held.operation_id, epoch=held.epoch, code="x", detail="x")
    return held


def resolve_url(held: Admitted) -> str:
    return change_url("ledger.attempt", held.attempt_id).replace("change/", "resolve/")


def attempt(owner: Persona, held: Admitted) -> Attempt:
    with unit_of_work(owner.ctx):
        return Attempt.objects.get(pk=held.attempt_id)


def test_what_the_provider_counted_is_written_down_and_the_hold_goes_out(
    operator: Client, owner: Persona, unknown: Admitted
) -> None:
    assert resolve_url(unknown) in operator.get(change_url("ledger.attempt", unknown.attempt_id)).content.decode()
    page = operator.post(resolve_url(unknown), COUNTED).content.decode()
    assert "The attempt is lost." in page
    row = attempt(owner, unknown)
    assert (row.state, row.input_tokens, row.output_tokens, row.held_tokens) == ("lost", 60, 20, 0)
    assert check_books(owner.ctx).held_tokens == 0
    assert "usage report of November" in LogEntry.objects.get(object_id=unknown.attempt_id).change_message


def test_what_the_provider_did_not_count_is_void(operator: Client, owner: Persona, unknown: Admitted) -> None:
    assert check_books(owner.ctx).held_tokens == 1000
    operator.post(resolve_url(unknown), {**COUNTED, "outcome": "void"})
    assert (attempt(owner, unknown).state, attempt(owner, unknown).held_tokens) == ("void", 0)
    assert check_books(owner.ctx).held_tokens == 0


def test_a_count_of_nothing_is_refused(operator: Client, owner: Persona, unknown: Admitted) -> None:
    nothing = {**COUNTED, "fresh_input_tokens": "0", "plain_output_tokens": "0"}
    assert "Say how many tokens it counted." in operator.post(resolve_url(unknown), nothing).content.decode()
    assert attempt(owner, unknown).state == "unknown"


def test_an_attempt_that_is_in_no_doubt_cannot_be_resolved(operator: Client, owner: Persona) -> None:
    held = settled(owner)
    assert operator.post(resolve_url(held), COUNTED).status_code == 404
    assert attempt(owner, held).state == "settled"


def test_staff_without_permission_resolve_nothing(owner: Persona, unknown: Admitted) -> None:
    response = staff("view_attempt").post(resolve_url(unknown), COUNTED)
    assert response.status_code == 403
    assert attempt(owner, unknown).state == "unknown"


def asked_for(user: User) -> ReconciliationRun:
    with operator_scope("test"):
        return ReconciliationRun.objects.get(started_by=user.username)


def test_a_worker_compares_the_books_now(operator: Client, superuser: User, owner: Persona, worker: Supervisor) -> None:
    settled(owner)
    planted("UPDATE ledger_budget SET spent_tokens = 0 WHERE tenant_id = %s", owner.tenant.pk)
    assert COMPARE in operator.get(list_url("ledger.reconciliationrun")).content.decode()
    page = operator.post(COMPARE, TODAY).content.decode()
    assert change_url("ledger.reconciliationrun", asked_for(superuser).pk) in page
    wait_until(lambda: asked_for(superuser).finished_at is not None, seconds=60)
    assert asked_for(superuser).found["budget_spent"] == 1
    check_books(owner.ctx)


def test_a_comparison_whose_message_was_lost_is_made_with_the_hours(database: None) -> None:
    lost, fresh = (reconciliation.begin(started_by="lost", since=clock.today("UTC")) for _ in range(2))
    with operator_scope("test"):
        ReconciliationRun.objects.filter(pk=lost.pk).update(started_at=clock.now() - timedelta(hours=1))
    assert lost.pk in {run.pk for run in reconciliation.left_over()}
    assert fresh.pk not in {run.pk for run in reconciliation.left_over()}
    reconciliation.compare(lost)
    assert lost.pk not in {run.pk for run in reconciliation.left_over()}
    reconciliation.compare(fresh)


def test_a_comparison_that_is_asked_for_twice_is_made_once(database: None) -> None:
    run = reconciliation.begin(started_by="twice", since=clock.today("UTC"))
    compare(str(run.pk))
    with operator_scope("test"):
        run.refresh_from_db()
        finished_at = run.finished_at
    assert finished_at is not None
    compare(str(run.pk))
    with operator_scope("test"):
        run.refresh_from_db()
    assert run.finished_at == finished_at


def test_a_discrepancy_is_resolved_in_the_operators_name(operator: Client, superuser: User, owner: Persona) -> None:
    held = settled(owner)
    planted("UPDATE ledger_operation SET state = 'failed' WHERE id = %s", held.operation_id)
    reconciliation.reconcile(started_by="test", since=clock.today("UTC"))
    with operator_scope("test"):
        row = Discrepancy.objects.get(tenant_id=owner.tenant.pk, kind="entry_without_operation")
    url = change_url("ledger.discrepancy", row.pk).replace("change/", "resolve/")
    operator.post(url, {"_form_submitted": "on", "reason": "A test of ours."})
    with operator_scope("test"):
        row.refresh_from_db()
    assert (row.state, row.resolution) == ("resolved", f"{superuser.username}: A test of ours.")
