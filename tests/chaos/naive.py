"""The negative control: workers with the usual till. It must make the harness fail.

Release on error: whatever goes wrong with a call, its hold goes out. Read, then write: the budget is looked at, and
then, if there was room, taken from. The rest is as it is in the product.
"""

import time
from typing import Any

import django

django.setup()

from apps.core import db  # noqa: E402 - models need the settings
from apps.core.context import ExecutionContext  # noqa: E402
from apps.gateway import attempts  # noqa: E402
from apps.ledger import till  # noqa: E402
from apps.ledger.errors import BudgetExceededError  # noqa: E402
from apps.ledger.types import Admitted, Call, Charge, Held  # noqa: E402
from apps.providers.errors import ProviderError  # noqa: E402
from tests.chaos.app import app  # noqa: E402

__all__ = ["app"]

_BUDGET = """
    SELECT coalesce(sum(spent_tokens + held_tokens), 0) AS used, max(t.monthly_token_limit) AS most
      FROM tenants_tenant t LEFT JOIN ledger_budget b ON b.tenant_id = t.id WHERE t.id = %s
"""
#: What a moment between looking and taking is in a busy service.
_MOMENT_SECONDS = 0.5
_hold = till.hold


def hold(ctx: ExecutionContext, charge: Charge, call: Call, **options: Any) -> Held:
    """Stands in for ``till.hold``: the tenant's limit is soft, and looked at before."""
    with db.unit_of_work(ctx):
        budget = db.fetch_one(_BUDGET, [ctx.payer_tenant_id])
    assert budget is not None
    if budget["most"] is not None and budget["used"] + call.hold_tokens > budget["most"]:
        raise BudgetExceededError("There was no room when we looked.")
    time.sleep(_MOMENT_SECONDS)
    return _hold(ctx, charge, call, **options)


def after_failure(ctx: ExecutionContext, offer: Any, buyer: Any, held: Admitted, error: ProviderError) -> None:
    """Stands in for ``attempts._after_failure``."""
    till.void(ctx, held.attempt_id, code=error.code, detail=error.detail)


till.hold = hold
attempts._after_failure = after_failure
