"""Operators' page of prices."""

from __future__ import annotations

from dataclasses import fields
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.db.models import Field, QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import RadioFilter, TextFilter
from unfold.widgets import UnfoldAdminTextInputWidget

from apps.core.admin_pages import Column, change_url, link
from apps.core.ids import NO_ID
from apps.ledger import pricing
from apps.ledger.models import Price
from apps.ledger.price_list import Rates
from apps.tenants.admin_columns import TenantRecordAdmin
from apps.tenants.models import Tenant

RATES = tuple(field.name for field in fields(Rates))


class ProviderFilter(RadioFilter):  # type: ignore[misc]
    """There are a few hundred prices, so that they can be read whole."""

    title = "provider"
    parameter_name = "provider"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = Price.objects.order_by("provider").values_list("provider", flat=True).distinct()
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Price]) -> QuerySet[Price]:
        return queryset.filter(provider=self.value()) if self.value() else queryset


class ModelFilter(TextFilter):  # type: ignore[misc]
    title = "model"
    parameter_name = "name"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Price]) -> QuerySet[Price]:
        return queryset.filter(model__icontains=self.value()) if self.value() else queryset


class PriceForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new price."""

    tenant = forms.ModelChoiceField(
        queryset=Tenant.objects.all(),
        to_field_name="slug",
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="The slug of the payer that it is for. Empty: everybody.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        tenant = cleaned.get("tenant")
        self.instance.tenant_id = tenant.pk if tenant else NO_ID
        # The payer is no field of the form's, so Django leaves the constraint to the database.
        same = {name: cleaned.get(name) for name in ("provider", "model", "starts_at")}
        if Price.objects.filter(**same, tenant_id=self.instance.tenant_id).exists():
            self.add_error("starts_at", "A price of the model starts at this moment already.")
        return cleaned


_NEW_PRICE = ("provider", "model", "tenant", "starts_at", "ends_at", *RATES)


def _payer_id(price: Price) -> UUID | None:
    return None if price.tenant_id == NO_ID else price.tenant_id


@admin.display(description="payer")
def _payer(row: Any) -> Any:
    if row.tenant_id == NO_ID:
        return "everybody"
    return link(change_url("tenants.tenant", row.tenant_id), row.tenant_name or row.tenant_id)


@admin.register(Price)
class PriceAdmin(TenantRecordAdmin):
    """Prices stay as they were set, because they explain what entries cost. Only their end is set later."""

    list_display = ("id", "provider", "model", "tenant_id", "starts_at", "ends_at", *RATES, "source")
    list_filter = (ProviderFilter, ModelFilter)
    search_fields = ("id", "provider")
    editable = ("ends_at",)

    def column(self, field: Field[Any, Any]) -> Column:
        return _payer if field.attname == "tenant_id" else super().column(field)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("ledger.add_price")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, **({} if obj else {"form": PriceForm}), **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_fields(request, obj) if obj else _NEW_PRICE

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_readonly_fields(request, obj) if obj else ()

    def save_model(self, request: HttpRequest, obj: Price, form: Any, change: Any) -> None:
        actor = request.user.get_username()
        if change:
            pricing.end_price(obj.pk, obj.ends_at, actor=actor)
            return
        terms = {name: form.cleaned_data[name] for name in ("provider", "model", "starts_at", "ends_at")}
        rates = Rates(**{name: form.cleaned_data[name] for name in RATES})
        obj.pk = pricing.set_price(rates=rates, tenant=_payer_id(obj), actor=actor, **terms).pk
