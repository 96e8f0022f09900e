"""What the pages of the operators' admin share: none of them counts, scans or loads a large table whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib.admin import ShowFacets, display
from django.contrib.admin.utils import quote
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator

from apps.core.admin_filters import WorkFilter
from apps.core.context import ContextRefusedError
from apps.core.ids import NO_ID
from apps.core.work import WorkItem

EMPTY = "-"
_MACHINERY = frozenset(field.name for field in WorkItem._meta.get_fields())

#: How a column is shown: by its name, as Django does, or by a function of the row.
Column = str | Callable[[Any], Any]


def dialog_answer(text: str, *shown: Any) -> HttpResponse:
    """What stands in a dialog when it has been sent: ``text`` is a format, what is ``shown`` in it is escaped."""
    told = format_html(text, *shown) if shown else text
    return HttpResponse(format_html('<div id="dialog-form" class="my-6"><p>{}</p></div>', told))


class OperatorAdmin(ModelAdmin):  # type: ignore[misc]
    """A table's pages: newest rows first, searched by indexed columns only."""

    ordering: ClassVar[Any] = ("-pk",)
    list_per_page = 50
    list_filter_submit = True
    list_disable_select_all = True
    show_full_result_count = False
    show_facets = ShowFacets.NEVER

    def related(self, row: Any) -> Mapping[str, str]:
        """Other pages that tell more about the row: title → URL."""
        return {}

    @display(description="see also")
    def see_also(self, row: Any) -> str:
        return format_html_join(" · ", "{}", ((link(url, title),) for title, url in self.related(row).items())) or EMPTY

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        """Rows one of whose ``search_fields`` is the term; a field may name a lookup (``slug__startswith``).

        Django compares every column as text, which no index serves.
        """
        term = search_term.strip()
        if not term:
            return queryset, False
        matches = Q(pk__in=[])
        for name in self.get_search_fields(request):
            if self._accepts(name, term):
                matches |= Q((name, term))
        return queryset.filter(matches), False

    def _accepts(self, name: str, term: str) -> bool:
        """Whether the term can be compared with the column: a word is no UUID."""
        try:
            self.model._default_manager.filter((name, term))
        except (ValidationError, ValueError):
            return False
        return True


class RecordAdmin(OperatorAdmin):
    """Rows that the admin shows, column by column, and does not change, except for what is ``editable``.

    Columns that point at rows are links, JSON is laid out, and moments are shown to the second.
    """

    paginator = InfinitePaginator
    # Sorting by any other column than the primary key reads the whole table.
    sortable_by = ()

    hidden: ClassVar[frozenset[str]] = frozenset()
    editable: ClassVar[tuple[str, ...]] = ()
    #: Columns without a foreign key that hold the id of a row: ``{"agent_id": "agents.agent"}``.
    pointers: ClassVar[Mapping[str, str]] = {}
    #: Methods that show what is no column.
    extra: ClassVar[tuple[str, ...]] = ()

    def __init__(self, model: type[models.Model], admin_site: Any) -> None:
        super().__init__(model, admin_site)
        shown = [field for field in model._meta.concrete_fields if field.name not in self.hidden]
        # The primary key first, the columns that drive the work last.
        shown.sort(key=lambda field: (not field.primary_key, field.name in _MACHINERY))
        self._columns = {field.name: self.column(field) for field in shown}

    def column(self, field: models.Field[Any, Any]) -> Column:
        """How the column is shown."""
        target = self.pointers.get(field.attname)
        if isinstance(field, models.ForeignKey) and target is None:
            target = field.remote_field.model._meta.label_lower
        if field.name in self.editable:
            return field.name
        if target:
            return _shown(field, lambda value: EMPTY if value == NO_ID else link(change_url(target, value), value))
        for kind, show in _SHOWN.items():
            if isinstance(field, kind) and not field.choices:
                return _shown(field, show)
        return field.name

    def get_list_display(self, request: HttpRequest) -> Sequence[Column]:
        return [self._columns.get(name, name) for name in self.list_display]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[Column]:
        return ["see_also", *self._columns.values(), *self.extra]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[Column]:
        return [column for column in self.get_fields(request, obj) if column not in self.editable]

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """What is hidden cannot be asked for in the address either, one letter after the other."""
        return lookup.partition("__")[0] not in self.hidden and super().lookup_allowed(lookup, value, request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(self.editable) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class WorkAdmin(RecordAdmin):
    """A kind of work: what became of it, the task that did it, and the context it is done in."""

    hidden = frozenset({"signed_context"})
    extra = ("context",)
    list_filter: Sequence[Any] = (WorkFilter,)

    def column(self, field: models.Field[Any, Any]) -> Column:
        return _shown(field, _task_link) if field.name == "task_id" else super().column(field)

    @display(description="context")
    def context(self, row: WorkItem) -> str:
        """The resolved configuration, and from which level each setting came."""
        try:
            return pretty(row.context.model_dump(mode="json", exclude_none=True))
        except ContextRefusedError as error:
            return error.detail


def change_url(label: str, key: Any) -> str:
    """The page of one row of a model (``agents.run``)."""
    return reverse(_page(label, "change"), args=[quote(str(key))])


def list_url(label: str, **filters: Any) -> str:
    """The list of a model's rows, filtered by columns."""
    url = reverse(_page(label, "changelist"))
    return f"{url}?{urlencode(filters)}" if filters else url


def link(url: str, text: Any) -> SafeString:
    return format_html('<a class="text-link" href="{}">{}</a>', url, text)


def pretty(value: Any) -> SafeString:
    """JSON, indented, as it can be read in any language."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return format_html('<pre style="white-space: pre-wrap; overflow-wrap: anywhere">{}</pre>', text)


def _page(label: str, kind: str) -> str:
    return f"admin:{label.lower().replace('.', '_')}_{kind}"


def _verbatim(text: str) -> SafeString:
    return format_html('<div style="white-space: pre-wrap; overflow-wrap: anywhere">{}</div>', text)


def _task_link(task_id: str) -> SafeString:
    return link(list_url("django_celery_results.taskresult", q=task_id), task_id)


def _shown(field: models.Field[Any, Any], show: Callable[[Any], Any]) -> Column:
    """A column that shows the field's value through ``show``; nothing where there is none."""

    @display(description=field.verbose_name)
    def column(row: Any) -> Any:
        value = getattr(row, field.attname)
        return EMPTY if value is None or value == "" else show(value)

    column.__name__ = field.name
    return column


_SHOWN: Mapping[type[models.Field[Any, Any]], Callable[[Any], Any]] = {
    models.JSONField: pretty,
    models.TextField: _verbatim,
    models.DateTimeField: lambda moment: f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
}
