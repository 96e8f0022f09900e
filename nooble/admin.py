"""Operators' pages of rows that belong to no room: core's, which name tenants core does not know, and libraries'."""

from collections.abc import Mapping
from typing import Any

from celery import states
from django import forms
from django.apps import apps
from django.contrib import admin
from django.contrib.admin import display
from django.contrib.admin.models import LogEntry
from django.db.models import QuerySet
from django.http import HttpRequest
from django_celery_beat import admin as beat
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from django_celery_results.models import GroupResult, TaskResult
from unfold.contrib.filters.admin import RadioFilter
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from apps.core.admin_pages import OperatorAdmin, RecordAdmin, change_url, link
from apps.core.models import DeadLetter, IdempotentResponse, PeriodicSlot
from apps.core.work import WorkItem
from apps.tenants.admin_columns import TenantFilter, TenantRecordAdmin

# The libraries' own pages, replaced below; of groups of tasks, which nooble does not use, there is nothing to see.
for _model in (
    *(TaskResult, GroupResult),
    *(PeriodicTask, ClockedSchedule, CrontabSchedule, IntervalSchedule, SolarSchedule),
):
    admin.site.unregister(_model)


@admin.register(DeadLetter)
class DeadLetterAdmin(TenantRecordAdmin):
    list_display = ("id", "tenant_id", "task_name", "row_id", "reason", "created_at")
    search_fields = ("id",)

    def related(self, row: DeadLetter) -> Mapping[str, str]:
        kinds = [model for model in apps.get_models() if issubclass(model, WorkItem)]
        mine = [kind._meta for kind in kinds if kind.task_name == row.task_name]
        return {f"the {meta.verbose_name}": change_url(meta.label, row.row_id) for meta in mine}


@admin.register(IdempotentResponse)
class IdempotentResponseAdmin(TenantRecordAdmin):
    """Without the response itself: it was an answer to the tenant, not to us."""

    list_display = ("id", "tenant_id", "key", "status_code", "created_at", "lease_expires_at")
    list_filter = (TenantFilter,)
    search_fields = ("id",)
    hidden = frozenset({"body"})


@admin.register(PeriodicSlot)
class PeriodicSlotAdmin(RecordAdmin):
    list_display = ("id", "name", "starts_at")
    search_fields = ("name",)


@admin.register(LogEntry)
class LogEntryAdmin(RecordAdmin):
    """What operators did in this admin."""

    list_display = ("id", "action_time", "operator", "kind", "object_repr", "action_flag", "change")
    list_select_related = ("user", "content_type")
    search_fields = ("id", "user")
    hidden = frozenset({"user", "content_type", "change_message"})
    extra = ("operator", "kind", "change")

    @display(description="operator")
    def operator(self, row: LogEntry) -> str:
        return link(change_url("tenants.user", row.user_id), row.user.get_username())

    @display(description="kind")
    def kind(self, row: LogEntry) -> str:
        return str(row.content_type)

    @display(description="change")
    def change(self, row: LogEntry) -> str:
        return row.get_change_message()


class TaskStateFilter(RadioFilter):  # type: ignore[misc]
    title = "state"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state, state.capitalize()) for state in sorted(states.ALL_STATES)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(status=self.value()) if self.value() else queryset


@admin.register(TaskResult)
class TaskResultAdmin(RecordAdmin):
    """What ran, as Celery saw it. It is no source of truth: a late duplicate overwrites it."""

    list_display = ("task_id", "task_name", "status", "worker", "date_created", "date_done")
    list_filter = (TaskStateFilter,)
    search_fields = ("task_id",)


class TaskSelect(UnfoldAdminSelectWidget, beat.TaskSelectWidget):  # type: ignore[misc]
    """The registered tasks."""


class PeriodicTaskForm(beat.PeriodicTaskForm):  # type: ignore[misc]
    """The library's form, with this admin's widgets."""

    regtask = beat.TaskChoiceField(label="Task (registered)", required=False, widget=TaskSelect)
    task = forms.CharField(label="Task (custom)", required=False, max_length=200, widget=UnfoldAdminTextInputWidget)


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(beat.PeriodicTaskAdmin, OperatorAdmin):  # type: ignore[misc]
    form = PeriodicTaskForm
    date_hierarchy = None
    list_filter = ("enabled", "one_off")
    search_fields = ("name__icontains", "task__icontains")
    autocomplete_fields = ("interval", "crontab", "solar", "clocked")


class ScheduleAdmin(OperatorAdmin):
    """A schedule. Which tasks follow it is seen in the list of tasks."""

    inlines = ()


@admin.register(IntervalSchedule)
class IntervalScheduleAdmin(ScheduleAdmin):
    list_display = ("__str__", "every", "period")
    search_fields = ("every", "period")


@admin.register(CrontabSchedule)
class CrontabScheduleAdmin(ScheduleAdmin, beat.CrontabScheduleAdmin):  # type: ignore[misc]
    search_fields = ("hour", "minute")


@admin.register(ClockedSchedule)
class ClockedScheduleAdmin(ScheduleAdmin):
    list_display = ("clocked_time",)
    search_fields = ("id",)


@admin.register(SolarSchedule)
class SolarScheduleAdmin(ScheduleAdmin):
    list_display = ("event", "latitude", "longitude")
    search_fields = ("event",)
