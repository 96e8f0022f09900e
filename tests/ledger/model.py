"""What the books must be: the till's rules in plain Python, for one consumer and whoever pays for it.

It is written from what ``docs/ledger.md`` promises, not from the SQL, and is kept beside the database step by step.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from apps.core.context import ExecutionContext
from apps.core.ids import NO_ID
from apps.core.leases import LEASE
from apps.ledger.types import Charge, TokenCounts

ZERO = TokenCounts(source="estimated")
#: Where tokens count: a payer and the first day of a month.
Period = tuple[UUID, date]


def negative(counts: TokenCounts) -> TokenCounts:
    return minus(TokenCounts(), counts)


def minus(left: TokenCounts, right: TokenCounts) -> TokenCounts:
    fresh, cached, written, plain, reasoning = (a - b for a, b in zip(left.buckets, right.buckets, strict=True))
    return TokenCounts(
        fresh_input_tokens=fresh,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        plain_output_tokens=plain,
        reasoning_tokens=reasoning,
        source=left.source,
    )


@dataclass(eq=False, kw_only=True)
class Payer:
    """Who is billed, and what it has agreed to."""

    id: UUID
    zone: str = "UTC"
    monthly: int | None = None
    daily: int | None = None
    hard: bool = True


@dataclass(eq=False, kw_only=True)
class Entry:
    key: str
    payer: Payer
    day: date
    billable: bool
    counts: TokenCounts
    #: The key of the entry that this one corrects.
    corrects: str | None = None

    @property
    def kind(self) -> str:
        return "adjustment" if self.corrects else "usage"


@dataclass(eq=False, kw_only=True)
class Attempt:
    id: UUID
    operation: "Operation" = field(repr=False)
    hold: int
    day: date
    deadline: datetime
    epoch: int
    state: str = "open"
    counts: TokenCounts = ZERO
    overage: int = 0
    estimate: Entry | None = None
    held: int = 0
    #: Whether its counts are the provider's.
    is_told: bool = False

    def __post_init__(self) -> None:
        self.held = self.hold


@dataclass(eq=False, kw_only=True)
class Operation:
    ctx: ExecutionContext = field(repr=False)
    charge: Charge = field(repr=False)
    payer: Payer
    #: The zero id: it was never admitted, and the database knows nothing of it.
    id: UUID = NO_ID
    state: str = "pending"
    epoch: int = 1
    lease_until: datetime | None = None
    result: dict[str, Any] | None = None
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def key(self) -> str:
        return self.charge.idempotency_key(self.ctx.tenant_id, self.ctx.created_at)

    def answering(self) -> Attempt:
        """The attempt whose usage is that of the operation's answer."""
        [answering] = [attempt for attempt in self.attempts if attempt.state == "settled" or attempt.estimate]
        return answering

    def in_state(self, state: str) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.state == state]


@dataclass(eq=False, kw_only=True)
class Model:
    now: datetime
    payers: list[Payer]
    operations: list[Operation] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    #: Of each month that was ever held or spent in, the latest such day.
    latest: dict[Period, date] = field(default_factory=dict)
    #: How often something was noted that must be looked at, by payer, kind and what it is about.
    notes: Counter[tuple[UUID, str, str]] = field(default_factory=Counter)

    @property
    def attempts(self) -> Iterator[Attempt]:
        return (attempt for operation in self.operations for attempt in operation.attempts)

    def today(self, payer: Payer) -> date:
        return self.now.astimezone(ZoneInfo(payer.zone)).date()

    def spent(self, payer: Payer, day: date, *, month: bool) -> int:
        return sum(
            entry.counts.total_tokens
            for entry in self.entries.values()
            if entry.billable and entry.payer is payer and _same(entry.day, day, month=month)
        )

    def held(self, payer: Payer, day: date, *, month: bool) -> int:
        own = (attempt for attempt in self.attempts if attempt.operation.payer is payer)
        return sum(attempt.held for attempt in own if _same(attempt.day, day, month=month))

    def refusal(self, payer: Payer, tokens: int) -> str | None:
        """Which limit a hold would break now; None: it fits."""
        day = self.today(payer)
        if not payer.hard or tokens == 0:
            return None
        if self._breaks(payer.monthly, payer, day, tokens, month=True):
            return "month"
        # Only a change of time zone leads back to a day that is over; its limit is over, too.
        if self.latest.get((payer.id, day.replace(day=1)), day) > day:
            return None
        return "day" if self._breaks(payer.daily, payer, day, tokens, month=False) else None

    def _breaks(self, limit: int | None, payer: Payer, day: date, tokens: int, *, month: bool) -> bool:
        used = self.spent(payer, day, month=month) + self.held(payer, day, month=month)
        return limit is not None and used + tokens > limit

    def admit(self, operation: Operation, *, attempt_id: UUID, hold: int, deadline: datetime, mine: bool) -> Attempt:
        """A hold is taken, by a new delivery or by the one that has the operation already (``mine``)."""
        if operation not in self.operations:
            self.operations.append(operation)
            operation.lease_until = self.now + LEASE
        else:
            self.take_over(operation, mine=mine)
        day = self.today(operation.payer)
        epoch = operation.epoch
        attempt = Attempt(id=attempt_id, operation=operation, hold=hold, day=day, deadline=deadline, epoch=epoch)
        operation.attempts.append(attempt)
        self._touch(operation.payer, day, hold)
        return attempt

    def take_over(self, operation: Operation, *, mine: bool) -> None:
        """Lease and epoch of a further hold; what was open proves nothing."""
        for attempt in operation.in_state("open"):
            attempt.state = "unknown"
        operation.epoch += not mine
        operation.lease_until = self.now + LEASE

    def settle(self, attempt: Attempt, counts: TokenCounts, result: dict[str, Any]) -> str:
        """``settled``: the operation is done by this attempt. Otherwise as :meth:`report`."""
        operation = attempt.operation
        if operation.state != "pending" or attempt.state not in {"open", "unknown"}:
            return self.report(attempt, counts)
        self._close(attempt, "settled", counts)
        self._doubt_others(attempt)
        self._finish(operation, "done", result)
        self.enter(
            Entry(
                key=operation.key,
                payer=operation.payer,
                day=attempt.day,
                billable=operation.charge.billable,
                counts=counts,
            )
        )
        return "settled"

    def settle_partly(self, attempt: Attempt, counts: TokenCounts, state: str, result: dict[str, Any]) -> bool:
        operation = attempt.operation
        if operation.state != "pending" or attempt.state not in {"open", "unknown"}:
            return False
        entry = Entry(
            key=operation.key, payer=operation.payer, day=attempt.day, billable=operation.charge.billable, counts=counts
        )
        attempt.state, attempt.counts, attempt.estimate = "unknown", counts, entry
        self._doubt_others(attempt)
        if entry.billable:
            attempt.held -= min(attempt.held, counts.total_tokens)
        self._finish(operation, state, result)
        self.enter(entry)
        return True

    def _doubt_others(self, attempt: Attempt) -> None:
        """An answer that comes after a takeover ends the operation under the hands of whoever took it over."""
        if attempt.epoch != attempt.operation.epoch:
            for other in attempt.operation.in_state("open"):
                other.state = "unknown"

    def report(self, attempt: Attempt, counts: TokenCounts) -> str:
        """The truth about an attempt that ends no operation."""
        if attempt.state == "settled" or (attempt.state == "lost" and (attempt.is_told or counts.source != "api")):
            return "repeated"
        if attempt.state == "void":
            self.note(attempt.operation.payer, "counted_void", f"attempt {attempt.id}")
            return "contradicted"
        if (attempt.operation.payer.id, "lost_attempt", f"attempt {attempt.id}") in self.notes:
            self.note(attempt.operation.payer, "lost_attempt", f"attempt {attempt.id}")
        self._close(attempt, "settled" if attempt.estimate and attempt.state != "lost" else "lost", counts)
        if attempt.estimate is None:
            return "late"
        self._correct(attempt, minus(counts, attempt.estimate.counts))
        return "corrected"

    def void(self, attempt: Attempt) -> bool:
        if attempt.state not in {"open", "unknown"}:
            return False
        attempt.state, attempt.held, attempt.counts = "void", 0, ZERO
        if attempt.estimate:
            self._correct(attempt, negative(attempt.estimate.counts))
        return True

    def end(self, operation: Operation, state: str) -> None:
        self._finish(operation, state, None)
        for attempt in operation.in_state("open"):
            attempt.state = "unknown"

    def give_up(self, grace: timedelta) -> None:
        for attempt in self.attempts:
            if attempt.state == "unknown" and attempt.deadline < self.now - grace:
                attempt.state, attempt.held = "lost", 0
                self.note(attempt.operation.payer, "lost_attempt", f"attempt {attempt.id}")

    def close_abandoned(self, after: timedelta) -> None:
        for operation in self.operations:
            if operation.state == "pending" and operation.lease_until and operation.lease_until < self.now:
                for attempt in operation.in_state("open"):
                    attempt.state = "unknown"
                if operation.lease_until < self.now - after:
                    self._finish(operation, "failed", None)

    def enter(self, entry: Entry) -> None:
        assert entry.key not in self.entries
        self.entries[entry.key] = entry
        self._touch(entry.payer, entry.day, entry.counts.total_tokens if entry.billable else 0)

    def adjust(self, entry: Entry, key: str, counts: TokenCounts) -> None:
        """A correction counts in the payer's present day."""
        day = self.today(entry.payer)
        self.enter(
            Entry(key=key, payer=entry.payer, day=day, billable=entry.billable, counts=counts, corrects=entry.key)
        )

    def takes_too_much(self, entry: Entry, counts: TokenCounts) -> bool:
        """Whether the entry and its corrections have less in a bucket than would be taken back."""
        corrections = [other for other in self.entries.values() if other.corrects == entry.key]
        buckets = zip(*(each.counts.buckets for each in (entry, *corrections)), counts.buckets, strict=True)
        return any(sum(bucket) < 0 for bucket in buckets)

    def note(self, payer: Payer, kind: str, subject: str) -> None:
        self.notes[payer.id, kind, subject] += 1

    def _correct(self, attempt: Attempt, difference: TokenCounts) -> None:
        assert attempt.estimate
        self.adjust(attempt.estimate, f"truth:{attempt.id}", difference)

    def _close(self, attempt: Attempt, state: str, counts: TokenCounts) -> None:
        attempt.state, attempt.held, attempt.counts = state, 0, counts
        attempt.is_told = counts.source == "api"
        if attempt.operation.charge.billable and counts.total_tokens > attempt.hold:
            attempt.overage = counts.total_tokens - attempt.hold
            self.note(attempt.operation.payer, "overage", f"attempt {attempt.id}")

    def _finish(self, operation: Operation, state: str, result: dict[str, Any] | None) -> None:
        operation.state, operation.result, operation.lease_until = state, result, None

    def _touch(self, payer: Payer, day: date, tokens: int) -> None:
        if tokens:
            period = payer.id, day.replace(day=1)
            self.latest[period] = max(self.latest.get(period, day), day)


def _same(one: date, other: date, *, month: bool) -> bool:
    return one.replace(day=1) == other.replace(day=1) if month else one == other
