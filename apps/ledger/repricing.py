"""Re-pricing a month: entries whose cost is not what it would be at the price that applies now.

A price may be set for a time that has passed, and a model may get one after it was used. Each entry whose cost is then
another gets an adjustment of no tokens and of the difference, so that entry and adjustments cost what they would at
that price. It counts in the books of the present day, as every adjustment does. An adjustment whose cost an operator
named stays out of it, with its tokens.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from apps.core import clock, db
from apps.core.db import operator_scope
from apps.core.ids import new_id
from apps.ledger import adjustments, functions
from apps.ledger.types import TokenCounts
from apps.tenants.models import Tenant

REASON = "Priced again: another price applies to it now."

#: Entries whose cost, with that of their adjustments, is not what it is at the price that applies. ``times`` counts the
#: adjustments that brought an entry to this price before.
_DUE = """
    SELECT e.id AS entry_id, e.provider, e.model, e.token_source, price.id AS price_id,
           priced.cost_usd - coalesce(sums.cost_usd, 0) AS difference_usd,
           sums.cost_usd IS NULL AS is_unpriced, sums.times
      FROM ledger_entry e
     CROSS JOIN LATERAL ledger_price_of(e.payer_tenant_id, e.provider, e.model, e.occurred_at) price
     CROSS JOIN LATERAL (
        SELECT sum(x.fresh_input_tokens)::bigint AS fresh, sum(x.cached_input_tokens)::bigint AS cached,
               sum(x.cache_write_tokens)::bigint AS cache_write, sum(x.plain_output_tokens)::bigint AS plain,
               sum(x.reasoning_tokens)::bigint AS reasoning, sum(x.cost_usd) AS cost_usd,
               count(*) FILTER (WHERE x.idempotency_key LIKE 'reprice:' || e.id || ':' || price.id || '%%') AS times
          FROM ledger_entry x
         WHERE x.id = e.id OR x.corrects_id = e.id AND (x.price_id IS NOT NULL OR x.cost_usd IS NULL)
     ) sums
     CROSS JOIN LATERAL (
        SELECT ledger_cost(sums.fresh, price.fresh_input_usd, sums.cached, price.cached_input_usd, sums.cache_write,
                           price.cache_write_usd, sums.plain, price.plain_output_usd, sums.reasoning,
                           price.reasoning_usd) AS cost_usd
     ) priced
     WHERE {where} AND e.kind = 'usage' AND (e.operation <> 'internal' OR e.billable)
       AND sums.cost_usd IS DISTINCT FROM priced.cost_usd
     ORDER BY e.id
"""
_OF_A_MONTH = _DUE.format(where="e.payer_tenant_id = %(payer)s AND e.day >= %(month)s AND e.day < %(next)s")
_OF_AN_ENTRY = _DUE.format(where="e.id = %(entry)s")


@dataclass(frozen=True, kw_only=True)
class Due:
    """An entry whose cost is another by now, the price that makes it so, and the difference."""

    entry_id: UUID
    provider: str
    model: str
    token_source: Literal["api", "estimated"]
    price_id: UUID
    difference_usd: Decimal
    is_unpriced: bool
    times: int

    @property
    def key(self) -> str:
        """Once for each entry and price; a number where an entry comes back to a price that it had left."""
        again = f":{self.times + 1}" if self.times else ""
        return f"reprice:{self.entry_id}:{self.price_id}{again}"


def payers(slug: str | None = None) -> list[Tenant]:
    """The tenants that may have something to re-price: the one of that slug, or all."""
    with operator_scope("re-pricing"):
        return list(Tenant.objects.filter(**({"slug": slug} if slug else {})).order_by("slug"))


def due(payer_id: UUID, month: date) -> list[Due]:
    """What re-pricing a payer's month, named by its first day, would correct."""
    with operator_scope("re-pricing", level=logging.DEBUG):
        return _due(_OF_A_MONTH, {"payer": payer_id, "month": month, "next": clock.month_after(month)})


def reprice(entries: Sequence[Due], *, actor: str) -> list[Due]:
    """Correct each entry, in a transaction of its own, by what is due when it is its turn; returns what was booked."""
    return [booked for entry in entries for booked in _reprice(entry.entry_id, actor)]


def _reprice(entry_id: UUID, actor: str) -> list[Due]:
    with operator_scope(f"re-pricing by {actor}", level=logging.DEBUG):
        adjustments.lock(entry_id)
        found = _due(_OF_AN_ENTRY, {"entry": entry_id})
        for entry in found:
            _book(entry, actor)
    return found


def _book(entry: Due, actor: str) -> None:
    functions.call(
        "ledger_adjust",
        new_id(),
        entry.entry_id,
        entry.key,
        TokenCounts(source=entry.token_source),
        entry.difference_usd,
        entry.price_id,
        REASON,
        actor,
        "{}",
    )


def _due(statement: str, parameters: dict[str, Any]) -> list[Due]:
    return [Due(**row) for row in db.fetch_all(statement, parameters)]
