"""Deny by default: a view says which scope it needs, and a view that does not say is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from apps.core.errors import NotAuthenticatedError
from apps.tenants.errors import MissingScopeError
from apps.tenants.types import Principal

if TYPE_CHECKING:
    # DRF imports the default permissions while it imports its views.
    from rest_framework.views import APIView


class HasScope(BasePermission):
    """The principal's key has the scope that the view names in ``scope``, or one of them."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not isinstance(request.auth, Principal):
            raise NotAuthenticatedError("Send an API key as `Authorization: Bearer nbl_…`.")
        needed = getattr(view, "scope", None)
        if needed is None:
            return False
        fitting = (needed,) if isinstance(needed, str) else needed
        if request.auth.scopes.isdisjoint(fitting):
            names = " or ".join(f"“{scope}”" for scope in fitting)
            raise MissingScopeError(f"It needs the scope {names}. Create a key that has it.")
        return True
