"""Hold, settle, void, unknown: what each leaves in the books."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from apps.core import clock
from apps.core.context import ExecutionContext
from apps.core.db import execute, fetch_one, operator_scope, unit_of_work
from apps.ledger import budgets, statements, sweeping, till
from apps.ledger.errors import (
    BudgetExceededError,
    IdempotencyConflictError,
    LedgerRowNotFoundError,
    OperationEndedError,
    OperationInProgressError,
)
from apps.ledger.models import Attempt, Budget, Discrepancy, Entry, Operation
from apps.ledger.records import UsageEvent, record
from apps.ledger.types import (
    Admitted,
    Call,
    Charge,
    Held,
    LeftAttempt,
    OperationKind,
    OperationState,
    Replay,
    TokenCounts,
    TokenType,
    Unresolved,
)
from apps.tenants.models import Tenant
from tests.ledger.alarms import alarms
from tests.personas import MakeTenant, Persona

COUNTS = TokenCounts(fresh_input_tokens=60, cached_input_tokens=10, plain_output_tokens=20, reasoning_tokens=5)
RESULT = {"text": "the answer"}


def charge(**payload: Any) -> Charge:
    return Charge(operation=OperationKind.CHAT, token_type=TokenType.LLM, payload=payload or {"question": str(uuid4())})


def call(hold_tokens: int = 1000) -> Call:
    return Call(provider="fake", model="fake-1", hold_tokens=hold_tokens, deadline_seconds=30)


def admitted(held: Held) -> Admitted:
    assert isinstance(held, Admitted)
    return held


def hold_as_another(ctx: ExecutionContext, charge: Charge, call: Call) -> Admitted:
    """The operation of a worker that is gone, held again by another one, which has asked nobody."""
    held = till.hold(ctx, charge, call)
    if isinstance(held, Unresolved):
        held = till.hold(ctx, charge, call, epoch=held.epoch)
    return admitted(held)


def check_books(ctx: ExecutionContext) -> statements.Statement:
    found = statements.statement(ctx, clock.today("UTC").replace(day=1))
    assert found.differences() == []
    return found


def expire_lease(ctx: ExecutionContext, held: Admitted) -> None:
    with unit_of_work(ctx):
        Operation.objects.filter(pk=held.operation_id).update(lease_expires_at=Now() - timedelta(seconds=1))


def attempt(ctx: ExecutionContext, held: Admitted) -> Attempt:
    with unit_of_work(ctx):
        return Attempt.objects.get(pk=held.attempt_id)


def test_settling_writes_the_entry_the_statistics_and_the_budget(owner: Persona) -> None:
    held = admitted(till.hold(owner.ctx, charge(), call()))
    till.settle(owner.ctx, held.attempt_id, COUNTS, result=RESULT, provider_request_id="req-1", raw_usage={"x": 1})

    books = check_books(owner.ctx)
    assert (books.entries, books.entry_tokens, books.spent_tokens, books.held_tokens) == (1, 95, 95, 0)
    with unit_of_work(owner.ctx):
        entry = Entry.objects.get()
    assert (entry.input_tokens, entry.output_tokens, entry.total_tokens) == (70, 25, 95)
    assert (entry.provider_request_id, entry.token_source, entry.attempts) == ("req-1", "api", 1)
    assert attempt(owner.ctx, held).raw_usage == {"x": 1}


def test_a_hold_counts_against_the_budget_until_it_is_settled(make_tenant: MakeTenant) -> None:
    tenant = make_tenant(limit=1500)
    till.hold(tenant.ctx, charge(), call(1000))
    with pytest.raises(BudgetExceededError) as refused:
        till.hold(tenant.ctx, charge(), call(1000))
    assert refused.value.extra["limit_tokens"] == 1500
    assert refused.value.extra["held_tokens"] == 1000
    assert refused.value.extra["resets_at"].endswith("Z")


def test_a_refused_hold_leaves_nothing_behind(make_tenant: MakeTenant) -> None:
    tenant = make_tenant(limit=10)
    with pytest.raises(BudgetExceededError):
        till.hold(tenant.ctx, charge(), call(1000))
    with unit_of_work(tenant.ctx):
        assert Operation.objects.count() == Attempt.objects.count() == 0


def test_a_day_may_have_a_limit_of_its_own(make_tenant: MakeTenant) -> None:
    tenant = make_tenant(limit=10_000)
    with operator_scope("test"):
        Tenant.objects.filter(pk=tenant.tenant.pk).update(daily_token_limit=1500)
    held = admitted(till.hold(tenant.ctx, charge(), call(1000)))
    with pytest.raises(BudgetExceededError) as refused:
        till.hold(tenant.ctx, charge(), call(1000))
    assert (refused.value.extra["period"], refused.value.extra["limit_tokens"]) == ("day", 1500)
    till.settle(tenant.ctx, held.attempt_id, COUNTS, result=RESULT)
    with unit_of_work(tenant.ctx):
        day = budgets.current(tenant.ctx).day
    assert day
    assert (day.spent_tokens, day.held_tokens, day.available_tokens) == (95, 0, 1405)


def test_a_new_day_has_its_whole_limit(make_tenant: MakeTenant) -> None:
    tenant = make_tenant(limit=10_000)
    with operator_scope("test"):
        Tenant.objects.filter(pk=tenant.tenant.pk).update(daily_token_limit=1500)
    held = admitted(till.hold(tenant.ctx, charge(), call(1000)))
    with operator_scope("test"):
        Budget.objects.filter(tenant_id=tenant.tenant.pk).update(day=F("day") - timedelta(days=1))
        Attempt.objects.filter(pk=held.attempt_id).update(day=F("day") - timedelta(days=1))
    admitted(till.hold(tenant.ctx, charge(), call(1400)))
    # Yesterday's call counts yesterday.
    till.settle(tenant.ctx, held.attempt_id, COUNTS, result=RESULT)
    with unit_of_work(tenant.ctx):
        day = budgets.current(tenant.ctx).day
    assert day
    assert (day.spent_tokens, day.held_tokens) == (0, 1400)


def test_a_soft_limit_lets_the_call_pass(make_tenant: MakeTenant) -> None:
    tenant = make_tenant(limit=10)
    with operator_scope("test"):
        Tenant.objects.filter(pk=tenant.tenant.pk).update(hard_limit=False)
    admitted(till.hold(tenant.ctx, charge(), call(1000)))
    with unit_of_work(tenant.ctx):
        state = budgets.current(tenant.ctx)
    assert (state.limit_tokens, state.held_tokens, state.available_tokens, state.hard) == (10, 1000, 0, False)


def test_a_done_operation_gives_its_result_back_without_a_call(owner: Persona) -> None:
    ctx, asked = owner.ctx, charge(question="again")
    held = admitted(till.hold(ctx, asked, call()))
    till.settle(ctx, held.attempt_id, COUNTS, result=RESULT)
    again = till.hold(ctx, asked, call())
    assert isinstance(again, Replay)
    assert (again.result, again.counts) == (RESULT, COUNTS)
    assert check_books(ctx).entries == 1


def test_settling_twice_is_settling_once(owner: Persona) -> None:
    held = admitted(till.hold(owner.ctx, charge(), call()))
    first = till.settle(owner.ctx, held.attempt_id, COUNTS, result=RESULT)
    second = till.settle(owner.ctx, held.attempt_id, COUNTS, result={"text": "another"})
    assert second.result == first.result == RESULT
    assert check_books(owner.ctx).entries == 1


def test_a_report_under_an_operations_key_does_not_keep_its_call_from_being_booked(owner: Persona) -> None:
    ctx, asked = owner.ctx, charge(question="squatted")
    held = admitted(till.hold(ctx, asked, call()))
    event = UsageEvent(
        idempotency_key=asked.idempotency_key(ctx.tenant_id, ctx.created_at),
        counts=TokenCounts(fresh_input_tokens=1),
        token_type=TokenType.LLM,
        operation=OperationKind.CHAT,
        model="m",
    )
    record(ctx, event)
    till.settle(ctx, held.attempt_id, COUNTS, result=RESULT)
    assert check_books(ctx).spent_tokens == COUNTS.total_tokens + 1
    with unit_of_work(ctx):
        assert Entry.objects.filter(operation_ref=held.operation_id).count() == 1
        assert Discrepancy.objects.filter(kind="idempotency_conflict").count() == 1
    assert isinstance(till.hold(ctx, asked, call()), Replay)


def test_a_live_workers_operation_is_not_hold_as_another(owner: Persona) -> None:
    ctx, asked = owner.ctx, charge(question="busy")
    till.hold(ctx, asked, call())
    with pytest.raises(OperationInProgressError):
        till.hold(ctx, asked, call())


def test_a_dead_workers_operation_is_taken_over_and_its_attempt_keeps_its_hold(owner: Persona) -> None:
    ctx, asked = owner.ctx, charge(question="dead")
    dead = admitted(till.hold(ctx, asked, call(700)))
    expire_lease(ctx, dead)
    alive = hold_as_another(ctx, asked, call(700))
    assert (alive.operation_id, alive.epoch) == (dead.operation_id, 2)
    assert attempt(ctx, dead).state == "unknown"
    assert check_books(ctx).held_tokens == 1400


def test_who_takes_over_is_told_of_what_was_left_before_anything_is_held(owner: Persona) -> None:
    ctx, asked = owner.ctx, charge(question="ask")
    dead = admitted(till.hold(ctx, asked, call(700)))
    expire_lease(ctx, dead)
    found = till.hold(ctx, asked, call(700))
    assert isinstance(found, Unresolved)
    assert found.attempts == (LeftAttempt(id=dead.attempt_id, provider="fake", model="fake-1"),)
    assert check_books(ctx).held_tokens == 700
    till.void(ctx, dead.attempt_id)
    alive = admitted(till.hold(ctx, asked, call(700), epoch=found.epoch))
    till.settle(ctx, alive.attempt_id, COUNTS, result=RESULT)
    assert check_books(ctx).held_tokens == 0


def test_a_late_answer_settles_an_operation_that_nobody_else_has_settled(owner: Persona) -> None:
    ctx, asked = owner.ctx, charge(question="late")
    slept = admitted(till.hold(ctx, asked, call(700)))
    expire_lease(ctx, slept)
    other = hold_as_another(ctx, asked, call(700))
    settled = till.settle(ctx, slept.attempt_id, COUNTS, result=RESULT)
    assert not settled.late
    second = till.settle(ctx, other.attempt_id, COUNTS, result={"text": "second"})
    assert second.late
    assert second.result == RESULT
    assert (attempt(ctx, slept).state, attempt(ctx, other).state) == ("settled", "lost")
    books = check_books(ctx)
    assert (books.entries, books.entry_tokens, books.held_tokens) == (1, 95, 0)


def test_the_true_usage_of_a_lost_attempt_is_known_but_charged_to_nobody(owner: Persona) -> None:
    ctx, asked = owner.ctx, charge(question="lost")
    slept = admitted(till.hold(ctx, asked, call()))
    expire_lease(ctx, slept)
    other = hold_as_another(ctx, asked, call())
    till.settle(ctx, other.attempt_id, COUNTS, result=RESULT)
    assert till.settle(ctx, slept.attempt_id, COUNTS, result=RESULT).late
    assert attempt(ctx, slept).fresh_input_tokens == 60
    assert check_books(ctx).entry_tokens == 95


def test_void_releases_the_hold_and_the_operation_can_be_tried_again(owner: Persona) -> None:
    ctx, asked = owner.ctx, charge(question="void")
    held = admitted(till.hold(ctx, asked, call()))
    assert till.void(ctx, held.attempt_id, code="provider_rate_limited")
    assert not till.void(ctx, held.attempt_id)
    assert check_books(ctx).held_tokens == 0
    again = admitted(till.hold(ctx, asked, call(), epoch=held.epoch))
    assert attempt(ctx, again).number == 2


def test_unknown_keeps_the_hold(owner: Persona) -> None:
    held = admitted(till.hold(owner.ctx, charge(), call(1000)))
    assert till.mark_unknown(owner.ctx, held.attempt_id, code="provider_timeout")
    assert check_books(owner.ctx).held_tokens == 1000
    with unit_of_work(owner.ctx):
        assert budgets.current(owner.ctx).unknown_tokens == 1000


def given_up(held: Admitted) -> None:
    with operator_scope("test"):
        Attempt.objects.filter(pk=held.attempt_id).update(deadline=Now() - timedelta(hours=25))
    while sweeping.give_up():
        pass


def noted(owner: Persona) -> list[tuple[str, int]]:
    with unit_of_work(owner.ctx):
        return list(Discrepancy.objects.order_by("last_seen_at").values_list("kind", "amount_tokens"))


def test_an_answer_to_a_call_that_was_proven_not_to_be_is_billed_to_nobody_and_noted(owner: Persona) -> None:
    held = admitted(till.hold(owner.ctx, charge(), call()))
    till.void(owner.ctx, held.attempt_id)
    for _ in range(2):
        settlement = till.settle(owner.ctx, held.attempt_id, COUNTS, result=RESULT, raw_usage={"total_tokens": 95})
        assert (settlement.late, settlement.state, settlement.result) == (True, "pending", {})
    assert attempt(owner.ctx, held).state == "void"
    assert noted(owner) == [("counted_void", 95)]
    assert check_books(owner.ctx).entries == 0


def test_a_call_that_is_given_up_is_noted_and_alarmed(owner: Persona, caplog: pytest.LogCaptureFixture) -> None:
    held = admitted(till.hold(owner.ctx, charge(), call(1000)))
    till.mark_unknown(owner.ctx, held.attempt_id, code="provider_timeout")
    given_up(held)
    assert noted(owner) == [("lost_attempt", 1000)]
    lost = alarms(caplog, "attempt given up as lost", "attempt", "payer", "held")
    # Others' may be among them.
    assert lost.count((str(held.attempt_id), str(owner.tenant.pk), 1000)) == 1


def test_the_truth_about_a_call_that_was_given_up_is_kept(owner: Persona) -> None:
    held = admitted(till.hold(owner.ctx, charge(), call(1000)))
    till.mark_unknown(owner.ctx, held.attempt_id, code="provider_timeout", raw_usage={"prompt_tokens": -1})
    assert attempt(owner.ctx, held).raw_usage == {"prompt_tokens": -1}
    given_up(held)
    assert noted(owner) == [("lost_attempt", 1000)]
    assert till.report(owner.ctx, held.attempt_id, replace(COUNTS, source="estimated")) == "repeated"
    assert till.report(owner.ctx, held.attempt_id, COUNTS, raw_usage={"total_tokens": 95}) == "late"
    assert till.report(owner.ctx, held.attempt_id, COUNTS) == "repeated"
    told = attempt(owner.ctx, held)
    assert (told.state, told.error_code, told.raw_usage) == ("lost", "provider_timeout", {"total_tokens": 95})
    assert (told.fresh_input_tokens, told.token_source) == (60, "api")
    assert noted(owner) == [("lost_attempt", 95)]
    assert check_books(owner.ctx).entries == 0


def test_an_estimate_is_corrected_although_its_call_was_given_up(owner: Persona) -> None:
    held = admitted(till.hold(owner.ctx, charge(), call(1000)))
    seen = TokenCounts(fresh_input_tokens=60, plain_output_tokens=5, source="estimated")
    assert till.settle_partly(owner.ctx, held.attempt_id, seen, state=OperationState.DONE, result=RESULT)
    given_up(held)
    assert till.report(owner.ctx, held.attempt_id, COUNTS) == "corrected"
    assert attempt(owner.ctx, held).state == "lost"
    assert check_books(owner.ctx).entry_tokens == 95


def test_a_failed_operation_stays_failed(owner: Persona) -> None:
    ctx, asked = owner.ctx, charge(question="fails")
    held = admitted(till.hold(ctx, asked, call()))
    till.void(ctx, held.attempt_id)
    assert till.fail(ctx, held.operation_id, epoch=held.epoch, code="provider_refused", detail="No.")
    with pytest.raises(OperationEndedError, match="No"):
        till.hold(ctx, asked, call())


def test_only_the_holder_of_the_lease_can_fail_an_operation(owner: Persona) -> None:
    held = admitted(till.hold(owner.ctx, charge(), call()))
    assert not till.fail(owner.ctx, held.operation_id, epoch=held.epoch + 1, code="x", detail="x")


def test_usage_above_the_hold_is_booked_in_full_noted_and_alarmed(
    owner: Persona, caplog: pytest.LogCaptureFixture
) -> None:
    held = admitted(till.hold(owner.ctx, charge(), call(50)))
    till.settle(owner.ctx, held.attempt_id, COUNTS, result=RESULT)
    assert attempt(owner.ctx, held).overage_tokens == 45
    assert check_books(owner.ctx).spent_tokens == 95
    assert noted(owner) == [("overage", 45)]
    assert alarms(caplog, "a call cost more than its hold", "attempt", "by") == [(str(held.attempt_id), 45)]


def test_usage_up_to_the_hold_alarms_nobody(owner: Persona, caplog: pytest.LogCaptureFixture) -> None:
    held = admitted(till.hold(owner.ctx, charge(), call(COUNTS.total_tokens)))
    till.settle(owner.ctx, held.attempt_id, COUNTS, result=RESULT)
    assert noted(owner) == []
    assert alarms(caplog, "a call cost more than its hold") == []


def test_the_same_key_with_other_content_is_refused_noted_and_alarmed(
    owner: Persona, caplog: pytest.LogCaptureFixture
) -> None:
    asked = charge(question="one")
    held = admitted(till.hold(owner.ctx, asked, call()))
    with operator_scope("test"):
        Operation.objects.filter(tenant_id=owner.tenant.pk).update(payload_hash="0" * 64)
    context = owner.ctx
    with unit_of_work(context):
        key = Operation.objects.get().idempotency_key
    moment = int(key.rpartition(":")[2])
    same_moment = context.model_copy(update={"created_at": _moment(moment)})
    with pytest.raises(IdempotencyConflictError):
        till.hold(same_moment, asked, call())
    assert [kind for kind, _ in noted(owner)] == ["idempotency_conflict"]
    assert alarms(caplog, "idempotency conflict", "operation") == [(str(held.operation_id),)]


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def test_of_many_holds_at_once_exactly_as_many_pass_as_the_budget_covers(make_tenant: MakeTenant) -> None:
    tenant = make_tenant(limit=5 * 100)

    def try_to_hold(number: int) -> bool:
        try:
            till.hold(tenant.ctx, charge(number=number), call(100))
        except BudgetExceededError:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(16) as pool:
        passed = list(pool.map(try_to_hold, range(40)))
    assert sum(passed) == 5
    assert check_books(tenant.ctx).held_tokens == 500


def test_of_many_deliveries_at_once_one_makes_the_call(owner: Persona) -> None:
    ctx, asked = owner.ctx, charge(question="doubled")

    def deliver(_: int) -> str:
        try:
            return type(till.hold(ctx, asked, call())).__name__
        except OperationInProgressError:
            return "busy"
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(deliver, range(10)))
    assert sorted(outcomes) == ["Admitted", *["busy"] * 9]


def test_a_call_counts_in_the_payers_own_day(make_tenant: MakeTenant) -> None:
    tenant = make_tenant(time_zone="Pacific/Kiritimati")
    held = admitted(till.hold(tenant.ctx, charge(), call()))
    till.settle(tenant.ctx, held.attempt_id, COUNTS, result=RESULT)
    with unit_of_work(tenant.ctx):
        assert Entry.objects.get().day == clock.today("Pacific/Kiritimati")


@pytest.mark.parametrize("statement", ["UPDATE ledger_entry SET total_tokens = 0", "DELETE FROM ledger_entry"])
@pytest.mark.parametrize(("role", "refusal"), [("default", "permission denied"), ("owner", "append-only")])
def test_entries_cannot_be_changed(owner: Persona, statement: str, role: str, refusal: str) -> None:
    held = admitted(till.hold(owner.ctx, charge(), call()))
    till.settle(owner.ctx, held.attempt_id, COUNTS, result=RESULT)

    def change() -> None:
        with transaction.atomic(role), transaction.get_connection(role).cursor() as cursor:
            if role == "owner":
                # Or it would see no row that it could change.
                cursor.execute("ALTER TABLE ledger_entry NO FORCE ROW LEVEL SECURITY")
            cursor.execute(statement)

    with pytest.raises(DatabaseError, match=refusal):
        change()


@pytest.mark.parametrize(
    ("way", "after"), [(["settled"], "open"), (["void"], "unknown"), (["unknown", "lost"], "settled")]
)
def test_an_illegal_step_of_an_attempt_is_impossible(owner: Persona, way: list[str], after: str) -> None:
    held = admitted(till.hold(owner.ctx, charge(), call()))

    def step(state: str) -> None:
        with operator_scope("test"):
            Attempt.objects.filter(pk=held.attempt_id).update(state=state, held_tokens=0)

    for state in way:
        step(state)
    with pytest.raises(DatabaseError, match=f"cannot go from {way[-1]} to {after}"):
        step(after)


def test_an_operation_that_is_done_stays_done(owner: Persona) -> None:
    held = admitted(till.hold(owner.ctx, charge(), call()))
    till.settle(owner.ctx, held.attempt_id, COUNTS, result=RESULT)
    with pytest.raises(DatabaseError, match="cannot go from done to pending"), operator_scope("test"):
        Operation.objects.filter(tenant_id=owner.tenant.pk).update(state="pending", lease_epoch=F("lease_epoch") + 1)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO ledger_operation SELECT * FROM ledger_operation",
        "DELETE FROM ledger_operation",
        "UPDATE ledger_operation SET state = 'failed'",
        "INSERT INTO ledger_attempt SELECT * FROM ledger_attempt",
        "UPDATE ledger_attempt SET held_tokens = 0",
        "DELETE FROM ledger_attempt",
        "INSERT INTO ledger_entry SELECT * FROM ledger_entry",
        "UPDATE ledger_budget SET spent_tokens = 0",
        "UPDATE ledger_usagedaily SET total_tokens = 0",
        "DELETE FROM ledger_usagemonthly",
        "DELETE FROM ledger_discrepancy",
        "DELETE FROM ledger_reconciliationrun",
        "DELETE FROM ledger_price",
    ],
)
def test_the_application_writes_the_books_by_the_till_alone(owner: Persona, statement: str) -> None:
    with pytest.raises(DatabaseError, match="permission denied"), unit_of_work(owner.ctx):
        execute(statement)


@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO {0} SELECT * FROM {0}", "DELETE FROM {0}"],
)
@pytest.mark.parametrize("table", ["ledger_operation", "ledger_attempt", "ledger_entry"])
def test_not_even_an_operator_adds_or_takes_away_a_row(database: None, statement: str, table: str) -> None:
    with pytest.raises(DatabaseError, match="permission denied"), operator_scope("test"):
        execute(statement.format(table))


@pytest.mark.parametrize("function", ["ledger_give_up", "ledger_adjust", "ledger_enter_again", "ledger_note"])
def test_what_is_no_tenants_is_an_operators(database: None, function: str) -> None:
    asked = "SELECT has_function_privilege(%s, %s::regproc, 'EXECUTE') AS may"
    assert [fetch_one(asked, [role, function]) for role in ("nooble_app", "nooble_operator")] == [
        {"may": False},
        {"may": True},
    ]


def test_an_attempt_of_others_is_not_found(owner: Persona, stranger: Persona) -> None:
    held = admitted(till.hold(owner.ctx, charge(), call()))
    with pytest.raises(LedgerRowNotFoundError):
        till.settle(stranger.ctx, held.attempt_id, COUNTS, result=RESULT)
    with pytest.raises(LedgerRowNotFoundError):
        till.void(stranger.ctx, held.attempt_id)
    assert not till.cancel(stranger.ctx, held.operation_id)
    as_payer_only = replace_payer(owner.ctx, stranger)
    with pytest.raises(LedgerRowNotFoundError):
        till.settle(as_payer_only, held.attempt_id, COUNTS, result=RESULT)
    till.settle(owner.ctx, held.attempt_id, COUNTS, result=RESULT)


def replace_payer(ctx: ExecutionContext, payer: Persona) -> ExecutionContext:
    return ctx.model_copy(update={"payer_tenant_id": payer.tenant.pk})
