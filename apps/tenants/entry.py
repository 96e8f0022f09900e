"""Where a request becomes an ExecutionContext. Headers are read here, once, and nowhere behind it."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.http import HttpRequest
from rest_framework.request import Request

from apps.core import clock
from apps.core.context import ContextType, ExecutionContext
from apps.core.errors import FieldError, InvalidRequestError
from apps.core.ids import new_id
from apps.tenants.errors import TenantMismatchError, TierMismatchError
from apps.tenants.types import Principal

REQUEST_SECONDS = 60
_LABEL = re.compile(r"[\w.:@/+-]{1,128}", re.ASCII)

T = TypeVar("T")


def principal(request: Request) -> Principal:
    """The request's principal; permissions have made sure that there is one."""
    assert isinstance(request.auth, Principal)
    return request.auth


def context(
    request: Request, *, context_type: ContextType = "api", created_at: datetime | None = None, **more: Any
) -> ExecutionContext:
    """The context of a request of the key's tenant, in its own name. ``more`` are fields that the caller resolved."""
    who = principal(request)
    _refuse_foreign(request, who)
    arrived = created_at or clock.now()
    fields = {
        "tenant_id": who.tenant_id,
        "tenant_tier": who.tier,
        "payer_tenant_id": who.tenant_id,
        "owner_tenant_id": who.tenant_id,
        "session_id": header(request, "X-Session-ID", label) or str(new_id()),
        "user_id": header(request, "X-User-ID", label),
        "request_source": header(request, "X-Request-Source", label),
        "client_version": header(request, "X-Client-Version", label),
        **more,
    }
    deadline = clock.now() + timedelta(seconds=REQUEST_SECONDS)
    return ExecutionContext(context_type=context_type, created_at=arrived, deadline=deadline, **fields)


def header(request: Request | HttpRequest, name: str, accept: Callable[[str], T]) -> T | None:
    """A header's value as ``accept`` reads it; a value it refuses is a 400 that names the header."""
    text = request.headers.get(name)
    if text is None:
        return None
    try:
        return accept(text.strip())
    except ValueError as error:
        raise InvalidRequestError(
            f"The header {name} is malformed: {error}.",
            errors=[FieldError(field=name, code="malformed_header", detail=str(error))],
        ) from error


def label(text: str) -> str:
    """A short name made of ASCII letters, digits and ``._:@/+-``."""
    if not _LABEL.fullmatch(text):
        raise ValueError("expected 1 to 128 ASCII letters, digits or ._:@/+-")
    return text


def identifier(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise ValueError("expected a UUID") from error


def _refuse_foreign(request: Request, who: Principal) -> None:
    tenant = header(request, "X-Tenant-ID", identifier)
    if tenant is not None and tenant != who.tenant_id:
        raise TenantMismatchError("Leave X-Tenant-ID out: the key decides the tenant.")
    tier = header(request, "X-Tenant-Tier", label)
    if tier is not None and tier != who.tier:
        raise TierMismatchError(f"The tenant's tier is “{who.tier}”. Leave X-Tenant-Tier out.")
