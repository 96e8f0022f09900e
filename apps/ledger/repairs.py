"""How a difference is repaired, by its kind. Each takes the evidence that a check found and says what it did."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from django.db.models.functions import Now

from apps.core import db
from apps.core.ids import new_id
from apps.ledger import functions, sweeping
from apps.ledger.checks import KEYS, SUMS
from apps.ledger.models import Attempt, Discrepancy, Operation
from apps.ledger.types import AttemptState, DiscrepancyKind, DiscrepancyState, OperationState

Evidence = Mapping[str, Any]


def is_safe(kind: DiscrepancyKind, evidence: Evidence) -> bool:
    """Whether the books hold the truth; a done operation without a settled attempt, for one, has none."""
    return kind in SAFE and evidence.get("attempt_id", "known") is not None


def close(tenant_id: UUID, kind: DiscrepancyKind, subject: str, resolution: str) -> None:
    """Mark a discrepancy as repaired."""
    Discrepancy.objects.filter(tenant_id=tenant_id, kind=kind, subject=subject).update(
        state=DiscrepancyState.REPAIRED, resolved_at=Now(), resolution=resolution
    )


def _statistics(table: str, period: str) -> Callable[[Evidence], str]:
    """Add the difference to a statistics row, or write the row that is missing."""
    key = (period, *KEYS)
    values = ", ".join(f"{name} = u.{name} + d.{name}" for name in SUMS)
    same = " AND ".join(f"u.{name} = d.{name}" for name in key)
    # The casts of the columns are the table's own; its id is not in the evidence.
    given = f"jsonb_populate_record(NULL::{table}, %s::jsonb) d"
    update = f"UPDATE {table} u SET {values} FROM {given} WHERE {same} RETURNING u.id"  # noqa: S608 - ours
    columns = ", ".join((*key, *SUMS))
    insert = f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {given} ON CONFLICT DO NOTHING RETURNING id"  # noqa: S608 - ours

    def repair(evidence: Evidence) -> str:
        difference = [functions.to_json(evidence)]
        # Somebody may write the missing row between the two: then it is there.
        if not (db.fetch_one(update, difference) or db.fetch_one(insert, difference)):
            db.fetch_one(update, difference)
        return "The difference was added to the sums."

    return repair


def _budget(evidence: Evidence) -> str:
    """Move spent or held by the difference; a budget's row that is missing is written."""
    moved = {name: evidence.get(name, 0) for name in _MOVED}
    row = {"tenant": evidence["tenant_id"], "starts_on": evidence["starts_on"], **moved}
    changes = ", ".join(f"{name} = b.{name} + %({name})s" for name in _MOVED)
    where = "b.tenant_id = %(tenant)s AND b.starts_on = %(starts_on)s"
    updated = db.fetch_one(f"UPDATE ledger_budget b SET {changes} WHERE {where} RETURNING b.id", row)  # noqa: S608
    if updated is None:
        places = ", ".join(f"%({name})s" for name in _MOVED)
        db.execute(
            f"INSERT INTO ledger_budget (tenant_id, starts_on, {', '.join(_MOVED)})"  # noqa: S608 - ours
            f" VALUES (%(tenant)s, %(starts_on)s, {places})",
            row,
        )
    return "The difference was added to the budget."


_MOVED = ("spent_tokens", "held_tokens", "day_spent_tokens", "day_held_tokens")


def _missing_entry(evidence: Evidence) -> str:
    """Write the entry of a done operation from its settled attempt; the sums are compared after this."""
    functions.call("ledger_enter_again", evidence["attempt_id"], new_id())
    return "The entry was written from the settled attempt."


def _unknown(evidence: Evidence) -> str:
    """Call an attempt unknown whose worker is gone. Its hold stays. Operation before attempt, as everywhere."""
    operation = Operation.objects.select_for_update(no_key=True).only("pk").get(pk=evidence["operation_id"])
    # The database's clock decides: a lease that was taken since the check belongs to somebody.
    if Operation.objects.filter(pk=operation.pk, state=OperationState.PENDING, lease_expires_at__gt=Now()).exists():
        return "Somebody has taken it over."
    Attempt.objects.filter(pk=evidence["attempt_id"], state=AttemptState.OPEN).update(state=AttemptState.UNKNOWN)
    return "The attempt is unknown; its hold stays until the truth is known."


def _lost(evidence: Evidence) -> str:
    """Give up what is past its grace period, as far as nobody is at it."""
    sweeping.give_up()
    lost = Attempt.objects.filter(pk=evidence["attempt_id"], state=AttemptState.LOST).exists()
    return "The attempt is lost; its hold was released." if lost else ""


SAFE: Mapping[DiscrepancyKind, Callable[[Evidence], str]] = {
    DiscrepancyKind.DAILY_STATISTICS: _statistics("ledger_usagedaily", "day"),
    DiscrepancyKind.MONTHLY_STATISTICS: _statistics("ledger_usagemonthly", "month"),
    DiscrepancyKind.BUDGET_SPENT: _budget,
    DiscrepancyKind.BUDGET_HELD: _budget,
    DiscrepancyKind.OPERATION_WITHOUT_ENTRY: _missing_entry,
    DiscrepancyKind.HOLD_WITHOUT_OPERATION: _unknown,
    DiscrepancyKind.OPEN_PAST_DEADLINE: _unknown,
    DiscrepancyKind.UNKNOWN_PAST_GRACE: _lost,
}
