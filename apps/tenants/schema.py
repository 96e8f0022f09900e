"""How the API's door stands in the OpenAPI schema: authentication, and the headers that every request may carry."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

from apps.core import headers

#: What :func:`apps.tenants.entry.context` reads.
HEADERS = headers.parameters(
    (
        *("X-Tenant-ID", "X-Tenant-Tier", "X-Session-ID"),
        *("X-User-ID", "X-Request-Source", "X-Client-Version", "X-Context-Type"),
    )
)


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """``Authorization: Bearer nbl_…``."""

    target_class = "apps.tenants.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": "A tenant's API key, `nbl_…`."}
