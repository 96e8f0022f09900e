"""Before operations are begun and after they have ended: what the rooms above may ask of the ledger."""

from decimal import Decimal
from uuid import UUID

from apps.core.context import ExecutionContext
from apps.core.errors import NoobleError
from apps.ledger import budgets, statements, till
from apps.ledger.types import Charge


def require_budget(ctx: ExecutionContext, tokens: int) -> None:
    """Refuse work whose estimate is more than is available now; raises BudgetExceededError. Holds are what binds."""
    budgets.require(ctx, tokens)


def abandon(
    ctx: ExecutionContext, error: NoobleError, *, run_id: UUID | None = None, charge: Charge | None = None
) -> int:
    """End what is pending of a run, or of one charge, that is given up, for the reason that ended it; returns how many.

    In the caller's transaction, after its own row: nobody drives these operations again. A call that is still on its
    way is counted when its answer comes, and billed to nobody.
    """
    key = charge.idempotency_key(ctx.tenant_id, ctx.created_at) if charge else None
    pending = till.pending(ctx, run_id=run_id, idempotency_key=key)
    return sum(till.fail(ctx, row, epoch=None, code=error.reason, detail=error.detail) for row in pending)


def cancel(ctx: ExecutionContext, *, run_id: UUID) -> int:
    """End what is pending of a run whose answer nobody wants any more, unless a call is on its way; returns how many.

    In the caller's transaction, after its own row. The provider counts a call that is on its way, so its operation is
    left to whoever makes it: an answer is left and charged at an estimate, vectors are charged when they have come.
    """
    return sum(till.cancel(ctx, row, detail="Its run was cancelled.") for row in till.idle(ctx, run_id=run_id))


def cost_usd(ctx: ExecutionContext, *, run_id: UUID) -> Decimal | None:
    """What a run has cost so far. None: nothing was booked for it, or a model of it has no price."""
    return statements.cost_of_run(ctx, run_id)
