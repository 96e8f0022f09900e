"""Fields that hold settings of the cascade."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.core.configuration import SETTINGS, InvalidSettingError
from apps.providers import choices, extras

#: Of extras, as the schema shows them.
_EXTRAS = {"type": "object", "additionalProperties": {"oneOf": [{"type": "number"}, {"type": "string"}]}}


@extend_schema_field({**_EXTRAS, "nullable": True})
class ExtrasField(serializers.JSONField):
    """What only the agent's provider takes. Which that is decides what it may be, when the agent is saved."""

    def to_internal_value(self, data: Any) -> Any:
        try:
            return SETTINGS[extras.SETTING].accept(super().to_internal_value(data))
        except InvalidSettingError as error:
            [problem] = error.errors
            raise serializers.ValidationError(problem.detail, code=problem.code) from error


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
