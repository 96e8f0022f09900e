"""Booking items of usage: as they are built by ``records``, or as they waited in the ``spool``."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from django.db import DatabaseError

from apps.core import db
from apps.core.errors import NoobleError
from apps.ledger import functions
from apps.ledger.errors import IdempotencyConflictError, InvalidUsageError, LedgerRowNotFoundError

logger = logging.getLogger(__name__)

#: How many items one statement books.
BATCH = 1000

#: The members that ``ledger_record`` reads, JSON by JSON type; ``id`` is the entry's.
Item = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What became of one event.

    ``duplicate``: the key was booked before, and ``entry_id`` is the first one's; so with ``conflict``, where the first
    had other content. ``spooled``: the database is away; ``entry_id`` is what it will be booked under, unless its key
    turns out to be booked already. ``invalid``: nothing is booked. ``error`` says why, of ``conflict`` and ``invalid``.
    """

    outcome: Literal["created", "duplicate", "conflict", "invalid", "spooled"]
    entry_id: UUID | None = None
    error: NoobleError | None = None


def book(parties: db.Scope, items: Sequence[Item]) -> list[Recorded]:
    """Book items for a consumer, owner and payer, each batch in one transaction; one outcome for each, in their order.

    Keyed by their idempotency keys: what is repeated with the same ``id`` is ``created`` again, and booked once.
    Raises LedgerRowNotFoundError when there is no such tenant, and whatever the database raises when it is away.
    """
    batches = (items[start : start + BATCH] for start in range(0, len(items), BATCH))
    return [recorded for batch in batches for recorded in _book(parties, batch)]


def _book(parties: db.Scope, items: Sequence[Item]) -> list[Recorded]:
    """One transaction, or halves of it when something in it cannot be stored: one bad item harms no other."""
    try:
        rows = _record(parties, items)
    except DatabaseError as error:
        if not _refuses_an_item(error):
            raise
        if len(items) == 1:
            logger.warning("usage cannot be stored", extra={"entry": str(items[0]["id"])}, exc_info=error)
            return [Recorded(outcome="invalid", error=_invalid(error))]
        middle = len(items) // 2
        return _book(parties, items[:middle]) + _book(parties, items[middle:])
    conflicts = [str(row["entry_id"]) for row in rows if row["outcome"] == "conflict"]
    if conflicts:
        logger.error("idempotency conflicts", extra={"entries": conflicts})
    return [_recorded(row["outcome"], row["entry_id"]) for row in rows]


def _record(parties: db.Scope, items: Sequence[Item]) -> list[dict[str, Any]]:
    numbered = functions.to_json([{**item, "n": number} for number, item in enumerate(items)])
    try:
        if db.outside_transactions():
            return functions.rows("ledger_record", *db.parties(parties), numbered)
        # In a unit of work of the same tenants it is a savepoint; inside anybody else's transaction it is refused.
        with db.unit_of_work(parties):
            return functions.rows("ledger_record", *db.parties(parties), numbered)
    except DatabaseError as error:
        # The payer's terms are read STRICT.
        if _state(error) == "P0002":
            raise LedgerRowNotFoundError(f"There is no tenant {parties.payer_tenant_id}.") from error
        raise


def _recorded(outcome: Any, entry_id: UUID) -> Recorded:
    error = IdempotencyConflictError("Use a new key for new content.", entry_id=str(entry_id))
    return Recorded(outcome=outcome, entry_id=entry_id, error=error if outcome == "conflict" else None)


def _refuses_an_item(error: DatabaseError) -> bool:
    """Whether PostgreSQL will never take it: data that its types, constraints or limits exclude."""
    return _state(error)[:2] in {"22", "23", "54"}


def _invalid(error: DatabaseError) -> InvalidUsageError:
    return InvalidUsageError(
        f"The ledger cannot hold it: a number or a text is out of range (SQLSTATE {_state(error)})."
    )


def _state(error: DatabaseError) -> str:
    return getattr(error.__cause__, "sqlstate", None) or ""
