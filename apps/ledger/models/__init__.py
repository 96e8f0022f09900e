"""The books. What moves tokens is never written through the ORM: ``apps.ledger.till`` calls the functions that do.

On every row ``tenant_id`` is the consumer, the tenant that asked; owner and payer stand beside it.
"""

from apps.ledger.models.entries import Entry
from apps.ledger.models.operations import Attempt, Operation
from apps.ledger.models.prices import Price
from apps.ledger.models.reconciliation import Discrepancy, ReconciliationRun
from apps.ledger.models.sums import GROUP, Budget, UsageDaily, UsageMonthly, UsageRow

__all__ = [
    "GROUP",
    "Attempt",
    "Budget",
    "Discrepancy",
    "Entry",
    "Operation",
    "Price",
    "ReconciliationRun",
    "UsageDaily",
    "UsageMonthly",
    "UsageRow",
]
