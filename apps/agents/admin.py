"""Operators' pages of agents, conversations and runs."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin import display
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.html import format_html
from unfold.decorators import action
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextareaWidget

from apps.agents import runs, services
from apps.agents.models import Agent, AgentShare, AgentVersion, Conversation, Message, Run
from apps.core.admin_pages import WorkAdmin, list_url
from apps.core.errors import NoobleError
from apps.tenants import services as tenants
from apps.tenants.admin_columns import TenantFilter, TenantRecordAdmin

PREVIEW_CHARACTERS = 80


@admin.register(Agent)
class AgentAdmin(TenantRecordAdmin):
    list_display = ("id", "name", "slug", "tenant_id", "version", "updated_at")
    list_filter = (TenantFilter,)
    search_fields = ("id",)
    editable = ("name",)

    def related(self, row: Agent) -> Mapping[str, str]:
        return {
            "versions": list_url("agents.agentversion", agent=row.pk),
            "shares": list_url("agents.agentshare", agent=row.pk),
        }

    def save_model(self, request: HttpRequest, obj: Agent, form: Any, change: Any) -> None:
        services.update_agent(tenants.context_of_id(obj.tenant_id), obj.pk, name=obj.name)


@admin.register(AgentVersion)
class AgentVersionAdmin(TenantRecordAdmin):
    list_display = ("id", "tenant_id", "agent", "number", "created_at")
    search_fields = ("id", "agent")


@admin.register(AgentShare)
class AgentShareAdmin(TenantRecordAdmin):
    list_display = ("id", "tenant_id", "agent", "consumer_id", "payer", "created_at")
    search_fields = ("id", "agent", "consumer_id")
    pointers = {"consumer_id": "tenants.tenant"}


@admin.register(Conversation)
class ConversationAdmin(TenantRecordAdmin):
    list_display = ("id", "title", "tenant_id", "agent_id", "created_at")
    list_filter = (TenantFilter,)
    search_fields = ("id",)
    pointers = {"agent_id": "agents.agent"}

    def related(self, row: Conversation) -> Mapping[str, str]:
        return {
            "messages": list_url("agents.message", conversation=row.pk),
            "runs": list_url("agents.run", conversation=row.pk),
        }


class ReplayForm(BaseDialogForm):  # type: ignore[misc]
    """Why somebody does not wait for the sweeper."""

    reason = forms.CharField(max_length=300, widget=UnfoldAdminTextareaWidget)


@admin.register(Run)
class RunAdmin(TenantRecordAdmin, WorkAdmin):
    list_display = ("id", "preview", "tenant_id", "status", "error_code", "deliveries", "created_at", "finished_at")
    list_filter = (*WorkAdmin.list_filter, TenantFilter)
    search_fields = ("id", "conversation")
    pointers = {"agent_id": "agents.agent"}
    actions_detail = ("replay",)

    @display(description="question")
    def preview(self, row: Run) -> str:
        return row.question[:PREVIEW_CHARACTERS]

    def related(self, row: Run) -> Mapping[str, str]:
        # The ledger's pages are known here by name only, as its rows are.
        return {
            "messages": list_url("agents.message", run=row.pk),
            "operations": list_url("ledger.operation", run_id=row.pk),
            "ledger entries": list_url("ledger.entry", run_id=row.pk),
        }

    def has_replay_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("agents.change_run")

    @action(  # type: ignore[untyped-decorator]
        description="Replay",
        icon="replay",
        permissions=("replay",),
        dialog={"title": "Deliver this run again", "form_class": ReplayForm, "form_submit_text": "Replay"},
    )
    def replay(self, request: HttpRequest, form: ReplayForm, object_id: str) -> HttpResponse:
        """Have a run that waits delivered again, in the operator's name."""
        run = self.get_object(request, object_id)
        if run is None:
            raise Http404
        try:
            runs.replay_run(tenants.context_of_id(run.tenant_id), run.pk)
        except NoobleError as error:
            answer = f"Nothing was changed. {error.detail}"
        else:
            self.log_change(request, run, f"Replayed: {form.cleaned_data['reason']}")
            answer = "The run is delivered again."
        return HttpResponse(format_html('<div id="dialog-form" class="my-6"><p>{}</p></div>', answer))


@admin.register(Message)
class MessageAdmin(TenantRecordAdmin):
    list_display = ("id", "tenant_id", "conversation", "author", "preview", "created_at")
    search_fields = ("id", "conversation", "run")

    @display(description="content")
    def preview(self, row: Message) -> str:
        return row.content[:PREVIEW_CHARACTERS]
