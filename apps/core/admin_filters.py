"""Filters of the operators' admin. Each is served by an index, however large the table is."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import RadioFilter

from apps.core import clock

RECENT = timedelta(days=1)


def first_id(age: timedelta) -> UUID:
    """The least UUIDv7 that a row of this age can have: rows lie in their primary key in the order they came."""
    return UUID(int=clock.epoch_milliseconds(clock.now() - age) << 80)


class WorkFilter(RadioFilter):  # type: ignore[misc]
    """Work that is not finished, by the partial index of the sweeper, or that failed lately, by the primary key."""

    title = "state"
    parameter_name = "work"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("unfinished", "Unfinished"), ("failed", "Failed in the last 24 hours")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "unfinished":
                return queryset.filter(status__in=queryset.model.unfinished)
            case "failed":
                return queryset.filter(status="failed", pk__gte=first_id(RECENT))
        return queryset
