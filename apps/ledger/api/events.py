"""Usage that happened elsewhere, as clients report it.

Writing needs ``manage`` or ``internal``, reading ``usage``: a key that a dashboard or an accountant has must not be
able to write to books from which nothing can be deleted.

An event is validated by itself, and a bad one is an outcome among the others. Ids need not be of anything that exists:
an agent of another system has its usage here, too, and what was deleted was used. They only have to be UUIDs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings

from apps.core.api import exceptions
from apps.core.api.fields import MetadataField
from apps.core.api.schema import FieldProblemSerializer, example
from apps.core.errors import FieldError, NoobleError
from apps.ledger import metadata, records
from apps.ledger.api import examples
from apps.ledger.booking import BATCH, Recorded
from apps.ledger.errors import IdempotencyConflictError, InvalidUsageError
from apps.ledger.records import MAX_KEY_CHARACTERS, MAX_NAME_CHARACTERS, MAX_TOKENS, UsageEvent
from apps.ledger.types import OperationKind, TokenCounts, TokenType
from apps.tenants.api.base import TenantViewSet
from apps.tenants.types import Scope

OUTCOMES = ("created", "duplicate", "conflict", "invalid")
#: The field of an error that is not of one field.
WHOLE = api_settings.NON_FIELD_ERRORS_KEY
#: An error repeats what was sent, which may be long.
MAX_DETAIL_CHARACTERS = 300


class TextField(serializers.CharField):
    """Text, as it was sent: a number is not taken for it."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class TokensField(serializers.IntegerField):
    """A whole number: neither a string of digits nor a number with a point is taken for one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(min_value=0, max_value=MAX_TOKENS, **options)

    def to_internal_value(self, data: Any) -> Any:
        if type(data) is not int:
            self.fail("invalid")
        return data


class ClientMetadataField(MetadataField):
    """A JSON object of the client's own, kept as it is."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        try:
            metadata.check_client(data)
        except InvalidUsageError as error:
            raise serializers.ValidationError(error.detail, code="invalid") from error
        return super().to_internal_value(data)


class EventListSerializer(serializers.ListSerializer[Any]):
    """Events: of each an UsageEvent, or the FieldError that says why it is none."""

    def run_child_validation(self, data: Any) -> UsageEvent | FieldError:
        try:
            event: UsageEvent = super().run_child_validation(data)
        except serializers.ValidationError as error:
            first = exceptions.translate(error).errors[0]
            return replace(first, field=first.field or WHOLE)
        return event


class UsageEventSerializer(serializers.Serializer[Any]):
    """Usage of one piece of work. Its key is the tenant's: what is reported again under it is not booked again."""

    idempotency_key = TextField(max_length=MAX_KEY_CHARACTERS, trim_whitespace=False)
    token_type = serializers.ChoiceField(choices=TokenType.choices)
    operation = serializers.ChoiceField(choices=OperationKind.choices)
    provider = TextField(max_length=MAX_NAME_CHARACTERS["provider"])
    model = TextField(max_length=MAX_NAME_CHARACTERS["model"])
    input_tokens = TokensField()
    output_tokens = TokensField(default=0)
    occurred_at = serializers.DateTimeField(help_text="Within the last year. It decides the day and the price.")
    agent_id = serializers.UUIDField(required=False, allow_null=True)
    collection_id = serializers.UUIDField(required=False, allow_null=True)
    conversation_id = serializers.UUIDField(required=False, allow_null=True)
    metadata = ClientMetadataField(default=dict, help_text="An object of up to 8 KiB, nested up to 8 deep.")

    def validate_occurred_at(self, value: Any) -> Any:
        try:
            records.check_moment(value)
        except InvalidUsageError as error:
            raise serializers.ValidationError(error.detail, code="out_of_range") from error
        return value

    def validate(self, attrs: dict[str, Any]) -> Any:
        sent, received = attrs.pop("input_tokens"), attrs.pop("output_tokens")
        counts = TokenCounts(fresh_input_tokens=sent, plain_output_tokens=received)
        token_type, operation = TokenType(attrs.pop("token_type")), OperationKind(attrs.pop("operation"))
        event = UsageEvent(counts=counts, token_type=token_type, operation=operation, **attrs)
        try:
            event.check_report()
        except InvalidUsageError as error:
            raise serializers.ValidationError(error.detail, code=error.code) from error
        return event


@example(examples.USAGE_REPORT)
class UsageReportSerializer(serializers.Serializer[Any]):
    """Usage that happened elsewhere."""

    events = EventListSerializer(
        child=UsageEventSerializer(), min_length=1, max_length=BATCH, help_text=f"1 to {BATCH}."
    )


class UsageOutcomeSerializer(serializers.Serializer[Any]):
    """What became of one event."""

    index = serializers.IntegerField(help_text="Its place in the request, from 0.")
    idempotency_key = serializers.CharField(allow_null=True, help_text="Null when it was not one.")
    outcome = serializers.ChoiceField(choices=OUTCOMES)
    entry_id = serializers.UUIDField(
        allow_null=True, help_text="The entry that has the key: a duplicate's and a conflict's is the first one's."
    )
    error = FieldProblemSerializer(allow_null=True, help_text="Why, for a conflict and for what is invalid.")


@example(examples.USAGE_OUTCOMES)
class UsageOutcomesSerializer(serializers.Serializer[Any]):
    """An outcome for each event, in their order."""

    results = UsageOutcomeSerializer(many=True)


class UsageEventViewSet(TenantViewSet):
    """Usage from elsewhere."""

    scope = (Scope.MANAGE, Scope.INTERNAL)
    serializer_class = UsageOutcomesSerializer

    @extend_schema(
        request=UsageReportSerializer, responses={200: UsageOutcomesSerializer}, operation_id="reportUsageEvents"
    )
    def create(self, request: Request) -> Response:
        """Report usage that happened elsewhere. Each event is booked once, however often its key is reported.

        Up to 1000 at once. The answer has an outcome for each: `created`; `duplicate`, with the entry that has the key
        already; `conflict`, when that has other content; `invalid`. One bad event harms no other. An event counts
        against the budget, but is not refused by it: it has happened.
        """
        events = self.accepted(UsageReportSerializer)["events"]
        return self.once(lambda: Response({"results": self._recorded(events, dict(request.data)["events"])}))

    def _recorded(self, events: Sequence[UsageEvent | FieldError], sent: Sequence[Any]) -> list[dict[str, Any]]:
        good = [event for event in events if isinstance(event, UsageEvent)]
        recorded = iter(records.record_many(self.ctx, good))
        return [
            _refused(index, sent[index], event)
            if isinstance(event, FieldError)
            else _booked(index, event, next(recorded))
            for index, event in enumerate(events)
        ]


def _booked(index: int, event: UsageEvent, recorded: Recorded) -> dict[str, Any]:
    return _outcome(index, event.idempotency_key, recorded.outcome, recorded.entry_id, _problem(recorded.error))


def _refused(index: int, sent: Any, error: FieldError) -> dict[str, Any]:
    key = sent.get("idempotency_key") if isinstance(sent, Mapping) else None
    storable = isinstance(key, str) and records.is_text(key) and len(key) <= MAX_KEY_CHARACTERS
    return _outcome(index, key if storable else None, "invalid", None, error)


def _problem(error: NoobleError | None) -> FieldError | None:
    if error is None:
        return None
    field = "idempotency_key" if isinstance(error, IdempotencyConflictError) else WHOLE
    return FieldError(field=field, code=error.code, detail=error.detail)


def _outcome(index: int, key: Any, outcome: str, entry_id: Any, error: FieldError | None) -> dict[str, Any]:
    problem = error and {"field": error.field, "code": error.code, "detail": _shown(error.detail)}
    return {"index": index, "idempotency_key": key, "outcome": outcome, "entry_id": entry_id, "error": problem}


def _shown(detail: str) -> str:
    """A detail as it can be stored with the response: what was sent, and is repeated in it, may be no text."""
    text = detail.replace("\0", "").encode(errors="replace").decode()
    return text if len(text) <= MAX_DETAIL_CHARACTERS else f"{text[:MAX_DETAIL_CHARACTERS]}…"
