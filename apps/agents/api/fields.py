"""Fields that hold settings of the cascade."""

from collections.abc import Callable
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.core.configuration import SETTINGS, InvalidSettingError
from apps.providers import choices

#: Of extras, as the schema shows them.
_EXTRAS = {"type": "object", "additionalProperties": {"oneOf": [{"type": "number"}, {"type": "string"}]}}


def accepted_as(name: str) -> Callable[[Any], None]:
    """A field's validator: refuse a value that the setting of that name does not accept."""

    def validate(value: Any) -> None:
        try:
            SETTINGS[name].accept(value)
        except InvalidSettingError as error:
            [problem] = error.errors
            raise serializers.ValidationError(problem.detail, code=problem.code) from error

    return validate


@extend_schema_field({**_EXTRAS, "nullable": True})
class ExtrasField(serializers.JSONField):
    """What only the agent's provider takes. Which that is decides what it may be, when the agent is saved."""

    def __init__(self, **options: Any) -> None:
        super().__init__(validators=[accepted_as("llm_config.extras")], **options)


class FallbackModelsField(serializers.ListField):
    """Models that are asked when the first one fails, each as ``provider/model``. Null: the deployment's."""

    def __init__(self, **options: Any) -> None:
        child = serializers.CharField(max_length=200)
        super().__init__(
            child=child,
            max_length=choices.MAX_FALLBACKS,
            allow_null=True,
            help_text="Null: the deployment's. Empty: none.",
            **options,
        )
