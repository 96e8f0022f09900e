"""The statement of a payer's month: entries, daily rows, monthly rows and budget side by side, from the tables."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID

from apps.core import clock, db
from apps.core.context import ExecutionContext
from apps.ledger.models import Entry

_SUMS = """
    SELECT (SELECT count(*) FROM ledger_entry WHERE payer_tenant_id = %(payer)s AND day >= %(month)s AND day < %(next)s)
               AS entries,
           (SELECT coalesce(sum(total_tokens), 0) FROM ledger_entry
             WHERE payer_tenant_id = %(payer)s AND day >= %(month)s AND day < %(next)s) AS entry_tokens,
           (SELECT coalesce(sum(total_tokens), 0) FROM ledger_entry
             WHERE payer_tenant_id = %(payer)s AND day >= %(month)s AND day < %(next)s AND billable) AS billable_tokens,
           (SELECT coalesce(sum(total_tokens), 0) FROM ledger_usagedaily
             WHERE payer_tenant_id = %(payer)s AND day >= %(month)s AND day < %(next)s) AS daily_tokens,
           (SELECT coalesce(sum(total_tokens), 0) FROM ledger_usagemonthly
             WHERE payer_tenant_id = %(payer)s AND month = %(month)s) AS monthly_tokens,
           (SELECT coalesce(sum(spent_tokens), 0) FROM ledger_budget
             WHERE tenant_id = %(payer)s AND starts_on = %(month)s) AS spent_tokens,
           (SELECT coalesce(sum(held_tokens), 0) FROM ledger_budget
             WHERE tenant_id = %(payer)s AND starts_on = %(month)s) AS held_tokens,
           (SELECT coalesce(sum(held_tokens), 0) FROM ledger_attempt
             WHERE payer_tenant_id = %(payer)s AND state IN ('open', 'unknown')
               AND day >= %(month)s AND day < %(next)s) AS unresolved_tokens
"""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """Sums of tokens that must agree; see :meth:`differences`."""

    entries: int
    entry_tokens: int
    billable_tokens: int
    daily_tokens: int
    monthly_tokens: int
    spent_tokens: int
    held_tokens: int
    unresolved_tokens: int

    def differences(self) -> list[str]:
        """What does not agree, one sentence each; empty when the books are exact."""
        pairs = [
            ("entries", self.entry_tokens, "daily statistics", self.daily_tokens),
            ("entries", self.entry_tokens, "monthly statistics", self.monthly_tokens),
            ("billable entries", self.billable_tokens, "the budget's spent", self.spent_tokens),
            ("holds of open and unknown attempts", self.unresolved_tokens, "the budget's held", self.held_tokens),
        ]
        return [f"{left}: {a}, {right}: {b}" for left, a, right, b in pairs if a != b]


def statement(ctx: ExecutionContext, month: date) -> Statement:
    """The statement of the context's payer for the month that begins on ``month``, in one snapshot."""
    with db.unit_of_work(ctx):
        row = db.fetch_one(_SUMS, {"payer": ctx.payer_tenant_id, "month": month, "next": clock.month_after(month)})
    assert row is not None
    return Statement(**{name: int(value) for name, value in row.items()})


def cost_of_run(ctx: ExecutionContext, run_id: UUID) -> Decimal | None:
    """What a run's entries cost, in USD. None: it has none, or one that was booked without a price."""
    with db.unit_of_work(ctx):
        costs = Entry.objects.filter(run_id=run_id).values_list("cost_usd", flat=True)
        known = [cost for cost in costs if cost is not None]
        return sum(known, Decimal(0)) if known and len(known) == len(costs) else None
