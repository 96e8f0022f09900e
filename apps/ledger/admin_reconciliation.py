"""Operators' pages of what reconciliation did and found."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from unfold.contrib.filters.admin import RadioFilter
from unfold.decorators import action
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminDateWidget, UnfoldAdminTextareaWidget

from apps.core import dispatch
from apps.core.admin_pages import RecordAdmin, change_url, dialog_answer, link
from apps.ledger import reconciliation
from apps.ledger.models import Discrepancy, ReconciliationRun
from apps.ledger.types import DiscrepancyState
from apps.tenants.admin_columns import TenantFilter, TenantRecordAdmin


class OpenFilter(RadioFilter):  # type: ignore[misc]
    """What nobody has looked into yet, by its partial index."""

    title = "state"
    parameter_name = "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Open")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Discrepancy]) -> QuerySet[Discrepancy]:
        return queryset.filter(state=DiscrepancyState.OPEN) if self.value() else queryset


class ResolutionForm(BaseDialogForm):  # type: ignore[misc]
    """What an operator found out."""

    reason = forms.CharField(max_length=300, widget=UnfoldAdminTextareaWidget)


class ReconciliationForm(BaseDialogForm):  # type: ignore[misc]
    """What is compared."""

    since = forms.DateField(initial=reconciliation.recent, widget=UnfoldAdminDateWidget)


@admin.register(Discrepancy)
class DiscrepancyAdmin(TenantRecordAdmin):
    list_display = ("id", "tenant_id", "kind", "state", "subject", "amount_tokens", "times_seen", "last_seen_at")
    list_filter = (OpenFilter, TenantFilter)
    search_fields = ("id",)
    actions_detail = ("resolve",)

    def has_resolve_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("ledger.change_discrepancy")

    @action(  # type: ignore[untyped-decorator]
        description="Resolve",
        icon="task_alt",
        permissions=("resolve",),
        dialog={"title": "What was found out", "form_class": ResolutionForm, "form_submit_text": "Resolve"},
    )
    def resolve(self, request: HttpRequest, form: ResolutionForm, object_id: str) -> HttpResponse:
        """Close the discrepancy in the operator's name; it opens again if what is found changes."""
        row = Discrepancy.objects.filter(pk=object_id).first()
        if row is None:
            raise Http404
        reason = form.cleaned_data["reason"]
        reconciliation.resolve(row, reason=reason, actor=request.user.get_username())
        self.log_change(request, row, f"Resolved: {reason}")
        return dialog_answer("Resolved.")


@admin.register(ReconciliationRun)
class ReconciliationRunAdmin(RecordAdmin):
    list_display = ("id", "started_by", "started_at", "finished_at", "found", "repaired", "error")
    actions_list = ("reconcile_now",)

    def has_reconcile_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("ledger.add_reconciliationrun")

    @action(  # type: ignore[untyped-decorator]
        description="Reconcile now",
        icon="balance",
        permissions=("reconcile",),
        dialog={"title": "Compare the books", "form_class": ReconciliationForm, "form_submit_text": "Compare"},
    )
    def reconcile_now(self, request: HttpRequest, form: ReconciliationForm) -> HttpResponse:
        """Have a worker compare the books from a day on: it takes a transaction for each kind, and maybe minutes."""
        run = reconciliation.begin(started_by=request.user.get_username(), since=form.cleaned_data["since"])
        dispatch.publish_maintenance_on_commit("reconciliation.compare", ids={"run_id": str(run.pk)})
        page = link(change_url("ledger.reconciliationrun", run.pk), "its page")
        return dialog_answer("The books are being compared. What was found stands on {} when it is finished.", page)
