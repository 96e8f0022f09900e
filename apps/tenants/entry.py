"""Where a request becomes an ExecutionContext. Headers are read at the API's edge, once, and nowhere behind it."""

from datetime import datetime, timedelta
from typing import Any

from rest_framework.request import Request

from apps.core import clock, counters, headers
from apps.core.context import ContextType, ExecutionContext
from apps.core.headers import Sent
from apps.core.ids import new_id
from apps.tenants.errors import TenantMismatchError, TierMismatchError
from apps.tenants.types import Principal

REQUEST_SECONDS = 60


def principal(request: Request) -> Principal:
    """The request's principal; permissions have made sure that there is one."""
    assert isinstance(request.auth, Principal)
    return request.auth


def context(
    request: Request, *, context_type: ContextType = "api", created_at: datetime | None = None, **more: Any
) -> ExecutionContext:
    """The context of a request of the key's tenant, in its own name. ``more`` are fields that the caller resolved."""
    who, sent = principal(request), headers.read(request)
    _refuse_foreign(sent, who)
    _refuse_other_work(sent, context_type)
    arrived = created_at or clock.now()
    fields = {
        "tenant_id": who.tenant_id,
        "tenant_tier": who.tier,
        "payer_tenant_id": who.tenant_id,
        "owner_tenant_id": who.tenant_id,
        "session_id": sent.get("X-Session-ID") or str(new_id()),
        "user_id": sent.get("X-User-ID"),
        "request_source": sent.get("X-Request-Source"),
        "client_version": sent.get("X-Client-Version"),
        **more,
    }
    deadline = clock.now() + timedelta(seconds=REQUEST_SECONDS)
    return ExecutionContext(context_type=context_type, created_at=arrived, deadline=deadline, **fields)


def count_headers(request: Request, ctx: ExecutionContext) -> None:
    """Count which headers are in use, by name and by who sends them: never what they say."""
    client = ctx.client_version or "unknown"
    counters.count("request_headers", *((name, client) for name in headers.read(request)))


def _refuse_foreign(sent: Sent, who: Principal) -> None:
    if sent.get("X-Tenant-ID", who.tenant_id) != who.tenant_id:
        raise TenantMismatchError("Leave X-Tenant-ID out: the key decides the tenant.")
    if sent.get("X-Tenant-Tier", who.tier) != who.tier:
        raise TierMismatchError(f"The tenant's tier is “{who.tier}”. Leave X-Tenant-Tier out.")


def _refuse_other_work(sent: Sent, context_type: ContextType) -> None:
    """A call that does no work of a kind of its own takes whatever a client says in all of its calls."""
    said = sent.get("X-Context-Type", context_type)
    if context_type not in ("api", said):
        raise headers.refused("X-Context-Type", f"this call is of the type {context_type}, not {said}.")
