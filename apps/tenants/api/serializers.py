from typing import Any

from django.utils import timezone
from rest_framework import serializers

from apps.tenants.models import ApiKey, Member
from apps.tenants.types import MemberRole, Scope


class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    """A key as it is listed: never its secret."""

    prefix = serializers.SerializerMethodField()

    class Meta:
        model = ApiKey
        fields = ["id", "name", "prefix", "scopes", "expires_at", "revoked_at", "last_used_at", "created_at"]

    def get_prefix(self, key: ApiKey) -> str:
        return f"nbl_{key.prefix}"


class IssuedApiKeySerializer(ApiKeySerializer):
    """A key as it is shown once, when it is created."""

    key = serializers.CharField(help_text="The key itself. It is not stored and not shown again.")

    class Meta(ApiKeySerializer.Meta):
        fields = [*ApiKeySerializer.Meta.fields, "key"]


class ApiKeyRequestSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=100)
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices), allow_empty=False)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)

    def validate_expires_at(self, value: Any) -> Any:
        if value is not None and value <= timezone.now():
            raise serializers.ValidationError("It lies in the past.", code="past")
        return value


class MemberSerializer(serializers.ModelSerializer[Member]):
    username = serializers.CharField(source="user.username", read_only=True)
    email = serializers.EmailField(source="user.email", read_only=True)

    class Meta:
        model = Member
        fields = ["id", "username", "email", "role", "created_at"]


class MemberRequestSerializer(serializers.Serializer[Any]):
    username = serializers.CharField(max_length=150, help_text="A person who has an account already.")
    role = serializers.ChoiceField(choices=MemberRole.choices, default=MemberRole.MEMBER)
