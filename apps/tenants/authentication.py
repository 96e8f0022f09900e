"""Who a request acts for: ``Authorization: Bearer nbl_…``."""

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.request import Request

from apps.tenants import services
from apps.tenants.errors import InvalidApiKeyError
from apps.tenants.types import Principal


class ApiKeyAuthentication(BaseAuthentication):
    """The principal of the bearer key. No header: not authenticated, which permissions then refuse."""

    def authenticate(self, request: Request) -> tuple[Principal, Principal] | None:
        scheme, _, key = get_authorization_header(request).partition(b" ")
        if not scheme:
            return None
        if scheme.lower() != b"bearer":
            raise InvalidApiKeyError("Send the key as `Authorization: Bearer nbl_…`.")
        principal = services.authenticate(key.decode("latin-1").strip())
        return principal, principal

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="nooble"'
