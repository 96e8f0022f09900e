"""What every view of the API shares: a principal with the right scope, a context, and one unit of work."""

from collections.abc import Callable
from functools import cached_property, wraps
from typing import Any, TypeVar

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from apps.core.api import idempotency
from apps.core.api.schema import raises
from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work
from apps.core.errors import NotAuthenticatedError
from apps.tenants import entry
from apps.tenants.errors import (
    InvalidApiKeyError,
    MissingScopeError,
    TenantInactiveError,
    TenantMismatchError,
    TierMismatchError,
)
from apps.tenants.schema import HEADERS

S = TypeVar("S", bound=serializers.BaseSerializer[Any])
Action = Callable[..., Response]


def in_unit_of_work(action: Action) -> Action:
    """Run a view's action in its context's unit of work: reading and rendering see the tenant's rows and no others."""

    @wraps(action)
    def wrapped(self: "TenantViewSet", *args: Any, **kwargs: Any) -> Response:
        with unit_of_work(self.ctx):
            return action(self, *args, **kwargs)

    return wrapped


@extend_schema(parameters=HEADERS)
@raises(
    NotAuthenticatedError,
    InvalidApiKeyError,
    MissingScopeError,
    TenantInactiveError,
    TenantMismatchError,
    TierMismatchError,
)
class TenantViewSet(GenericViewSet[Any]):
    """A view of one tenant's things. ``scope`` is what its key must have; of several, one."""

    scope: str | tuple[str, ...]
    ordering = "-id"
    lookup_value_converter = "uuid"
    #: No OPTIONS: it would show what an answer has as what a POST takes. The schema says what there is.
    http_method_names = ["get", "post", "patch", "delete", "head"]

    @cached_property
    def ctx(self) -> ExecutionContext:
        """The request's context; its headers are read, and refused, here."""
        return entry.context(self.request)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        entry.count_headers(request, self.ctx)

    def accepted(self, serializer: type[S], *, data: Any = None, **context: Any) -> dict[str, Any]:
        """The request's body (or ``data``), validated; raises DRF's ValidationError. ``context``: the serializer's."""
        bound = serializer(data=self.request.data if data is None else data, context=context)
        bound.is_valid(raise_exception=True)
        return dict(bound.validated_data)

    def query(self, serializer: type[S], **context: Any) -> dict[str, Any]:
        """The request's query parameters, validated."""
        return self.accepted(serializer, data=self.request.query_params, **context)

    def once(self, act: Callable[[], Response], *, secrets: tuple[str, ...] = ()) -> Response:
        """Run ``act`` in the unit of work, once per Idempotency-Key."""
        return idempotency.in_one_transaction(self.ctx, self.request, act, secrets=secrets)

    def page(self, rows: Any, present: Callable[[Any], Any]) -> Response:
        """One page of a queryset; ``present`` turns the page's rows into what the client sees."""
        found = self.paginate_queryset(rows)
        return self.get_paginated_response(present(found))
