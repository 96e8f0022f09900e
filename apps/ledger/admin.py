"""Operators' pages of the books. They only show: what is wrong is corrected by an adjustment, never by an edit."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Exists, OuterRef, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from unfold.contrib.filters.admin import RadioFilter
from unfold.decorators import action
from unfold.forms import BaseDialogForm
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextareaWidget,
)

from apps.core import clock
from apps.core.admin_pages import change_url, dialog_answer, link, list_url
from apps.core.errors import NoobleError
from apps.core.ids import NO_ID, new_id
from apps.ledger import adjustments, admin_attempts, admin_prices, admin_reconciliation  # noqa: F401 - pages of theirs
from apps.ledger.models import GROUP, Budget, Entry, Operation, UsageDaily, UsageMonthly
from apps.ledger.types import BUCKETS, AttemptState, EntryKind, OperationState, counts_of
from apps.tenants.admin_columns import OwnerFilter, PayerFilter, TenantFilter, TenantRecordAdmin

#: What an operation was for: rows of rooms above this one, known here by name only.
POINTERS = {
    "agent_id": "agents.agent",
    "collection_id": "collections.collection",
    "document_id": "collections.document",
    "conversation_id": "agents.conversation",
    "run_id": "agents.run",
}
_PARTY_FILTERS = (TenantFilter, OwnerFilter, PayerFilter)


class PendingFilter(RadioFilter):  # type: ignore[misc]
    """Operations that are not over, by the sweeper's partial index."""

    title = "state"
    parameter_name = "pending"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Pending")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Operation]) -> QuerySet[Operation]:
        return queryset.filter(state=OperationState.PENDING) if self.value() else queryset


class UnpricedFilter(RadioFilter):  # type: ignore[misc]
    """Entries that have no cost, nor a correction that gave them one, by their partial index."""

    title = "price"
    parameter_name = "unpriced"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "None yet")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Entry]) -> QuerySet[Entry]:
        if not self.value():
            return queryset
        priced = Entry.objects.filter(corrects=OuterRef("pk"), cost_usd__isnull=False)
        return queryset.filter(~Exists(priced), cost_usd__isnull=True, kind=EntryKind.USAGE)


@admin.register(Operation)
class OperationAdmin(TenantRecordAdmin):
    list_display = ("id", "tenant_id", "operation", "state", "billable", "run_id", "error_code", "created_at")
    list_filter = (PendingFilter, TenantFilter)
    search_fields = ("id", "run_id")
    pointers = POINTERS

    def related(self, row: Operation) -> Mapping[str, str]:
        return {
            "attempts": list_url("ledger.attempt", operation=row.pk),
            # By consumer and key, which is what the index knows entries by.
            "entry": list_url("ledger.entry", tenant_id=row.tenant_id, idempotency_key=row.idempotency_key),
        }


class AdjustmentForm(BaseDialogForm):  # type: ignore[misc]
    """By how much an entry is corrected, and why."""

    fresh_input_tokens = forms.IntegerField(initial=0, widget=UnfoldAdminIntegerFieldWidget)
    cached_input_tokens = forms.IntegerField(initial=0, widget=UnfoldAdminIntegerFieldWidget)
    cache_write_tokens = forms.IntegerField(initial=0, widget=UnfoldAdminIntegerFieldWidget)
    plain_output_tokens = forms.IntegerField(initial=0, widget=UnfoldAdminIntegerFieldWidget)
    reasoning_tokens = forms.IntegerField(initial=0, widget=UnfoldAdminIntegerFieldWidget)
    cost_usd = forms.DecimalField(
        required=False,
        max_digits=20,
        decimal_places=10,
        widget=UnfoldAdminDecimalFieldWidget,
        help_text="Empty: what the tokens cost at the entry's price.",
    )
    reason = forms.CharField(max_length=adjustments.MAX_REASON_CHARACTERS, widget=UnfoldAdminTextareaWidget)
    #: Made with the form, so that a form that is sent twice books once.
    key = forms.CharField(max_length=64, widget=forms.HiddenInput, initial=lambda: f"admin:{new_id()}")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        entry = _entry(self.object_id)
        if entry:
            for name, tokens in zip(BUCKETS, adjustments.remainder(entry).buckets, strict=True):
                self.fields[name].help_text = f"Added to {tokens}; negative to take back."


def _entry(key: Any) -> Entry | None:
    try:
        return Entry.objects.filter(pk=key).first()
    except ValidationError:
        return None


@admin.register(Entry)
class EntryAdmin(TenantRecordAdmin):
    list_display = (
        *("id", "payer_tenant_id", "kind", "operation", "model", "total_tokens", "token_source", "billable"),
        *("cost_usd", "day", "occurred_at"),
    )
    list_filter = (*_PARTY_FILTERS, UnpricedFilter)
    search_fields = ("id", "run_id")
    pointers = {**POINTERS, "price_id": "ledger.price"}
    actions_detail = ("adjust",)

    def related(self, row: Entry) -> Mapping[str, str]:
        values = {name: getattr(row, name) for name in GROUP}
        group = {name: NO_ID if value is None else value for name, value in values.items()}
        month = row.day.replace(day=1)
        return {
            "corrections": list_url("ledger.entry", corrects=row.pk),
            "daily statistics": list_url("ledger.usagedaily", day=row.day, **group),
            "monthly statistics": list_url("ledger.usagemonthly", month=month, **group),
            "budget": list_url("ledger.budget", tenant_id=row.payer_tenant_id, starts_on=month),
        }

    def has_adjust_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("ledger.add_entry")

    @action(  # type: ignore[untyped-decorator]
        description="Adjust",
        icon="balance",
        permissions=("adjust",),
        dialog={"title": "Correct this entry by another", "form_class": AdjustmentForm, "form_submit_text": "Book"},
    )
    def adjust(self, request: HttpRequest, form: AdjustmentForm, object_id: str) -> HttpResponse:
        """Book the correction in the operator's name, and lead to it."""
        entry = _entry(object_id)
        if entry is None:
            raise Http404
        terms = {name: form.cleaned_data[name] for name in ("reason", "key", "cost_usd")}
        counts = counts_of({**form.cleaned_data, "token_source": entry.token_source})
        try:
            booked = adjustments.adjust(entry.pk, counts, actor=request.user.get_username(), **terms)
        except NoobleError as error:
            return dialog_answer("Nothing was booked. {}", error.detail)
        self.log_change(request, entry, f"Adjusted by {booked.pk}: {booked.reason}")
        return dialog_answer("Booked: {}.", link(change_url("ledger.entry", booked.pk), booked))


@admin.register(Budget)
class BudgetAdmin(TenantRecordAdmin):
    list_display = ("id", "tenant_id", "starts_on", "limit_tokens", "spent_tokens", "held_tokens")
    list_filter = (TenantFilter,)
    search_fields = ("tenant_id",)

    def related(self, row: Budget) -> Mapping[str, str]:
        return {
            "monthly statistics": list_url("ledger.usagemonthly", payer_tenant_id=row.tenant_id, month=row.starts_on),
            "entries": _entries(row.tenant_id, row.starts_on, clock.month_after(row.starts_on)),
            "unresolved attempts": list_url(
                "ledger.attempt", payer_tenant_id=row.tenant_id, holding=AttemptState.UNKNOWN.value
            ),
        }


class UsageAdmin(TenantRecordAdmin):
    """Sums of entries, and the way back to them."""

    list_filter = _PARTY_FILTERS
    search_fields = ("payer_tenant_id",)
    pointers = POINTERS


@admin.register(UsageDaily)
class UsageDailyAdmin(UsageAdmin):
    list_display = ("id", "payer_tenant_id", "day", "operation", "model", "total_tokens", "billable", "entries")

    def related(self, row: UsageDaily) -> Mapping[str, str]:
        return {
            "entries of the payer's day": list_url("ledger.entry", payer_tenant_id=row.payer_tenant_id, day=row.day)
        }


@admin.register(UsageMonthly)
class UsageMonthlyAdmin(UsageAdmin):
    list_display = ("id", "payer_tenant_id", "month", "operation", "model", "total_tokens", "billable", "entries")

    def related(self, row: UsageMonthly) -> Mapping[str, str]:
        return {"entries of the payer's month": _entries(row.payer_tenant_id, row.month, clock.month_after(row.month))}


def _entries(payer: Any, start: date, end: date) -> str:
    return list_url("ledger.entry", payer_tenant_id=payer, day__gte=start, day__lt=end)
