"""Fields that hold settings of the cascade."""

from collections.abc import Callable
from typing import Any

from rest_framework import serializers

from apps.core.configuration import SETTINGS, InvalidSettingError
from apps.providers import choices


def accepted_as(name: str) -> Callable[[Any], None]:
    """A field's validator: refuse a value that the setting of that name does not accept, or not yet."""

    def validate(value: Any) -> None:
        try:
            SETTINGS[name].accept(value)
        except InvalidSettingError as error:
            [problem] = error.errors
            raise serializers.ValidationError(problem.detail, code=problem.code) from error

    return validate


class FallbackModelsField(serializers.ListField):
    """Models that are asked when the first one fails, each as ``provider/model``."""

    def __init__(self, **options: Any) -> None:
        child = serializers.CharField(max_length=200)
        super().__init__(child=child, max_length=choices.MAX_FALLBACKS, **options)
