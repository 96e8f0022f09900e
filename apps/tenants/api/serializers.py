from typing import Any

from django.utils import timezone
from rest_framework import serializers

from apps.core.api.schema import example
from apps.tenants.api import examples
from apps.tenants.models import ApiKey, Member
from apps.tenants.types import MemberRole, Scope

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
    """A person's place in the tenant."""

    username = serializers.CharField(source="user.username", read_only=True)
    email = serializers.CharField(source="user.email", read_only=True, help_text="Empty: the account has none.")

    class Meta:
        model = Member
        fields = ["id", "username", "email", "role", "created_at"]
        read_only_fields = fields


@example(examples.MEMBER_REQUEST)
class MemberRequestSerializer(serializers.Serializer[Any]):
    """A new member."""

    username = serializers.CharField(max_length=150, help_text="A person who has an account already.")
    role = serializers.ChoiceField(choices=MemberRole.choices, default=MemberRole.MEMBER)
