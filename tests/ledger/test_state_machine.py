"""Any steps in any order: after each one, everything in the books is what a plain model says it must be.

``LEDGER_EXAMPLES`` and ``LEDGER_SEED`` make it longer and other; a failure says with which seed it comes again.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

import pytest
from django.conf import settings as configured
from django.db import DatabaseError, IntegrityError, connections, transaction
from hypothesis import HealthCheck, Phase, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from apps.core.context import ExecutionContext
from apps.core.db import fetch_one, operator_scope, unit_of_work
from apps.core.errors import NoobleError
from apps.core.ids import NO_ID, new_id
from apps.ledger import records, statements, sweeping, till
from apps.ledger.adjustments import adjust
from apps.ledger.errors import (
    AdjustmentRefusedError,
    BudgetExceededError,
    IdempotencyConflictError,
    OperationEndedError,
    OperationInProgressError,
)
from apps.ledger.models import Attempt as AttemptRow
from apps.ledger.models import Operation as OperationRow
from apps.ledger.types import (
    Admitted,
    AttemptState,
    Call,
    Charge,
    Held,
    OperationKind,
    OperationState,
    Replay,
    TokenCounts,
    TokenType,
    Unresolved,
)
from apps.tenants import services as tenants
from apps.tenants.models import Tenant
from tests.ledger.comparison import Comparison
from tests.ledger.model import Attempt, Entry, Model, Operation, Payer
from tests.ledger.standing_clock import set_clock, standing_clock

EXAMPLES = int(os.environ.get("LEDGER_EXAMPLES", "50"))
SEED = int(os.environ.get("LEDGER_SEED", "1"))
STEPS = 50

#: So long ago that no other test's rows are as old; two days before a month ends, in a leap year.
BEGINNING = datetime(2020, 2, 28, 11, tzinfo=UTC)
GRACE = timedelta(seconds=configured.UNKNOWN_GRACE_SECONDS)
DEADLINE_SECONDS = 30
#: Less than a lease, more than one, more than abandoned work is left, a day and more, a month and more.
PAUSES = [timedelta(seconds=5), timedelta(seconds=20), timedelta(hours=2), timedelta(hours=25), timedelta(days=32)]
#: Twenty-six hours apart, so that two of them never have one date.
ZONES = st.sampled_from(["Pacific/Kiritimati", "UTC", "Etc/GMT+12"])

TOKENS = st.integers(0, 60)
COUNTS = st.builds(
    TokenCounts,
    fresh_input_tokens=TOKENS,
    cached_input_tokens=TOKENS,
    plain_output_tokens=TOKENS,
    reasoning_tokens=TOKENS,
    source=st.sampled_from(["api", "estimated"]),
)
CHANGES = st.builds(TokenCounts, fresh_input_tokens=st.integers(-60, 60), plain_output_tokens=st.integers(-60, 60))
HOLDS = st.sampled_from([0, 40, 100, 300])
LIMITS = st.sampled_from([None, 0, 100, 300, 600, 2000])
KEYS = st.sampled_from(["a", "b", "c"])
ADJUSTMENT_KEYS = KEYS.map("adjust-{}".format)
PARTLY: st.SearchStrategy[Literal[OperationState.DONE, OperationState.CANCELLED]] = st.sampled_from(
    [OperationState.DONE, OperationState.CANCELLED]
)
MOSTLY = st.sampled_from([True, True, True, False])
#: Who pays, whether it is billed, and what is set aside.
Question = tuple[int, bool, int]
QUESTIONS = st.tuples(st.sampled_from([0, 1]), MOSTLY, HOLDS)
LEGAL = {("open", "settled"), ("open", "void"), ("open", "unknown")} | {
    ("unknown", state) for state in ("settled", "void", "lost")
}
OVERWRITES = [
    "UPDATE ledger_entry SET total_tokens = 0, fresh_input_tokens = 0",
    "UPDATE ledger_entry SET day = day + 1",
    "DELETE FROM ledger_entry",
]


#: Whose books were played with.
TENANTS: list[UUID] = []


@dataclass(frozen=True, kw_only=True)
class OtherContent(Charge):
    """Content that came under another charge's key."""

    key: str

    def idempotency_key(self, tenant_id: UUID, requested_at: datetime) -> str:
        return self.key


class Till(RuleBasedStateMachine):
    """One consumer, who pays for itself or whose questions to another's agent that one pays."""

    def __init__(self) -> None:
        super().__init__()
        note(f"LEDGER_SEED={SEED}")
        made = [tenants.create_tenant(slug=f"t-{uuid4().hex[:12]}", name="T", tier="enterprise")[0] for _ in range(2)]
        self.ctx = tenants.context_of(made[0])
        self.model = Model(now=BEGINNING, payers=[Payer(id=tenant.pk) for tenant in made])
        self.comparison = Comparison(self.model)
        TENANTS.extend(payer.id for payer in self.model.payers)
        set_clock(BEGINNING)

    def teardown(self) -> None:
        """In the end everything has ended, and nothing is set aside any more."""
        for _ in range(2):
            self._pass(timedelta(hours=25))
            self.the_sweeper_comes()
            self.doubt_is_given_up()
        assert all(operation.state != "pending" for operation in self.model.operations)
        assert sum(attempt.held for attempt in self.model.attempts) == 0
        self.everything_is_as_it_must_be()
        for payer_id, month in self.model.latest:
            parties = dict.fromkeys(("tenant_id", "owner_tenant_id", "payer_tenant_id"), payer_id)
            assert statements.statement(self.ctx.model_copy(update=parties), month).differences() == []

    # What the gateway does.

    @initialize(questions=st.lists(QUESTIONS, min_size=1, max_size=4), zone=ZONES, monthly=LIMITS, daily=LIMITS)
    def the_day_begins(self, questions: list[Question], zone: str, monthly: int | None, daily: int | None) -> None:
        self._move(0, zone)
        self.terms_change(0, monthly, daily, hard=True)
        for question in questions:
            self._ask(question)

    @rule(question=QUESTIONS)
    def somebody_asks(self, question: Question) -> None:
        self._ask(question)

    @precondition(lambda self: self.model.operations)
    @rule(data=st.data(), tokens=HOLDS, mine=st.booleans())
    def it_is_delivered_again(self, data: st.DataObject, tokens: int, mine: bool) -> None:
        attempt = self._attempt(data)
        self._hold(attempt.operation, tokens, mine=mine)

    def _ask(self, question: Question) -> None:
        payer, billable, tokens = question
        paying = self.model.payers[payer]
        charge = Charge(
            operation=OperationKind.CHAT, token_type=TokenType.LLM, payload={"q": str(uuid4())}, billable=billable
        )
        self._hold(Operation(ctx=self._ctx(paying), charge=charge, payer=paying), tokens)

    def _hold(self, operation: Operation, tokens: int, *, mine: bool = False) -> None:
        call = Call(provider="fake", model="fake-1", hold_tokens=tokens, deadline_seconds=DEADLINE_SECONDS)
        expected = self._expected_of_hold(operation, tokens, mine=mine)
        epoch = operation.epoch if mine else 0
        try:
            held = till.hold(operation.ctx, operation.charge, call, epoch=epoch)
        except (BudgetExceededError, OperationInProgressError, OperationEndedError) as error:
            self._check_refusal(error, expected, operation.payer, tokens)
            return
        assert type(held).__name__ == expected
        self._held(operation, call, held, mine=mine)

    def _held(self, operation: Operation, call: Call, held: Held, *, mine: bool) -> None:
        if isinstance(held, Replay):
            assert held.result == operation.result
            assert held.counts.buckets == operation.answering().counts.buckets
            return
        if isinstance(held, Unresolved):
            self.model.take_over(operation, mine=False)
            assert [left.id for left in held.attempts] == [attempt.id for attempt in operation.in_state("unknown")]
            assert held.epoch == operation.epoch
            return
        assert isinstance(held, Admitted)
        operation.id = held.operation_id
        tokens = call.hold_tokens if operation.charge.billable else 0
        deadline = self.model.now + timedelta(seconds=DEADLINE_SECONDS)
        self.model.admit(operation, attempt_id=call.attempt_id, hold=tokens, deadline=deadline, mine=mine)
        assert held.epoch == operation.epoch
        self._check_limits(operation.payer, tokens)

    @precondition(lambda self: self.model.operations)
    @rule(data=st.data(), counts=COUNTS)
    def settle(self, data: st.DataObject, counts: TokenCounts) -> None:
        attempt = self._attempt(data)
        operation, result = attempt.operation, {"text": str(uuid4())}
        settlement = till.settle(operation.ctx, attempt.id, counts, result=result)
        outcome = self.model.settle(attempt, counts, result)
        assert settlement.late == (outcome != "settled")
        assert (settlement.operation_id, settlement.state) == (operation.id, operation.state)
        assert settlement.result == (operation.result or {})

    @precondition(lambda self: self.model.operations)
    @rule(data=st.data(), counts=COUNTS, state=PARTLY)
    def settle_partly(
        self,
        data: st.DataObject,
        counts: TokenCounts,
        state: Literal[OperationState.DONE, OperationState.CANCELLED],
    ) -> None:
        attempt = self._attempt(data)
        counts = replace(counts, source="estimated")
        result = {"text": str(uuid4()), "partial": True}
        ended = till.settle_partly(attempt.operation.ctx, attempt.id, counts, state=state, result=result)
        assert ended == self.model.settle_partly(attempt, counts, state.value, result)

    @precondition(lambda self: self.model.operations)
    @rule(data=st.data(), counts=COUNTS)
    def report(self, data: st.DataObject, counts: TokenCounts) -> None:
        attempt = self._attempt(data)
        assert till.report(attempt.operation.ctx, attempt.id, counts) == self.model.report(attempt, counts)

    @precondition(lambda self: self.model.operations)
    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        attempt = self._attempt(data)
        assert till.void(attempt.operation.ctx, attempt.id) == self.model.void(attempt)

    @precondition(lambda self: self.model.operations)
    @rule(data=st.data(), seen=COUNTS)
    def mark_unknown(self, data: st.DataObject, seen: TokenCounts) -> None:
        attempt = self._attempt(data)
        seen = replace(seen, source="estimated")
        changes = attempt.state == "open"
        assert till.mark_unknown(attempt.operation.ctx, attempt.id, seen=seen) == changes
        if changes:
            attempt.state, attempt.counts = "unknown", seen

    @precondition(lambda self: self.model.operations)
    @rule(data=st.data(), behind=st.sampled_from([0, 1]))
    def fail(self, data: st.DataObject, behind: int) -> None:
        attempt = self._attempt(data)
        operation = attempt.operation
        ends = operation.state == "pending" and behind == 0
        epoch = operation.epoch - behind
        assert till.fail(operation.ctx, operation.id, epoch=epoch, code="test", detail="") == ends
        if ends:
            self.model.end(operation, "failed")

    @precondition(lambda self: self.model.operations)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        attempt = self._attempt(data)
        operation = attempt.operation
        ends = operation.state == "pending"
        assert till.cancel(operation.ctx, operation.id) == ends
        if ends:
            self.model.end(operation, "cancelled")

    @precondition(lambda self: self.model.operations)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        attempt = self._attempt(data)
        operation = attempt.operation
        if operation.state != "pending":
            return
        till.release(operation.ctx, operation.id, epoch=operation.epoch)
        operation.lease_until = self.model.now

    @precondition(lambda self: self.model.operations)
    @rule(data=st.data())
    def the_key_comes_with_other_content(self, data: st.DataObject) -> None:
        attempt = self._attempt(data)
        operation = attempt.operation
        other = OtherContent(
            key=operation.key, operation=OperationKind.CHAT, token_type=TokenType.LLM, payload={"q": str(uuid4())}
        )
        with pytest.raises(IdempotencyConflictError):
            till.hold(operation.ctx, other, Call(provider="f", model="f", hold_tokens=1, deadline_seconds=1))
        self.model.note(operation.payer, "idempotency_conflict", f"operation {operation.id}")

    @precondition(lambda self: self.model.operations)
    @rule(data=st.data(), acts=st.lists(st.sampled_from(["again", "settle", "partly", "report", "void", "unknown"])))
    def a_call_goes_its_way(self, data: st.DataObject, acts: list[str]) -> None:
        """Several of the steps above at once, since they are what it is about."""
        for act in acts:
            counts = data.draw(COUNTS)
            match act:
                case "again":
                    self.it_is_delivered_again(data, data.draw(HOLDS), data.draw(st.booleans()))
                case "settle":
                    self.settle(data, counts)
                case "partly":
                    self.settle_partly(data, counts, data.draw(PARTLY))
                case "report":
                    self.report(data, counts)
                case "void":
                    self.void(data)
                case _:
                    self.mark_unknown(data, counts)
            self.everything_is_as_it_must_be()

    # What happens elsewhere.

    @rule(payer=st.sampled_from([0, 1]), reports=st.lists(st.tuples(KEYS, COUNTS, st.booleans()), max_size=4))
    def usage_is_reported(self, payer: int, reports: list[tuple[str, TokenCounts, bool]]) -> None:
        paying, today = self.model.payers[payer], self.model.today(self.model.payers[payer])
        reports = [report for report in reports if report[1].total_tokens]
        events = [_event(key, counts, billable, self.model.now) for key, counts, billable in reports]
        recorded = records.record_many(self._ctx(paying), events)
        for (key, counts, billable), found in zip(reports, recorded, strict=True):
            first = self.model.entries.get(key)
            if first is None:
                entry = Entry(key=key, payer=paying, day=today, billable=billable, counts=counts)
                self.model.enter(entry)
            assert found.outcome == (
                "created" if first is None else "duplicate" if first.counts == counts else "conflict"
            )
            if found.outcome == "conflict":
                self.model.note(paying, "idempotency_conflict", f"entry {found.entry_id}")

    @rule(data=st.data(), counts=CHANGES, key=st.one_of(st.none(), ADJUSTMENT_KEYS))
    def an_entry_is_adjusted(self, data: st.DataObject, counts: TokenCounts, key: str | None) -> None:
        if not self.model.entries:
            return
        entry = self.model.entries[data.draw(st.sampled_from(list(self.model.entries)))]
        key = key or f"adjust-{uuid4()}"
        ctx = self._ctx(entry.payer)
        with unit_of_work(ctx):
            row = fetch_one("SELECT id FROM ledger_entry WHERE idempotency_key = %s", [entry.key])
        assert row is not None
        if refusal := self._expected_refusal(entry, counts, key):
            with pytest.raises(refusal):
                adjust(row["id"], counts, reason="test", actor="test", key=key)
            return
        adjust(row["id"], counts, reason="test", actor="test", key=key)
        if key not in self.model.entries:
            self.model.adjust(entry, key, counts)

    @rule(payer=st.sampled_from([0, 1]), monthly=LIMITS, daily=LIMITS, hard=st.sampled_from([True, True, False]))
    def terms_change(self, payer: int, monthly: int | None, daily: int | None, hard: bool) -> None:
        paying = self.model.payers[payer]
        paying.monthly, paying.daily, paying.hard = monthly, daily, hard
        with operator_scope("test"):
            Tenant.objects.filter(pk=paying.id).update(
                monthly_token_limit=monthly, daily_token_limit=daily, hard_limit=hard
            )

    @rule(zone=ZONES, question=QUESTIONS)
    def a_payer_moves_and_is_asked(self, zone: str, question: Question) -> None:
        self._move(question[0], zone)
        self._ask(question)

    @rule(pause=st.sampled_from(PAUSES), question=QUESTIONS)
    def time_passes_and_somebody_asks(self, pause: timedelta, question: Question) -> None:
        self._pass(pause)
        self._ask(question)

    def _move(self, payer: int, zone: str) -> None:
        self.model.payers[payer].zone = zone
        with operator_scope("test"):
            Tenant.objects.filter(pk=self.model.payers[payer].id).update(time_zone=zone)

    @rule(pause=st.sampled_from(PAUSES))
    def time_passes(self, pause: timedelta) -> None:
        self._pass(pause)

    def _pass(self, pause: timedelta) -> None:
        self.model.now += pause
        set_clock(self.model.now)

    @rule()
    def the_sweeper_comes(self) -> None:
        sweeping.close_abandoned()
        self.model.close_abandoned(sweeping.ABANDONED_AFTER)

    @rule()
    def doubt_is_given_up(self) -> None:
        while sweeping.give_up():
            pass
        self.model.give_up(GRACE)

    # What nobody may do.

    @precondition(lambda self: self.model.operations)
    @rule(data=st.data(), state=st.sampled_from(AttemptState.values))
    def an_attempt_is_forced(self, data: st.DataObject, state: str) -> None:
        attempt = self._attempt(data)
        if state == attempt.state or (attempt.state, state) in LEGAL:
            return
        with (
            pytest.raises(DatabaseError, match=f"cannot go from {attempt.state} to {state}"),
            operator_scope("test"),
        ):
            AttemptRow.objects.filter(pk=attempt.id).update(state=state, held_tokens=0)

    @precondition(lambda self: self.model.operations)
    @rule(data=st.data(), state=st.sampled_from(OperationState.values))
    def an_operation_is_forced(self, data: st.DataObject, state: str) -> None:
        attempt = self._attempt(data)
        operation = attempt.operation
        if operation.state in {"pending", state}:
            return
        with (
            pytest.raises(DatabaseError, match=f"cannot go from {operation.state} to {state}"),
            operator_scope("test"),
        ):
            OperationRow.objects.filter(pk=operation.id).update(state=state)

    @precondition(lambda self: self.model.operations)
    @rule(data=st.data())
    def a_second_attempt_is_forged(self, data: st.DataObject) -> None:
        attempt = self._attempt(data)
        if attempt.state != "open":
            return
        with unit_of_work(attempt.operation.ctx):
            row = AttemptRow.objects.get(pk=attempt.id)
        row.pk, row.number = new_id(), row.number + 1000
        with pytest.raises(IntegrityError, match="one_open_attempt"), as_the_till():
            row.save(force_insert=True, using="owner")

    @precondition(lambda self: self.model.entries)
    @rule(statement=st.sampled_from(OVERWRITES))
    def an_entry_is_overwritten(self, statement: str) -> None:
        with pytest.raises(DatabaseError, match="permission denied"), unit_of_work(self.ctx):
            fetch_one(statement + " RETURNING id")

    # What must be true.

    @invariant()
    def everything_is_as_it_must_be(self) -> None:
        self.comparison.check()

    def _check_limits(self, payer: Payer, hold: int) -> None:
        """Right after a hold was admitted, the database itself says that it fits."""
        if not payer.hard or payer.monthly is None or hold == 0:
            return
        month = self.model.today(payer).replace(day=1)
        with operator_scope("test"):
            row = fetch_one(
                "SELECT spent_tokens + held_tokens AS used FROM ledger_budget WHERE tenant_id = %s AND starts_on = %s",
                [payer.id, month],
            )
        assert row is not None
        assert row["used"] <= payer.monthly

    def _check_refusal(self, error: NoobleError, expected: str, payer: Payer, tokens: int) -> None:
        assert error.code == expected
        if not isinstance(error, BudgetExceededError):
            return
        month, day = error.extra["period"] == "month", self.model.today(payer)
        assert error.extra["limit_tokens"] == (payer.monthly if month else payer.daily)
        assert error.extra["spent_tokens"] == self.model.spent(payer, day, month=month)
        assert error.extra["held_tokens"] == self.model.held(payer, day, month=month)
        assert error.extra["needed_tokens"] == tokens
        assert error.extra["period"] == self.model.refusal(payer, tokens)

    def _expected_of_hold(self, operation: Operation, tokens: int, *, mine: bool) -> str:
        if operation.state == "done":
            return "Replay"
        if operation.state != "pending":
            return OperationEndedError.code
        known = operation.id != NO_ID
        if known and not mine and operation.lease_until and operation.lease_until > self.model.now:
            return OperationInProgressError.code
        if known and not mine and (operation.in_state("open") or operation.in_state("unknown")):
            return "Unresolved"
        refused = self.model.refusal(operation.payer, tokens if operation.charge.billable else 0)
        return BudgetExceededError.code if refused else "Admitted"

    def _expected_refusal(self, entry: Entry, counts: TokenCounts, key: str) -> type[NoobleError] | None:
        if not any(counts.buckets) or entry.kind == "adjustment":
            return AdjustmentRefusedError
        if other := self.model.entries.get(key):
            same = other.corrects == entry.key and other.counts.buckets == counts.buckets
            return None if same else IdempotencyConflictError
        return AdjustmentRefusedError if self.model.takes_too_much(entry, counts) else None

    def _attempt(self, data: st.DataObject) -> Attempt:
        """Mostly one about which there is something to say yet."""
        every = list(self.model.attempts)
        live = [attempt for attempt in every if attempt.state in {"open", "unknown"}]
        mostly: bool = data.draw(MOSTLY)
        chosen = live if live and mostly else every
        return data.draw(st.sampled_from(chosen), label="attempt")

    def _ctx(self, payer: Payer) -> ExecutionContext:
        return self.ctx.model_copy(update={"owner_tenant_id": payer.id, "payer_tenant_id": payer.id})


def _event(key: str, counts: TokenCounts, billable: bool, now: datetime) -> records.UsageEvent:
    return records.UsageEvent(
        idempotency_key=key,
        counts=counts,
        token_type=TokenType.FINE_TUNING,
        operation=OperationKind.BATCH,
        model="ft-1",
        billable=billable,
        occurred_at=now,
    )


def play(examples: int, **options: Any) -> None:
    """Steps of the machine until one leads to books that are not as they must be."""
    machine = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        **options,
    )
    run_state_machine_as_test(seed(SEED)(Till), settings=machine)


@contextmanager
def as_the_till() -> Iterator[None]:
    """The only role that may insert attempts."""
    with transaction.atomic("owner"):
        with connections["owner"].cursor() as cursor:
            cursor.execute("SET LOCAL ROLE nooble_till")
        yield


@pytest.fixture
def clock_schema(database: None) -> Iterator[str]:
    with standing_clock() as schema:
        yield schema
    forget(TENANTS)
    TENANTS.clear()


def forget(payers: list[UUID]) -> None:
    """Remove their books, past policies and triggers: wrong ones would be in the way of every sweep after us."""
    tables = ("entry", "attempt", "operation", "usagedaily", "usagemonthly", "budget", "discrepancy")
    with transaction.atomic("owner"), connections["owner"].cursor() as cursor:
        for table in tables:
            payer = "tenant_id" if table in {"budget", "discrepancy"} else "payer_tenant_id"
            cursor.execute(f"ALTER TABLE ledger_{table} NO FORCE ROW LEVEL SECURITY, DISABLE TRIGGER USER")
            cursor.execute(f"DELETE FROM ledger_{table} WHERE {payer} = ANY(%s)", [payers])
            cursor.execute(f"ALTER TABLE ledger_{table} FORCE ROW LEVEL SECURITY, ENABLE TRIGGER USER")


@pytest.mark.timeout(0)
def test_after_any_steps_the_books_are_what_they_must_be(clock_schema: str) -> None:
    play(EXAMPLES)


@pytest.mark.parametrize(
    ("function", "right", "wrong"),
    [
        ("ledger_move", "greatest(b.held_tokens - p_released, 0)", "b.held_tokens"),
        ("ledger_move", "b.spent_tokens + p_spent", "b.spent_tokens + 2 * p_spent"),
        ("ledger_take", "NOT terms.is_hard OR", "true OR"),
    ],
    ids=["a hold is not released", "usage is counted twice", "a hold is taken unconditionally"],
)
def test_a_till_that_errs_is_found_out(clock_schema: str, function: str, right: str, wrong: str) -> None:
    with connections["owner"].cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef(%s::regproc)", [function])
        source = cursor.fetchone()[0]
        assert right in source, "the function has changed: change the mutation, too"
        cursor.execute(source.replace("public.", f"{clock_schema}.", 1).replace(right, wrong))
    with pytest.raises(AssertionError):
        play(EXAMPLES, phases=[Phase.generate])
