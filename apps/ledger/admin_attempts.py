"""Operators' pages of attempts, and how an operator ends a doubt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from unfold.contrib.filters.admin import RadioFilter
from unfold.decorators import action
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from apps.core.admin_pages import dialog_answer, list_url
from apps.core.errors import NoobleError
from apps.ledger import sweeping
from apps.ledger.models import Attempt
from apps.ledger.types import BUCKETS, AttemptState, TokenCounts, counts_of
from apps.tenants.admin_columns import TenantFilter, TenantRecordAdmin


class HoldingFilter(RadioFilter):  # type: ignore[misc]
    """Attempts that still keep a hold, by their partial index."""

    title = "state"
    parameter_name = "holding"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state.value, str(state.label)) for state in (AttemptState.OPEN, AttemptState.UNKNOWN)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Attempt]) -> QuerySet[Attempt]:
        return queryset.filter(state=self.value()) if self.value() else queryset


class ResolutionForm(BaseDialogForm):  # type: ignore[misc]
    """What the provider says became of a call."""

    outcome = forms.ChoiceField(
        choices=[("counted", "The provider counted it, as follows"), ("void", "The provider did not count it")],
        widget=UnfoldAdminSelectWidget,
    )
    fresh_input_tokens = forms.IntegerField(min_value=0, initial=0, widget=UnfoldAdminIntegerFieldWidget)
    cached_input_tokens = forms.IntegerField(min_value=0, initial=0, widget=UnfoldAdminIntegerFieldWidget)
    cache_write_tokens = forms.IntegerField(min_value=0, initial=0, widget=UnfoldAdminIntegerFieldWidget)
    plain_output_tokens = forms.IntegerField(min_value=0, initial=0, widget=UnfoldAdminIntegerFieldWidget)
    reasoning_tokens = forms.IntegerField(min_value=0, initial=0, widget=UnfoldAdminIntegerFieldWidget)
    evidence = forms.CharField(
        max_length=300, widget=UnfoldAdminTextareaWidget, help_text="How you know: the provider's report, a ticket."
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("outcome") == "counted" and not counts(cleaned).total_tokens:
            self.add_error("fresh_input_tokens", "Say how many tokens it counted.")
        return cleaned


def counts(cleaned: Mapping[str, Any]) -> TokenCounts:
    return counts_of({"token_source": "api", **{name: cleaned.get(name) for name in BUCKETS}})


@admin.register(Attempt)
class AttemptAdmin(TenantRecordAdmin):
    list_display = ("id", "payer_tenant_id", "operation", "number", "state", "provider", "model", "hold_tokens", "day")
    list_filter = (HoldingFilter, TenantFilter)
    search_fields = ("id", "operation")
    actions_detail = ("resolve",)

    def related(self, row: Attempt) -> Mapping[str, str]:
        key = row.operation.idempotency_key
        return {
            "all attempts of the operation": list_url("ledger.attempt", operation=row.operation_id),
            "entry of the operation": list_url("ledger.entry", tenant_id=row.tenant_id, idempotency_key=key),
        }

    def has_resolve_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("ledger.change_attempt")

    @action(  # type: ignore[untyped-decorator]
        description="Resolve",
        icon="help_center",
        permissions=("resolve",),
        dialog={"title": "What became of the call", "form_class": ResolutionForm, "form_submit_text": "Resolve"},
    )
    def resolve(self, request: HttpRequest, form: ResolutionForm, object_id: str) -> HttpResponse:
        """End the doubt about an unknown attempt by what the provider says, in the operator's name."""
        row = Attempt.objects.filter(pk=object_id, state=AttemptState.UNKNOWN).first()
        if row is None:
            raise Http404
        told = None if form.cleaned_data["outcome"] == "void" else counts(form.cleaned_data)
        try:
            answer = f"The attempt is {sweeping.resolve(row, told)}."
        except NoobleError as error:
            answer = f"Nothing was changed. {error.detail}"
        else:
            self.log_change(
                request, row, f"Resolved as {form.cleaned_data['outcome']}: {form.cleaned_data['evidence']}"
            )
        return dialog_answer("{}", answer)
