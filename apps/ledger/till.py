"""The ledger's side of the till: hold, settle, void, unknown, fail. Each is one round trip to one database function.

The functions, their locks and what a concurrent caller sees are in ``migrations/sql/till.sql``; the protocol is in
``docs/ledger.md``. Callers are the gateway and nobody else.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models.functions import Now

from apps.core import db
from apps.core.context import ExecutionContext
from apps.core.ids import new_id
from apps.core.leases import LEASE
from apps.ledger import functions
from apps.ledger.errors import OperationEndedError, OperationInProgressError
from apps.ledger.models import Operation
from apps.ledger.types import Admitted, Call, Charge, Held, Replay, Settlement, TokenCounts, Unresolved, counts_of


def hold(ctx: ExecutionContext, charge: Charge, call: Call, *, epoch: int = 0, can_ask: bool = False) -> Held:
    """Set aside what ``call`` can cost at most, or say why no call is needed or possible.

    ``epoch`` is the lease's when the caller holds the operation already, for a retry. ``can_ask``: the provider can be
    asked about attempts that a dead worker left, so they are returned as :class:`Unresolved` before anything is held.

    Raises BudgetExceededError, IdempotencyConflictError, OperationInProgressError, OperationEndedError.
    """
    row = functions.call(
        "ledger_hold",
        *db.parties(ctx),
        new_id(),
        charge.idempotency_key(ctx.tenant_id, ctx.created_at),
        charge.payload_hash,
        charge.token_type.value,
        charge.operation.value,
        charge.billable,
        charge.agent_id,
        charge.collection_id,
        charge.document_id,
        charge.conversation_id,
        charge.run_id,
        ctx.context_id,
        functions.to_json(charge.metadata),
        epoch,
        can_ask,
        call.attempt_id,
        call.provider,
        call.model,
        call.model_family,
        call.hold_tokens,
        timedelta(seconds=call.deadline_seconds),
        LEASE,
    )
    return _held(row, call)


def settle(
    ctx: ExecutionContext,
    attempt_id: UUID,
    counts: TokenCounts,
    *,
    result: Mapping[str, Any],
    provider_request_id: str = "",
    raw_usage: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Settlement:
    """Close the attempt with its usage; the operation's first settled attempt makes its entry. May be repeated."""
    row = functions.call(
        "ledger_settle",
        *db.parties(ctx),
        attempt_id,
        new_id(),
        counts.fresh_input_tokens,
        counts.cached_input_tokens,
        counts.cache_write_tokens,
        counts.plain_output_tokens,
        counts.reasoning_tokens,
        counts.source,
        provider_request_id[:255],
        functions.to_json(raw_usage),
        functions.to_json(result),
        functions.to_json(metadata or {}),
    )
    return Settlement.of(row)


def void(ctx: ExecutionContext, attempt_id: UUID, *, code: str = "", detail: str = "", request_id: str = "") -> bool:
    """Release the attempt's hold. Only on proof that the provider did not count the call."""
    return _close(ctx, attempt_id, "void", code, detail, request_id[:255])


def mark_unknown(
    ctx: ExecutionContext, attempt_id: UUID, *, code: str = "", detail: str = "", request_id: str = ""
) -> bool:
    """Keep the attempt's hold until it is known what the provider counted."""
    return _close(ctx, attempt_id, "unknown", code, detail, request_id[:255])


def fail(ctx: ExecutionContext, operation_id: UUID, *, epoch: int, code: str, detail: str) -> bool:
    """End the operation without a result; False when it has ended already or somebody else holds it."""
    row = functions.call("ledger_fail", *db.parties(ctx), operation_id, epoch, code, detail)
    return bool(row["ledger_fail"])


def release(ctx: ExecutionContext, operation_id: UUID, *, epoch: int) -> None:
    """Let go of the operation's lease without ending it, so that the next driver need not wait for it to run out."""
    with db.unit_of_work(ctx):
        Operation.objects.filter(pk=operation_id, lease_epoch=epoch).update(lease_expires_at=Now())


def _close(ctx: ExecutionContext, attempt_id: UUID, state: str, *notes: str) -> bool:
    row = functions.call("ledger_close", *db.parties(ctx), attempt_id, state, *notes)
    return bool(row["ledger_close"])


def _held(row: Mapping[str, Any], call: Call) -> Held:
    operation_id, epoch = row["operation_id"], row["epoch"]
    match row["outcome"]:
        case "admitted":
            return Admitted(
                operation_id=operation_id,
                attempt_id=call.attempt_id,
                epoch=epoch,
                created_at=row["operation_created_at"],
            )
        case "done":
            return Replay(operation_id=operation_id, result=row["result"], counts=counts_of(row))
        case "unresolved":
            return Unresolved(operation_id=operation_id, epoch=epoch, attempt_ids=tuple(row["attempt_ids"]))
        case "busy":
            raise OperationInProgressError("Wait for it: its result will be the answer to this request too.")
        case _:
            raise OperationEndedError(row["error_detail"] or "Send it again as a new request.")
