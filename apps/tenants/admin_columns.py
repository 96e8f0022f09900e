"""Tenants on the pages of other rooms' rows: by name, and as a filter."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib.admin import display
from django.db import models
from django.db.models import OuterRef, Q, Subquery
from django.http import HttpRequest
from unfold.contrib.filters.admin import TextFilter

from apps.core.admin_pages import EMPTY, Column, RecordAdmin, change_url, link
from apps.tenants.models import Tenant

PARTIES = ("tenant", "owner_tenant", "payer_tenant")


class TenantFilter(TextFilter):  # type: ignore[misc]
    """Rows of one tenant, named by slug or id. For tables that have an index which ``column`` leads."""

    title = "tenant (slug or id)"
    parameter_name = "tenant"
    column = "tenant_id"

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        if not self.value():
            return queryset
        tenant = Tenant.objects.filter(_named(self.value())).first()
        return queryset.filter((self.column, tenant.pk)) if tenant else queryset.none()


class OwnerFilter(TenantFilter):
    title = "owner (slug or id)"
    parameter_name = "owner"
    column = "owner_tenant_id"


class PayerFilter(TenantFilter):
    title = "payer (slug or id)"
    parameter_name = "payer"
    column = "payer_tenant_id"


class TenantRecordAdmin(RecordAdmin):
    """Rows of tenants. Their names are loaded with the rows, by subqueries, which is one query for the page."""

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        columns = {field.attname for field in self.model._meta.concrete_fields}
        names = {f"{party}_name": _name(f"{party}_id") for party in PARTIES if f"{party}_id" in columns}
        rows: models.QuerySet[Any] = super().get_queryset(request).annotate(**names)
        return rows

    def column(self, field: models.Field[Any, Any]) -> Column:
        party = field.attname.removesuffix("_id")
        return _column(party) if party in PARTIES else super().column(field)


def _column(party: str) -> Column:
    @display(description=party.removesuffix("_tenant"))
    def column(row: Any) -> Any:
        key = getattr(row, f"{party}_id")
        return link(change_url("tenants.tenant", key), getattr(row, f"{party}_name") or key) if key else EMPTY

    column.__name__ = party
    return column


def _name(column: str) -> Subquery:
    return Subquery(Tenant.objects.filter(pk=OuterRef(column)).order_by().values("name")[:1])


def _named(text: str) -> Q:
    try:
        return Q(pk=UUID(text))
    except ValueError:
        return Q(slug=text)
