"""How the API's door stands in the OpenAPI schema: authentication, and the headers that every request may carry."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

from apps.core.api.schema import LABEL, UUID, header

#: What :func:`apps.tenants.entry.context` reads.
HEADERS = [
    header("X-Tenant-ID", "The key decides the tenant; if this is sent, it must say the same.", UUID),
    header("X-Tenant-Tier", "The tenant's tier; if this is sent, it must be right.", LABEL),
    header("X-Session-ID", "The realtime session that the request belongs to; generated if absent.", LABEL),
    header("X-User-ID", "The caller's own user, for its records.", LABEL),
    header("X-Request-Source", "What sends the request, for the caller's records.", LABEL),
    header("X-Client-Version", "The version of what sends the request, for the caller's records.", LABEL),
]


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """``Authorization: Bearer nbl_…``."""

    target_class = "apps.tenants.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": "A tenant's API key, `nbl_…`."}
