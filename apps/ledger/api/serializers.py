from datetime import timedelta
from typing import Any

from django.utils import timezone
from rest_framework import serializers

from apps.ledger.models import Entry
from apps.ledger.statistics import GRANULARITIES, GROUPS, ROLES

MAX_DAYS = 400


class GroupsField(serializers.CharField):
    """Names, divided by commas: ``provider,model``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, allow_blank=True, max_length=200, **options)

    def to_internal_value(self, data: Any) -> Any:
        names = tuple(dict.fromkeys(name for name in super().to_internal_value(data).split(",") if name))
        unknown = [name for name in names if name not in GROUPS]
        if unknown:
            raise serializers.ValidationError(
                f"“{unknown[0]}” is not one of {', '.join(GROUPS)}.", code="invalid_choice"
            )
        return names


class UsageQuerySerializer(serializers.Serializer[Any]):
    """Both ends are included; without them the last thirty days."""

    granularity = serializers.ChoiceField(choices=GRANULARITIES, default="day")
    group_by = GroupsField()
    role = serializers.ChoiceField(choices=ROLES, default="payer")

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        # "from" is a word of Python, so these two cannot be written as attributes.
        dates = {"from": serializers.DateField(required=False), "to": serializers.DateField(required=False)}
        return {**dates, **super().get_fields()}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        end = attrs.pop("to", None) or timezone.now().date()
        start = attrs.pop("from", None) or end - timedelta(days=30)
        if start > end:
            raise serializers.ValidationError({"from": "It lies after `to`."}, code="invalid_range")
        if end - start > timedelta(days=MAX_DAYS):
            raise serializers.ValidationError({"from": f"At most {MAX_DAYS} days at once."}, code="range_too_long")
        return {**attrs, "start": start, "end": end}


class UsageRowSerializer(serializers.Serializer[Any]):
    period = serializers.CharField()
    input_tokens = serializers.IntegerField()
    cached_input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    reasoning_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()
    cost_usd = serializers.DecimalField(max_digits=24, decimal_places=10)
    entries = serializers.IntegerField()


class UsageSerializer(serializers.Serializer[Any]):
    granularity = serializers.CharField()
    group_by = serializers.ListField(child=serializers.CharField())
    results = UsageRowSerializer(many=True)
    totals = serializers.DictField()


class EntrySerializer(serializers.ModelSerializer[Entry]):
    """A row of the ledger. Input includes what was cached, output includes reasoning (OpenTelemetry)."""

    consumer_tenant_id = serializers.UUIDField(source="tenant_id")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cost_usd = serializers.DecimalField(max_digits=20, decimal_places=10, allow_null=True)
    corrects = serializers.UUIDField(source="corrects_id", allow_null=True)

    class Meta:
        model = Entry
        fields = [
            *("id", "kind", "idempotency_key", "token_type", "operation", "provider", "model", "model_family"),
            *("input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens"),
            *("total_tokens", "token_source", "billable", "cost_usd", "price_id", "payer_tenant_id"),
            *("owner_tenant_id", "consumer_tenant_id", "agent_id", "collection_id", "document_id"),
            *("conversation_id", "run_id", "context_id", "provider_request_id", "attempts", "occurred_at"),
            *("recorded_at", "corrects", "metadata"),
        ]


class BudgetSerializer(serializers.Serializer[Any]):
    """The present month. Null limit: none."""

    period = serializers.CharField()
    limit_tokens = serializers.IntegerField(allow_null=True)
    spent_tokens = serializers.IntegerField()
    held_tokens = serializers.IntegerField()
    unknown_tokens = serializers.IntegerField()
    available_tokens = serializers.IntegerField(allow_null=True)
    resets_at = serializers.DateTimeField()
    hard = serializers.BooleanField()
