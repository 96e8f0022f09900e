"""Operators' pages of tenants, plans, people and keys."""

import json
from collections.abc import Mapping
from typing import Any

from django import forms
from django.apps import apps
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.forms.fields import InvalidJSONInput
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.html import format_html
from rest_framework import serializers
from unfold.contrib.filters.admin import RadioFilter
from unfold.decorators import action
from unfold.forms import AdminPasswordChangeForm, BaseDialogForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextInputWidget

from apps.core.admin_pages import OperatorAdmin, list_url
from apps.core.api.fields import MetadataField
from apps.tenants import admin_credentials, services  # noqa: F401 - a page of its own
from apps.tenants.admin_columns import TenantFilter, TenantRecordAdmin
from apps.tenants.models import ApiKey, Member, Tenant, Tier, User
from apps.tenants.types import Scope


class JSONTextField(forms.JSONField):
    """JSON that is shown as ASCII: a half of a surrogate pair, which is refused, can be shown no other way."""

    def prepare_value(self, value: Any) -> Any:
        shown = super().prepare_value(value)
        return shown if isinstance(shown, InvalidJSONInput) else json.dumps(value)


class TierForm(forms.ModelForm):  # type: ignore[type-arg]
    """A plan. What every request of its tenants would stumble over is refused here."""

    def clean_defaults(self) -> dict[str, Any]:
        given = self.cleaned_data["defaults"]
        try:
            return MetadataField().to_internal_value({} if given is None else given)
        except serializers.ValidationError as error:
            complaint = " ".join(map(str, error.detail))
            raise forms.ValidationError(f'{complaint} E.g. {{"rag_config.max_results": 8}}.') from error

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        for name in ("max_output_tokens", "max_upload_bytes", "max_question_characters", "requests_per_minute"):
            if cleaned.get(name) == 0:
                self.add_error(name, "At least one: with none every request of the tier would be refused.")
        return cleaned


@admin.register(Tier)
class TierAdmin(OperatorAdmin):
    form = TierForm
    list_display = (
        "title",
        "name",
        "monthly_token_limit",
        "requests_per_minute",
        "max_output_tokens",
        "max_upload_bytes",
    )
    ordering = ("position",)
    readonly_fields = ("name",)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        chosen = {"form_class": JSONTextField} if db_field.name == "defaults" else {}
        return super().formfield_for_dbfield(db_field, request, **options, **chosen)

    # Each tier has queues and workers of its own, which no row can make or take away.
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class KeyForm(BaseDialogForm):  # type: ignore[misc]
    """What a new key is called, may do, and until when."""

    name = forms.CharField(max_length=100, widget=UnfoldAdminTextInputWidget)
    scopes = forms.MultipleChoiceField(choices=Scope.choices, widget=UnfoldAdminCheckboxSelectMultipleWidget)
    expires_at = forms.DateTimeField(
        required=False, widget=UnfoldAdminTextInputWidget({"type": "datetime-local"}), help_text="UTC. Empty: never."
    )


@admin.register(Tenant)
class TenantAdmin(OperatorAdmin):
    list_display = ("name", "slug", "tier", "is_active", "monthly_token_limit", "hard_limit", "created_at")
    list_filter = ("tier", "is_active")
    list_select_related = ("tier",)
    # There are thousands of tenants at most: their names can be searched without an index.
    search_fields = ("slug__startswith", "name__icontains", "id")
    readonly_fields = ("see_also", "id", "created_at")
    actions_detail = ("issue_key",)

    def related(self, row: Tenant) -> Mapping[str, str]:
        """Its rows, in every room that can filter them by tenant."""
        if not row.slug:
            return {}
        pages = [
            self.admin_site.get_model_admin(model)
            for model in apps.get_models()
            if self.admin_site.is_registered(model)
        ]
        return {
            str(page.opts.verbose_name_plural): list_url(page.opts.label, tenant=row.slug)
            for page in pages
            if TenantFilter in page.list_filter
        }

    # Its rows elsewhere, and what it owes, would outlive it: a tenant is made inactive.
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_issue_key_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("tenants.add_apikey")

    @action(  # type: ignore[untyped-decorator]
        description="Issue API key",
        icon="key",
        permissions=("issue_key",),
        dialog={"title": "Issue an API key", "form_class": KeyForm, "form_submit_text": "Issue"},
    )
    def issue_key(self, request: HttpRequest, form: KeyForm, object_id: str) -> HttpResponse:
        """Show the new key in the answer, and nowhere else: a message to the next page would lie in a cookie."""
        tenant = self.get_object(request, object_id)
        if tenant is None:
            raise Http404
        wanted = {name: form.cleaned_data[name] for name in ("name", "scopes", "expires_at")}
        row, key = services.issue_key(services.context_of(tenant), **wanted)
        self.log_change(request, tenant, f"Issued the API key {row}.")
        return HttpResponse(
            format_html(
                '<div id="dialog-form" class="my-6"><p>This is the key. It is shown here and never again.</p>'
                '<pre style="white-space: pre-wrap; overflow-wrap: anywhere">{}</pre></div>',
                key,
            )
        )


@admin.register(ApiKey)
class ApiKeyAdmin(TenantRecordAdmin):
    list_display = ("name", "prefix", "tenant", "scopes", "expires_at", "revoked_at", "last_used_at")
    list_filter = (TenantFilter,)
    search_fields = ("prefix", "id")
    hidden = frozenset({"secret_hash"})
    actions = ("revoke",)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("tenants.change_apikey")

    @admin.action(description="Revoke selected keys", permissions=("revoke",))
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        keys = queryset.select_related("tenant")
        for key in keys:
            services.revoke_key(services.context_of(key.tenant), key.pk)
            self.log_change(request, key, "Revoked.")
        self.message_user(request, f"Keys that open nothing any more: {len(keys)}.", messages.SUCCESS)


class InvitationFilter(RadioFilter):  # type: ignore[misc]
    """Invitations that wait for an operator, by the partial index that keeps their names unique."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("invited", "Invited")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Member]) -> QuerySet[Member]:
        return queryset.filter(user__isnull=True) if self.value() == "invited" else queryset


@admin.register(Member)
class MemberAdmin(OperatorAdmin):
    """Naming an invitation's account is accepting it: only an operator knows whose account is whose."""

    list_display = ("username", "tenant", "role", "user", "created_at")
    list_filter = (TenantFilter, InvitationFilter)
    readonly_fields = ("invited_as",)
    list_select_related = ("user", "tenant")
    search_fields = ("id", "user__username")
    autocomplete_fields = ("tenant", "user")


@admin.register(User)
class OperatorUserAdmin(UserAdmin, OperatorAdmin):  # type: ignore[type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "first_name", "last_name", "is_staff", "is_active", "last_login")
    list_filter = ("is_staff", "is_superuser", "is_active")
    search_fields = ("username__icontains", "email__icontains", "id")
    # Rights are given to groups.
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Rights", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    filter_horizontal = ()
    autocomplete_fields = ("groups",)


admin.site.unregister(Group)


@admin.register(Group)
class OperatorGroupAdmin(GroupAdmin, OperatorAdmin):
    search_fields = ("name__icontains",)
