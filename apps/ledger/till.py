"""The ledger's side of the till: hold, settle, void, unknown, fail. Each is one round trip to one database function.

The functions, their locks and what a concurrent caller sees are in ``migrations/sql/till.sql``; the protocol is in
``docs/ledger.md``. Callers are the gateway and nobody else.
"""

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from django.db.models import Q
from django.db.models.functions import Now

from apps.core import db
from apps.core.context import ExecutionContext
from apps.core.db import Scope
from apps.core.ids import new_id
from apps.core.leases import LEASE
from apps.ledger import functions
from apps.ledger import metadata as metadata_models
from apps.ledger.errors import IdempotencyConflictError, OperationEndedError, OperationInProgressError
from apps.ledger.models import Attempt, Operation
from apps.ledger.types import (
    Admitted,
    AttemptState,
    Call,
    Charge,
    Held,
    LeftAttempt,
    OperationState,
    Replay,
    Settlement,
    TokenCounts,
    Unresolved,
    counts_of,
)

logger = logging.getLogger(__name__)

NOTHING = TokenCounts(source="estimated")


def hold(ctx: ExecutionContext, charge: Charge, call: Call, *, epoch: int = 0) -> Held:
    """Set aside what ``call`` can cost at most, or say why no call is needed or possible.

    ``epoch`` is the lease's when the caller holds the operation already, for a retry. Who takes it over from another
    worker is given the attempts that are unknown, as :class:`Unresolved`, before anything is held: their providers may
    be asked. Who holds again under the epoch that came with them is admitted.

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
        functions.to_json(_metadata(charge)),
        epoch,
        call.attempt_id,
        call.provider,
        call.model,
        call.model_family,
        call.hold_tokens,
        timedelta(seconds=call.deadline_seconds),
        LEASE,
    )
    return _held(row, call)


def replay(ctx: ExecutionContext, charge: Charge) -> Replay | None:
    """What the operation brought, if it is done: for whoever cannot hold, as there is nobody to call. Locks nothing."""
    with db.unit_of_work(ctx):
        found = Attempt.objects.filter(
            Q(state=AttemptState.SETTLED) | Q(estimate_entry_id__isnull=False),
            operation__tenant_id=ctx.tenant_id,
            operation__owner_tenant_id=ctx.owner_tenant_id,
            operation__payer_tenant_id=ctx.payer_tenant_id,
            operation__idempotency_key=charge.idempotency_key(ctx.tenant_id, ctx.created_at),
            operation__payload_hash=charge.payload_hash,
            operation__state=OperationState.DONE,
        )
        attempt = found.select_related("operation").first()
    if attempt is None:
        return None
    result = attempt.operation.result or {}
    return Replay(operation_id=attempt.operation_id, result=result, counts=counts_of(vars(attempt)))


def settle(
    ctx: Scope,
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
        counts,
        provider_request_id[:255],
        functions.to_json(raw_usage),
        functions.to_json(result),
        functions.to_json(metadata or {}),
    )
    _alarm(row["outcome"], attempt_id)
    settlement = Settlement.of(row, counts, result)
    if settlement.overage_tokens:
        logger.error(
            "a call cost more than its hold", extra={"attempt": str(attempt_id), "by": settlement.overage_tokens}
        )
    return settlement


def settle_partly(
    ctx: Scope,
    attempt_id: UUID,
    estimate: TokenCounts,
    *,
    state: Literal[OperationState.DONE, OperationState.CANCELLED],
    result: Mapping[str, Any],
    provider_request_id: str = "",
    metadata: Mapping[str, Any] | None = None,
) -> bool:
    """End the operation with what was received before its call broke off, booked at an estimate; False: it had ended.

    The attempt stays unknown with the rest of its hold. When the truth comes, an adjustment corrects the entry.
    """
    row = functions.call(
        "ledger_settle_partly",
        *db.parties(ctx),
        attempt_id,
        new_id(),
        state.value,
        estimate,
        provider_request_id[:255],
        functions.to_json(result),
        functions.to_json(metadata or {}),
    )
    return bool(row["ledger_settle_partly"])


def report(
    ctx: Scope,
    attempt_id: UUID,
    counts: TokenCounts,
    *,
    provider_request_id: str = "",
    raw_usage: Mapping[str, Any] | None = None,
) -> Literal["late", "corrected", "repeated", "contradicted"]:
    """Count what the provider says it counted for an attempt of which there will be no answer.

    ``late``: leakage, on the attempt and billed to nobody. ``corrected``: its entry at an estimate was made true.
    ``contradicted``: it had been proven not to be counted; that is a discrepancy now.
    """
    row = functions.call(
        "ledger_report",
        *db.parties(ctx),
        attempt_id,
        new_id(),
        counts,
        provider_request_id[:255],
        functions.to_json(raw_usage),
    )
    outcome: Literal["late", "corrected", "repeated", "contradicted"] = row["ledger_report"]
    _alarm(outcome, attempt_id)
    return outcome


def _alarm(outcome: str, attempt_id: UUID) -> None:
    if outcome == "contradicted":
        logger.error("a call was counted that had been proven not to be", extra={"attempt": str(attempt_id)})


def void(ctx: Scope, attempt_id: UUID, *, code: str = "", detail: str = "", request_id: str = "") -> bool:
    """Release the attempt's hold. Only on proof that the provider did not count the call."""
    return _close(ctx, attempt_id, "void", code, detail, request_id[:255], NOTHING, None)


def mark_unknown(
    ctx: Scope,
    attempt_id: UUID,
    *,
    code: str = "",
    detail: str = "",
    request_id: str = "",
    seen: TokenCounts | None = None,
    raw_usage: Mapping[str, Any] | None = None,
) -> bool:
    """Keep the attempt's hold until it is known what the provider counted.

    ``seen``: an estimate of what came of it. ``raw_usage``: what the provider said and is not believed.
    """
    notes = (code, detail, request_id[:255], seen or NOTHING, functions.to_json(raw_usage))
    return _close(ctx, attempt_id, "unknown", *notes)


def fail(ctx: Scope, operation_id: UUID, *, epoch: int | None, code: str, detail: str) -> bool:
    """End the operation without a result; False when it has ended already or somebody else holds it.

    ``epoch`` None: whoever holds it, for work that is given up as a whole.
    """
    return _end(ctx, operation_id, OperationState.FAILED, epoch, code, detail)


def cancel(ctx: Scope, operation_id: UUID, *, detail: str = "") -> bool:
    """End the operation because nobody wants its result any more; False when it has ended already."""
    return _end(ctx, operation_id, OperationState.CANCELLED, None, "cancelled", detail)


def pending(ctx: Scope, *, run_id: UUID | None = None, idempotency_key: str | None = None) -> list[UUID]:
    """The operations of a run, or the one with a key, that have not ended; in the order in which they are locked."""
    with db.unit_of_work(ctx):
        rows = Operation.objects.filter(state=OperationState.PENDING, tenant_id=ctx.tenant_id)
        rows = rows.filter(run_id=run_id) if run_id else rows.filter(idempotency_key=idempotency_key)
        return list(rows.order_by("id").values_list("id", flat=True))


def idle(ctx: Scope, *, run_id: UUID) -> list[UUID]:
    """The operations of a run that have not ended and have no call on its way; locked, in the caller's transaction."""
    with db.unit_of_work(ctx):
        rows = Operation.objects.select_for_update(no_key=True).filter(state=OperationState.PENDING, run_id=run_id)
        locked = list(rows.filter(tenant_id=ctx.tenant_id).order_by("id").values_list("id", flat=True))
        # A statement of its own: it sees what was held while the first one waited for its locks.
        calling = Attempt.objects.filter(operation_id__in=locked, state=AttemptState.OPEN)
        busy = set(calling.values_list("operation_id", flat=True))
        return [operation_id for operation_id in locked if operation_id not in busy]


def release(ctx: ExecutionContext, operation_id: UUID, *, epoch: int) -> None:
    """Let go of the operation's lease without ending it, so that the next driver need not wait for it to run out."""
    with db.unit_of_work(ctx):
        Operation.objects.filter(pk=operation_id, lease_epoch=epoch).update(lease_expires_at=Now())


def _metadata(charge: Charge) -> dict[str, Any]:
    """What will stand beside the entry's numbers; refused here, before anything is paid."""
    values = {"operation_hash": charge.payload_hash, **charge.metadata}
    return metadata_models.checked(charge.operation, charge.token_type, values)


def _close(ctx: Scope, attempt_id: UUID, state: str, *notes: Any) -> bool:
    row = functions.call("ledger_close", *db.parties(ctx), attempt_id, new_id(), state, *notes)
    return bool(row["ledger_close"])


def _end(ctx: Scope, operation_id: UUID, state: OperationState, *notes: Any) -> bool:
    row = functions.call("ledger_end", *db.parties(ctx), operation_id, state.value, *notes)
    return bool(row["ledger_end"])


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
            left = tuple(LeftAttempt(**{**each, "id": UUID(each["id"])}) for each in row["attempts"])
            return Unresolved(operation_id=operation_id, epoch=epoch, attempts=left)
        case "conflict":
            logger.error("idempotency conflict", extra={"operation": str(operation_id)})
            raise IdempotencyConflictError("Use a new key for new content.", operation_id=str(operation_id))
        case "busy":
            raise OperationInProgressError("Wait for it: its result will be the answer to this request too.")
        case _:
            detail = row["error_detail"] or "Send it again as a new request."
            raise OperationEndedError(detail, ended_with=row["error_code"])
