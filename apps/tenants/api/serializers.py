from typing import Any

from django.utils import timezone
from rest_framework import serializers

from apps.core.api.schema import example
from apps.tenants.api import examples
from apps.tenants.models import ApiKey, Member, ProviderCredential
from apps.tenants.types import MemberRole, Scope
from apps.tenants.validators import LONGEST_SECRET, SHORTEST_SECRET, validate_secret

#: What a tenant may give its own keys; ``internal`` is for trusted services, whose keys operators issue.
PUBLIC_SCOPES = [(scope.value, scope.label) for scope in Scope if scope is not Scope.INTERNAL]


@example(examples.API_KEY)
class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    """A key as it is listed: never its secret."""

    prefix = serializers.SerializerMethodField()

    class Meta:
        model = ApiKey
        fields = ["id", "name", "prefix", "scopes", "expires_at", "revoked_at", "last_used_at", "created_at"]
        read_only_fields = fields

    def get_prefix(self, key: ApiKey) -> str:
        return f"nbl_{key.prefix}"


@example(examples.ISSUED_API_KEY)
class IssuedApiKeySerializer(ApiKeySerializer):
    """A key as it is shown once, when it is created."""

    key = serializers.CharField(allow_null=True, help_text="The key itself; null in a replay. It is not stored.")

    class Meta(ApiKeySerializer.Meta):
        fields = [*ApiKeySerializer.Meta.fields, "key"]


@example(examples.API_KEY_REQUEST)
class ApiKeyRequestSerializer(serializers.Serializer[Any]):
    """A new key. Without `expires_at` it stays valid until it is revoked."""

    name = serializers.CharField(max_length=100)
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=PUBLIC_SCOPES), allow_empty=False)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)

    def validate_expires_at(self, value: Any) -> Any:
        if value is not None and value <= timezone.now():
            raise serializers.ValidationError("It lies in the past.", code="past")
        return value


@example(examples.MEMBER)
class MemberSerializer(serializers.ModelSerializer[Member]):
    """A person's place in the tenant, or an invitation."""

    username = serializers.CharField(read_only=True)
    email = serializers.SerializerMethodField(help_text="Empty: an invitation, or the account has none.")
    accepted = serializers.SerializerMethodField(help_text="False: an invitation, until an operator names the account.")

    class Meta:
        model = Member
        fields = ["id", "username", "email", "role", "accepted", "created_at"]
        read_only_fields = fields

    def get_email(self, member: Member) -> str:
        return member.user.email if member.user else ""

    def get_accepted(self, member: Member) -> bool:
        return member.user_id is not None


@example(examples.MEMBER_REQUEST)
class MemberRequestSerializer(serializers.Serializer[Any]):
    """An invitation."""

    username = serializers.CharField(
        max_length=150, help_text="The name of the person's account, which need not exist yet."
    )
    role = serializers.ChoiceField(choices=MemberRole.choices, default=MemberRole.MEMBER)


@example(examples.CREDENTIAL)
class CredentialSerializer(serializers.ModelSerializer[ProviderCredential]):
    """What is known of the tenant's own key for a provider: never the key."""

    class Meta:
        model = ProviderCredential
        fields = ["provider", "hint", "base_url", "created_at", "rotated_at"]
        read_only_fields = fields
        extra_kwargs = {
            "hint": {"help_text": "The last four characters."},
            "base_url": {"help_text": "Where operators have it sent; empty: to the deployment's address."},
            "rotated_at": {"help_text": "When another key took the place of the one before; null: it is the first."},
        }


@example(examples.CREDENTIAL_REQUEST)
class CredentialRequestSerializer(serializers.Serializer[Any]):
    """A key of the tenant's own for a provider."""

    secret = serializers.CharField(
        write_only=True,
        min_length=SHORTEST_SECRET,
        max_length=LONGEST_SECRET,
        help_text="The key, as the provider gave it: visible ASCII. No answer ever shows it.",
    )

    def validate_secret(self, value: str) -> str:
        validate_secret(value)
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        # Left out silently, the key would be sent to another address than its tenant thinks.
        if "base_url" in self.initial_data:
            raise serializers.ValidationError({"base_url": "Ask the operator to set it."}, code="operators_only")
        return attrs
