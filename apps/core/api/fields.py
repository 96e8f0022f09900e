"""Fields that several rooms have."""

import json
from collections.abc import Mapping
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.core.api.parsers import TOO_DEEP, is_too_deep
from apps.core.configuration import SETTINGS

MAX_METADATA_BYTES = 16 * 1024

_NUMBERS: Mapping[type, type[Any]] = {int: serializers.IntegerField, float: serializers.FloatField}


def number_field(name: str, **options: Any) -> Any:
    """A field with the type and the range of the setting of that name, a number; ``options`` are the field's own."""
    setting = SETTINGS[name]
    return _NUMBERS[setting.type](min_value=setting.minimum, max_value=setting.maximum, **options)


@extend_schema_field(OpenApiTypes.OBJECT)
class MetadataField(serializers.JSONField):
    """A JSON object of the client's own: at most 16 KiB, without what jsonb cannot hold (NUL, NaN, half surrogates)."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        value = self._read(data)
        if not isinstance(value, dict):
            raise serializers.ValidationError("It must be an object.", code="not_an_object")
        try:
            text = json.dumps(value, allow_nan=False, ensure_ascii=False)
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise serializers.ValidationError("Half a surrogate pair is no text.", code="not_text") from error
        except ValueError as error:
            raise serializers.ValidationError("NaN and Infinity are not JSON.", code="not_json") from error
        if "\\u0000" in text:
            raise serializers.ValidationError("Null characters are not allowed.", code="null_characters_not_allowed")
        if size > MAX_METADATA_BYTES:
            raise serializers.ValidationError(f"At most {MAX_METADATA_BYTES} bytes.", code="too_large")
        return value

    def _read(self, data: Any) -> Any:
        """The value; a form has it as JSON text, which no parser has measured."""
        try:
            value = super().to_internal_value(data)
        except RecursionError as error:
            raise serializers.ValidationError(TOO_DEEP, code="too_deep") from error
        if is_too_deep(value):
            raise serializers.ValidationError(TOO_DEEP, code="too_deep")
        return value


class FailureSerializer(serializers.Serializer[Any]):
    """Why the work failed; `code` is one of the codes of problem documents."""

    code = serializers.CharField()
    detail = serializers.CharField()


@extend_schema_field(FailureSerializer(allow_null=True))
class FailureField(serializers.Field[Any, Any, Any, Any]):
    """What a row of the work list failed of: null while, or since, it has not."""

    def __init__(self) -> None:
        super().__init__(source="*", read_only=True)

    def to_representation(self, row: Any) -> dict[str, str] | None:
        return {"code": row.error_code, "detail": row.error_detail} if row.error_code else None
