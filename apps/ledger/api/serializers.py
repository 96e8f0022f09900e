from datetime import date, timedelta
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.core.api.fields import MetadataField
from apps.core.api.schema import example
from apps.ledger.api import examples
from apps.ledger.models import Discrepancy, Entry
from apps.ledger.statistics import GRANULARITIES, GROUPS, ROLES
from apps.ledger.types import DiscrepancyKind, DiscrepancyState, OperationKind, TokenType

MAX_DAYS = 400
DEFAULT_DAYS = 30


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
    """Both ends are included; without them the last thirty days. Its context gives ``today``, where the tenant is."""

    granularity = serializers.ChoiceField(choices=GRANULARITIES, default="day")
    group_by = GroupsField()
    role = serializers.ChoiceField(choices=ROLES, default="payer")

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        # "from" is a word of Python, so these two cannot be written as attributes.
        dates = {"from": serializers.DateField(required=False), "to": serializers.DateField(required=False)}
        return {**dates, **super().get_fields()}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        end = attrs.pop("to", None) or self.context["today"]
        # Within a month of the first day that a date can name, the range begins with that.
        start = attrs.pop("from", None) or end - min(timedelta(days=DEFAULT_DAYS), end - date.min)
        if start > end:
            raise serializers.ValidationError({"from": "It lies after `to`."}, code="invalid_range")
        if end - start > timedelta(days=MAX_DAYS):
            raise serializers.ValidationError({"from": f"At most {MAX_DAYS} days at once."}, code="range_too_long")
        return {**attrs, "start": start, "end": end}


class UsageSumsSerializer(serializers.Serializer[Any]):
    """Tokens and money. Input includes what was cached, output includes reasoning."""

    input_tokens = serializers.IntegerField()
    cached_input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    reasoning_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()
    cost_usd = serializers.DecimalField(max_digits=24, decimal_places=10)
    entries = serializers.IntegerField()
    unpriced_entries = serializers.IntegerField(
        help_text="Entries that were booked without a price. What they cost is not in `cost_usd`, unless an entry that "
        "came later has added it."
    )


@extend_schema_field({"type": "string", "format": "uuid", "nullable": True})
class GroupIdField(serializers.UUIDField):
    """Null: usage that belongs to none. Left out where it is not grouped by it, which ``allow_null`` would prevent."""


class UsageGroupSerializer(serializers.Serializer[Any]):
    """What sums are of: a period, and a value of each name that `group_by` lists."""

    period = serializers.DateField(help_text="The day, or the first day of the month.")
    provider = serializers.CharField(required=False)
    model = serializers.CharField(required=False)
    agent = GroupIdField(required=False)
    collection = GroupIdField(required=False)
    operation = serializers.ChoiceField(choices=OperationKind.choices, required=False)
    token_type = serializers.ChoiceField(choices=TokenType.choices, required=False)
    consumer = serializers.UUIDField(required=False)


class UsageRowSerializer(UsageGroupSerializer, UsageSumsSerializer):
    """The sums of one period and group."""


@example(examples.USAGE)
class UsageSerializer(serializers.Serializer[Any]):
    """What was used, and how it was summed up."""

    granularity = serializers.ChoiceField(choices=GRANULARITIES)
    group_by = serializers.ListField(child=serializers.ChoiceField(choices=GROUPS))
    results = UsageRowSerializer(many=True)
    totals = UsageSumsSerializer()

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        # "from" is a word of Python, so these two cannot be written as attributes.
        dates = {"from": serializers.DateField(source="start"), "to": serializers.DateField(source="end")}
        return {**dates, **super().get_fields()}


@example(examples.ENTRY)
class EntrySerializer(serializers.ModelSerializer[Entry]):
    """A row of the ledger. Input includes what was cached, output includes reasoning (OpenTelemetry)."""

    consumer_tenant_id = serializers.UUIDField(source="tenant_id")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cost_usd = serializers.DecimalField(max_digits=20, decimal_places=10, allow_null=True)
    corrects = serializers.UUIDField(source="corrects_id", allow_null=True)
    metadata = MetadataField(read_only=True)

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
        read_only_fields = fields


class AllowanceSerializer(serializers.Serializer[Any]):
    """What may be spent until it resets. Null limit: none."""

    period = serializers.CharField(help_text="`2026-11`, or `2026-11-21` for a day; in the payer's time zone.")
    limit_tokens = serializers.IntegerField(allow_null=True)
    spent_tokens = serializers.IntegerField()
    held_tokens = serializers.IntegerField()
    available_tokens = serializers.IntegerField(allow_null=True)
    resets_at = serializers.DateTimeField()


@example(examples.BUDGET)
class BudgetSerializer(AllowanceSerializer):
    """The present month, and the present day if that has a limit of its own."""

    unknown_tokens = serializers.IntegerField(help_text="The part of held that is in doubt.")
    hard = serializers.BooleanField(help_text="False: work above the limit is not refused.")
    day = AllowanceSerializer(allow_null=True)


class DiscrepancyQuerySerializer(serializers.Serializer[Any]):
    """Which discrepancies are listed; without them all."""

    state = serializers.ChoiceField(choices=DiscrepancyState.choices, required=False)
    kind = serializers.ChoiceField(choices=DiscrepancyKind.choices, required=False)


@example(examples.DISCREPANCY)
class DiscrepancySerializer(serializers.ModelSerializer[Discrepancy]):
    """Something in the books that must be looked at. The same thing found again is the same row, seen once more."""

    evidence = MetadataField(
        read_only=True, help_text="What was found, as the books had it; its members depend on `kind`."
    )

    class Meta:
        model = Discrepancy
        fields = [
            *("id", "kind", "state", "subject", "amount_tokens", "evidence", "times_seen"),
            *("first_seen_at", "last_seen_at", "resolved_at", "resolution"),
        ]
        read_only_fields = fields
        extra_kwargs = {
            "subject": {"help_text": "What it is about, such as `attempt 01a1fdf8-…`."},
            "resolution": {"help_text": "How it ended: what repaired it, or an operator's word."},
        }
