"""Operators' pages of the books. They only show: what is wrong is corrected by an adjustment, never by an edit."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import RadioFilter

from apps.core.admin_pages import list_url
from apps.core.ids import NO_ID
from apps.ledger.models import GROUP, Attempt, Budget, Entry, Operation, UsageDaily, UsageMonthly
from apps.ledger.types import AttemptState, OperationState
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


class HoldingFilter(RadioFilter):  # type: ignore[misc]
    """Attempts that still keep a hold, by their partial index."""

    title = "state"
    parameter_name = "holding"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state.value, str(state.label)) for state in (AttemptState.OPEN, AttemptState.UNKNOWN)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Attempt]) -> QuerySet[Attempt]:
        return queryset.filter(state=self.value()) if self.value() else queryset


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


@admin.register(Attempt)
class AttemptAdmin(TenantRecordAdmin):
    list_display = ("id", "payer_tenant_id", "operation", "number", "state", "provider", "model", "hold_tokens", "day")
    list_filter = (HoldingFilter, TenantFilter)
    search_fields = ("id", "operation")

    def related(self, row: Attempt) -> Mapping[str, str]:
        return {"all attempts of the operation": list_url("ledger.attempt", operation=row.operation_id)}


@admin.register(Entry)
class EntryAdmin(TenantRecordAdmin):
    list_display = (
        *("id", "payer_tenant_id", "kind", "operation", "model", "total_tokens", "token_source", "billable"),
        *("day", "occurred_at"),
    )
    list_filter = _PARTY_FILTERS
    search_fields = ("id", "run_id")
    pointers = POINTERS

    def related(self, row: Entry) -> Mapping[str, str]:
        values = {name: getattr(row, name) for name in GROUP}
        group = {name: NO_ID if value is None else value for name, value in values.items()}
        month = row.day.replace(day=1)
        return {
            "daily statistics": list_url("ledger.usagedaily", day=row.day, **group),
            "monthly statistics": list_url("ledger.usagemonthly", month=month, **group),
            "budget": list_url("ledger.budget", tenant_id=row.payer_tenant_id, starts_on=month),
        }


@admin.register(Budget)
class BudgetAdmin(TenantRecordAdmin):
    list_display = ("id", "tenant_id", "starts_on", "limit_tokens", "spent_tokens", "held_tokens")
    list_filter = (TenantFilter,)
    search_fields = ("tenant_id",)

    def related(self, row: Budget) -> Mapping[str, str]:
        return {
            "monthly statistics": list_url("ledger.usagemonthly", payer_tenant_id=row.tenant_id, month=row.starts_on),
            "entries": _entries(row.tenant_id, row.starts_on, _next_month(row.starts_on)),
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
        return {"entries of the payer's month": _entries(row.payer_tenant_id, row.month, _next_month(row.month))}


def _entries(payer: Any, start: date, end: date) -> str:
    return list_url("ledger.entry", payer_tenant_id=payer, day__gte=start, day__lt=end)


def _next_month(month: date) -> date:
    return month.replace(year=month.year + 1, month=1) if month.month == 12 else month.replace(month=month.month + 1)
