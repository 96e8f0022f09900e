"""Usage that happened elsewhere: booked by key, once, with statistics and budget, and no call of the till."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from apps.core import clock, db
from apps.core.context import ExecutionContext
from apps.core.ids import new_id
from apps.ledger import functions
from apps.ledger.errors import IdempotencyConflictError, InvalidUsageError
from apps.ledger.types import OperationKind, TokenCounts, TokenType, digest
from apps.tenants import services as tenants

MAX_KEY_CHARACTERS = 255


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """``duplicate``: the key was booked before, and ``entry_id`` is the first one's."""

    outcome: Literal["created", "duplicate"]
    entry_id: UUID


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
    the ledger holds one entry for it; the same key with other content raises IdempotencyConflictError.
    """
    counts = tokens if isinstance(tokens, TokenCounts) else TokenCounts(fresh_input_tokens=tokens)
    return record(
        tenants.context_of_id(tenant_id),
        counts,
        provider=provider,
        model=model,
        token_type=_member(TokenType, token_type),
        operation=_member(OperationKind, operation),
        idempotency_key=idempotency_key,
        agent_id=agent_id,
        conversation_id=conversation_id,
        occurred_at=occurred_at,
        metadata=metadata,
    )


def record(
    ctx: ExecutionContext,
    counts: TokenCounts,
    *,
    provider: str,
    model: str,
    model_family: str = "",
    token_type: TokenType,
    operation: OperationKind,
    idempotency_key: str,
    billable: bool = True,
    occurred_at: datetime | None = None,
    agent_id: UUID | None = None,
    collection_id: UUID | None = None,
    document_id: UUID | None = None,
    conversation_id: UUID | None = None,
    run_id: UUID | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Recorded:
    """Book usage for the context's consumer, owner and payer; in one transaction with statistics and budget."""
    _check(counts, idempotency_key, model)
    content = {
        "counts": counts,
        "provider": provider,
        "model": model,
        "token_type": token_type.value,
        "operation": operation.value,
    }
    row = functions.call(
        "ledger_record",
        *db.parties(ctx),
        new_id(),
        idempotency_key,
        digest(content),
        token_type.value,
        operation.value,
        billable,
        provider,
        model,
        model_family,
        counts.fresh_input_tokens,
        counts.cached_input_tokens,
        counts.cache_write_tokens,
        counts.plain_output_tokens,
        counts.reasoning_tokens,
        counts.source,
        occurred_at or clock.now(),
        agent_id,
        collection_id,
        document_id,
        conversation_id,
        run_id,
        ctx.context_id,
        functions.to_json(metadata or {}),
    )
    if row["outcome"] == "conflict":
        raise IdempotencyConflictError("Use a new key for new content.", entry_id=str(row["entry_id"]))
    return Recorded(outcome=row["outcome"], entry_id=row["entry_id"])


def _check(counts: TokenCounts, idempotency_key: str, model: str) -> None:
    if not idempotency_key or len(idempotency_key) > MAX_KEY_CHARACTERS:
        raise InvalidUsageError(f"The idempotency key must have 1 to {MAX_KEY_CHARACTERS} characters.")
    if not model:
        raise InvalidUsageError("Name the model.")
    buckets = (
        counts.fresh_input_tokens,
        counts.cached_input_tokens,
        counts.cache_write_tokens,
        counts.plain_output_tokens,
        counts.reasoning_tokens,
    )
    if min(buckets) < 0 or sum(buckets) == 0:
        raise InvalidUsageError("Tokens must be whole numbers, none negative, and not all zero.")


def _member(kind: Any, value: str) -> Any:
    if value not in kind.values:
        raise InvalidUsageError(f"“{value}” is not one of {', '.join(kind.values)}.")
    return kind(value)
