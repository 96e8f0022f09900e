"""Fields that hold settings of the cascade."""

from typing import Any

from rest_framework import serializers

from apps.providers import choices


class FallbackModelsField(serializers.ListField):
    """Models that are asked when the first one fails, each as ``provider/model``."""

    def __init__(self, **options: Any) -> None:
        child = serializers.CharField(max_length=200)
        super().__init__(child=child, max_length=choices.MAX_FALLBACKS, **options)
