"""What a tenant may still spend this month and today."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.db.models import Sum

from apps.core import clock, db
from apps.core.context import ExecutionContext
from apps.ledger.errors import BudgetExceededError
from apps.ledger.models import Attempt, Budget
from apps.ledger.types import AttemptState
from apps.tenants.models import Tenant


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What may be spent until ``resets_at``. ``limit_tokens`` None: no limit."""

    #: ``2026-11`` or ``2026-11-21``, in the payer's time zone.
    period: str
    limit_tokens: int | None
    spent_tokens: int
    held_tokens: int
    resets_at: datetime

    @property
    def available_tokens(self) -> int | None:
        if self.limit_tokens is None:
            return None
        return max(self.limit_tokens - self.spent_tokens - self.held_tokens, 0)

    def fits(self, tokens: int) -> bool:
        return self.available_tokens is None or tokens <= self.available_tokens


@dataclass(frozen=True, kw_only=True)
class BudgetState(Allowance):
    """A payer's month; ``unknown_tokens`` is the part of held that is in doubt. ``day`` None: no daily limit."""

    unknown_tokens: int
    hard: bool
    day: Allowance | None


def current(ctx: ExecutionContext) -> BudgetState:
    """The present month of the context's payer, in its time zone. The caller is in the context's unit of work."""
    tenant = Tenant.objects.select_related("tier").get(pk=ctx.payer_tenant_id)
    today = clock.today(tenant.time_zone)
    month = today.replace(day=1)
    row = Budget.objects.filter(tenant_id=tenant.pk, starts_on=month).first() or Budget()
    return BudgetState(
        period=f"{month:%Y-%m}",
        limit_tokens=_limit(tenant.monthly_token_limit, tenant.tier.monthly_token_limit),
        spent_tokens=row.spent_tokens,
        held_tokens=row.held_tokens,
        unknown_tokens=_unknown(ctx, month),
        resets_at=_midnight(clock.month_after(month), tenant.time_zone),
        hard=tenant.hard_limit,
        day=_day(tenant, row, today),
    )


def require(ctx: ExecutionContext, tokens: int) -> None:
    """Refuse work whose estimate is more than is available now; raises BudgetExceededError.

    It sets nothing aside and promises nothing: holds bind. It keeps work from being begun that could not be finished.
    """
    with db.unit_of_work(ctx):
        state = current(ctx)
    for name, allowance in (("month", state), ("day", state.day)):
        if state.hard and allowance and not allowance.fits(tokens):
            raise BudgetExceededError.of(
                {
                    "period": name,
                    "limit_tokens": allowance.limit_tokens,
                    "spent_tokens": allowance.spent_tokens,
                    "held_tokens": allowance.held_tokens,
                    "needed_tokens": tokens,
                    "resets_at": f"{allowance.resets_at:%Y-%m-%dT%H:%M:%SZ}",
                }
            )


def _day(tenant: Tenant, row: Budget, today: date) -> Allowance | None:
    limit = _limit(tenant.daily_token_limit, tenant.tier.daily_token_limit)
    if limit is None:
        return None
    # The row keeps its latest day; before the first hold of a day that is an earlier one.
    present = row.day == today
    return Allowance(
        period=today.isoformat(),
        limit_tokens=limit,
        spent_tokens=row.day_spent_tokens if present else 0,
        held_tokens=row.day_held_tokens if present else 0,
        resets_at=_midnight(today + timedelta(days=1), tenant.time_zone),
    )


def _limit(own: int | None, tiers: int | None) -> int | None:
    return tiers if own is None else own


def _unknown(ctx: ExecutionContext, month: date) -> int:
    attempts = Attempt.objects.filter(
        payer_tenant_id=ctx.payer_tenant_id,
        state=AttemptState.UNKNOWN,
        day__gte=month,
        day__lt=clock.month_after(month),
    )
    return attempts.aggregate(tokens=Sum("held_tokens"))["tokens"] or 0


def _midnight(day: date, time_zone: str) -> datetime:
    return datetime.combine(day, time(), tzinfo=ZoneInfo(time_zone)).astimezone(UTC)
