"""Usage that no call of the till made: booked by key, once, with statistics and budget."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import Error

from apps.core import clock, db, persistence
from apps.core.context import ExecutionContext
from apps.core.ids import new_id
from apps.ledger import booking, metadata, spool
from apps.ledger.booking import BATCH, Item, Recorded
from apps.ledger.errors import InvalidUsageError, SpoolUnavailableError
from apps.ledger.spool import Reporter
from apps.ledger.types import BUCKETS, OperationKind, TokenCounts, TokenType, digest

__all__ = ["Recorded", "UsageEvent", "record", "record_many", "track_token_usage", "track_token_usage_many"]

logger = logging.getLogger(__name__)

MAX_KEY_CHARACTERS = 255
#: What the keys of corrections begin with: a report under one of them would keep the correction from being booked.
RESERVED = ("adjust:", "admin:", "reprice:", "truth:")
MAX_NAME_CHARACTERS = {"provider": 64, "model": 128, "model_family": 64}
#: More than anything that one report can mean, and so little that sums of millions of them fit their columns.
MAX_TOKENS = 10**12
#: Whoever reports may have a clock that is fast, and be late, but not by more.
MAX_AHEAD = timedelta(minutes=5)
MAX_AGE = timedelta(days=366)


@dataclass(frozen=True, kw_only=True)
class UsageEvent:
    """Usage of one piece of work. However often it is reported, the ledger holds one entry for its key."""

    idempotency_key: str
    counts: TokenCounts
    token_type: TokenType
    operation: OperationKind
    provider: str = ""
    model: str
    model_family: str = ""
    billable: bool = True
    occurred_at: datetime = field(default_factory=clock.now)
    agent_id: UUID | None = None
    collection_id: UUID | None = None
    document_id: UUID | None = None
    conversation_id: UUID | None = None
    run_id: UUID | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raise InvalidUsageError for what cannot be booked."""
        key = self.idempotency_key
        if not is_text(key) or not 1 <= len(key) <= MAX_KEY_CHARACTERS:
            raise InvalidUsageError(f"The idempotency key must have 1 to {MAX_KEY_CHARACTERS} characters.")
        for name, longest in MAX_NAME_CHARACTERS.items():
            if not is_text(value := getattr(self, name)) or len(value) > longest:
                raise InvalidUsageError(f"`{name}` must be text of at most {longest} characters.")
        if not self.model:
            raise InvalidUsageError("Name the model.")
        if not all(type(tokens) is int and tokens >= 0 for tokens in self.counts.buckets):
            raise InvalidUsageError("Tokens must be whole numbers, none negative, and not all zero.")
        if not 1 <= self.counts.total_tokens <= MAX_TOKENS:
            raise InvalidUsageError(f"Tokens must be 1 to {MAX_TOKENS} in all.")
        if self.occurred_at.tzinfo is None:
            raise InvalidUsageError("`occurred_at` must name its time zone.")

    def check_report(self) -> None:
        """As :meth:`check`, for what somebody else says: when it happened, and what else there is to say of it."""
        self.check()
        if self.idempotency_key.startswith(RESERVED):
            raise InvalidUsageError(f"Keys that begin with {', '.join(RESERVED)} are those of corrections.")
        check_moment(self.occurred_at)
        metadata.check_client(self.metadata)

    @property
    def payload_hash(self) -> str:
        """What must be the same when the key comes again."""
        content = {
            "counts": self.counts,
            "provider": self.provider,
            "model": self.model,
            "token_type": self.token_type.value,
            "operation": self.operation.value,
        }
        return digest(content)


def check_moment(occurred_at: datetime) -> None:
    """Raise InvalidUsageError for a moment that cannot be when reported usage happened."""
    if not -MAX_AHEAD <= clock.now() - occurred_at <= MAX_AGE:
        raise InvalidUsageError(
            f"`occurred_at` must lie within the last {MAX_AGE.days} days, and not in the future. "
            "Correct the clock; what is older is for the operator to adjust."
        )


def track_token_usage(  # noqa: PLR0917 - a published signature
    tenant_id: UUID,
    tokens: int | TokenCounts,
    model: str,
    token_type: str,
    operation: str,
    agent_id: UUID | None,
    conversation_id: UUID | None,
    idempotency_key: str,
    metadata: Mapping[str, Any] | None = None,
    *,
    provider: str = "",
    occurred_at: datetime | None = None,
) -> Recorded:
    """Book usage of a tenant that happened outside nooble: fine-tuning, another service.

    ``tokens`` is a plain number, booked as fresh input, or counts in buckets. However often it is called with a key,
    the ledger holds one entry for it; the same key with other content raises IdempotencyConflictError. While the
    database is away, see :func:`track_token_usage_many`.
    """
    event = UsageEvent(
        idempotency_key=idempotency_key,
        counts=tokens if isinstance(tokens, TokenCounts) else TokenCounts(fresh_input_tokens=tokens),
        token_type=_member(TokenType, token_type),
        operation=_member(OperationKind, operation),
        provider=provider,
        model=model,
        agent_id=agent_id,
        conversation_id=conversation_id,
        occurred_at=occurred_at or clock.now(),
        metadata=metadata or {},
    )
    return _raised(track_token_usage_many(tenant_id, [event]))


def track_token_usage_many(tenant_id: UUID, events: Sequence[UsageEvent]) -> list[Recorded]:
    """Book many events of a tenant; one outcome for each, in their order. A bad one harms no other.

    While the database is away it is tried again for ``SPOOL_AFTER_SECONDS``; then all of them are kept on this host's
    disk and booked when it is back (``spooled``): nothing is checked against the database before that, the tenant
    included. Raises LedgerRowNotFoundError for an unknown tenant, and SpoolUnavailableError when an event could be kept
    nowhere. In a transaction, which must be the tenant's unit of work, the events are booked with it or not at all.
    """
    recorded = _each(events, UsageEvent.check_report, lambda items: _kept(Reporter(tenant_id=tenant_id), items))
    if db.outside_transactions() and all(each.outcome != "spooled" for each in recorded):
        _catch_up()
    return recorded


def record(ctx: ExecutionContext, event: UsageEvent) -> Recorded:
    """Book usage for the context's consumer, owner and payer; raises IdempotencyConflictError, InvalidUsageError."""
    return _raised(record_many(ctx, [event]))


def record_many(ctx: ExecutionContext, events: Sequence[UsageEvent]) -> list[Recorded]:
    """Book events for the context's parties, each batch of them in one transaction with statistics and budget.

    One outcome for each, in their order; a bad one harms no other.
    """
    return _each(events, UsageEvent.check, lambda items: booking.book(ctx, items), context_id=ctx.context_id)


def _each(
    events: Sequence[UsageEvent],
    check: Callable[[UsageEvent], None],
    book: Callable[[Sequence[Item]], list[Recorded]],
    *,
    context_id: UUID | None = None,
) -> list[Recorded]:
    """Outcomes in the order of the events: of those that pass the check by booking them, of the others what it says."""
    refusals = [_refusal(event, check) for event in events]
    good = [event for event, refusal in zip(events, refusals, strict=True) if refusal is None]
    booked = iter(book([_item(event, context_id) for event in good]) if good else ())
    return [refusal or next(booked) for refusal in refusals]


def _refusal(event: UsageEvent, check: Callable[[UsageEvent], None]) -> Recorded | None:
    try:
        check(event)
    except InvalidUsageError as error:
        return Recorded(outcome="invalid", error=error)
    return None


def _kept(reporter: Reporter, items: Sequence[Item]) -> list[Recorded]:
    """Book the items, or spool all of them: those that were booked before the connection broke are found by key."""
    try:
        return persistence.repeated(lambda: booking.book(reporter, items), seconds=settings.SPOOL_AFTER_SECONDS)
    except Error as error:
        # What was to be written in the caller's transaction is lost with it, and the caller's to repeat.
        if not persistence.is_away(error) or not db.outside_transactions():
            raise
        ids = spool.add(reporter.tenant_id, items)
    return [Recorded(outcome="spooled", entry_id=entry_id) for entry_id in ids]


def _catch_up() -> None:
    """Book a batch of what waits, now that the database is there. What hinders it does not touch the present call."""
    try:
        spool.replay(at_most=BATCH)
    except (Error, SpoolUnavailableError):
        logger.warning("spooled usage still waits", exc_info=True)


def _raised(recorded: Sequence[Recorded]) -> Recorded:
    [only] = recorded
    if only.error:
        raise only.error
    return only


def _item(event: UsageEvent, context_id: UUID | None) -> dict[str, Any]:
    """An event as ``ledger_record`` reads it. It keeps its id however often it is tried."""
    counts = event.counts
    return {
        "id": new_id(),
        "key": event.idempotency_key,
        "hash": event.payload_hash,
        "token_type": event.token_type.value,
        "operation": event.operation.value,
        "provider": event.provider,
        "model": event.model,
        "model_family": event.model_family,
        **dict(zip(BUCKETS, counts.buckets, strict=True)),
        "token_source": counts.source,
        "billable": event.billable,
        "occurred_at": event.occurred_at.isoformat(),
        "agent_id": event.agent_id,
        "collection_id": event.collection_id,
        "document_id": event.document_id,
        "conversation_id": event.conversation_id,
        "run_id": event.run_id,
        "context_id": context_id,
        "metadata": dict(event.metadata),
    }


def is_text(value: Any) -> bool:
    """Whether PostgreSQL can hold it as text: no null character, no half of a surrogate pair."""
    return isinstance(value, str) and "\0" not in value and not any("\ud800" <= sign <= "\udfff" for sign in value)


def _member(kind: Any, value: str) -> Any:
    if value not in kind.values:
        raise InvalidUsageError(f"“{value}” is not one of {', '.join(kind.values)}.")
    return kind(value)
