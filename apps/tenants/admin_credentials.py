"""Operators' page of tenants' own keys for providers."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget

from apps.core import addresses
from apps.tenants import credentials, services
from apps.tenants.admin_columns import TenantFilter, TenantRecordAdmin
from apps.tenants.models import ProviderCredential, Tenant
from apps.tenants.validators import validate_secret


class CredentialForm(forms.ModelForm):  # type: ignore[type-arg]
    """Another key, which is not shown again, not even in a form that is refused; and where it is good."""

    secret = forms.CharField(
        required=False,
        validators=[validate_secret],
        widget=UnfoldAdminPasswordWidget({"autocomplete": "new-password"}),
        help_text="Empty: the one that is there.",
    )

    def clean_base_url(self) -> str:
        """Refuse what our servers may not call. A name server is asked while the page holds no lock."""
        url: str = self.cleaned_data["base_url"]
        try:
            if url:
                addresses.check(url)
        except addresses.AddressRefusedError as error:
            raise forms.ValidationError(str(error)) from error
        except OSError as error:
            raise forms.ValidationError("The name of its host cannot be resolved.") from error
        return url

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        provider = cleaned.get("provider", self.instance.provider)
        if cleaned.get("secret") and not credentials.takes_key(provider):
            self.add_error(None, f"There is no provider {provider!r} that takes a tenant's key.")
        if cleaned.get("base_url") == "" and credentials.needs_address(provider):
            self.add_error("base_url", f"The deployment's {provider} is not the tenant's. Say where the key is good.")
        return cleaned


class NewCredentialForm(CredentialForm):
    """A tenant's first key for a provider."""

    tenant = forms.ModelChoiceField(
        queryset=Tenant.objects.all(), to_field_name="slug", widget=UnfoldAdminTextInputWidget, help_text="Its slug."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["secret"].required = True
        self.fields["secret"].help_text = ""


@admin.register(ProviderCredential)
class ProviderCredentialAdmin(TenantRecordAdmin):
    """Secrets go in and do not come out. Where a key is sent is for operators alone to say."""

    list_display = ("provider", "hint", "tenant", "base_url", "created_at", "rotated_at")
    list_filter = (TenantFilter,)
    search_fields = ("id",)
    hidden = frozenset({"encrypted_secret"})
    extra = ("secret",)
    editable = ("base_url", "secret")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("tenants.add_providercredential")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("tenants.delete_providercredential")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = CredentialForm if obj else NewCredentialForm
        return super().get_form(request, obj, change, **{**kwargs, "form": form})

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_fields(request, obj) if obj else ("tenant", "provider", "secret", "base_url")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_readonly_fields(request, obj) if obj else ()

    def save_model(self, request: HttpRequest, obj: ProviderCredential, form: Any, change: Any) -> None:
        if secret := form.cleaned_data["secret"]:
            stored, _ = credentials.keep(services.context_of(obj.tenant), provider=obj.provider, secret=secret)
            obj.pk = stored.pk
        credentials.point(obj.pk, obj.base_url)
