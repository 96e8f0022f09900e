"""What a tenant may still spend this month."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

from django.db.models import Sum

from apps.core import clock
from apps.core.context import ExecutionContext
from apps.ledger.models import Attempt, Budget
from apps.ledger.types import AttemptState
from apps.tenants.models import Tenant


@dataclass(frozen=True, kw_only=True)
class BudgetState:
    """A payer's month. ``limit_tokens`` None: no limit; ``unknown_tokens`` is the part of held that is in doubt."""

    period: str
    limit_tokens: int | None
    spent_tokens: int
    held_tokens: int
    unknown_tokens: int
    resets_at: datetime
    hard: bool

    @property
    def available_tokens(self) -> int | None:
        if self.limit_tokens is None:
            return None
        return max(self.limit_tokens - self.spent_tokens - self.held_tokens, 0)


def current(ctx: ExecutionContext) -> BudgetState:
    """The present month of the context's payer, in its time zone. The caller is in the context's unit of work."""
    tenant = Tenant.objects.select_related("tier").get(pk=ctx.payer_tenant_id)
    month = clock.today(tenant.time_zone).replace(day=1)
    row = Budget.objects.filter(tenant_id=tenant.pk, starts_on=month).first()
    own = tenant.monthly_token_limit
    return BudgetState(
        period=f"{month:%Y-%m}",
        limit_tokens=tenant.tier.monthly_token_limit if own is None else own,
        spent_tokens=row.spent_tokens if row else 0,
        held_tokens=row.held_tokens if row else 0,
        unknown_tokens=_unknown(ctx, month),
        resets_at=_next_month(month, tenant.time_zone),
        hard=tenant.hard_limit,
    )


def _unknown(ctx: ExecutionContext, month: date) -> int:
    attempts = Attempt.objects.filter(
        payer_tenant_id=ctx.payer_tenant_id,
        state=AttemptState.UNKNOWN,
        day__gte=month,
        day__lt=_following(month),
    )
    return attempts.aggregate(tokens=Sum("hold_tokens"))["tokens"] or 0


def _next_month(month: date, time_zone: str) -> datetime:
    return datetime.combine(_following(month), time(), tzinfo=ZoneInfo(time_zone)).astimezone(UTC)


def _following(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)
