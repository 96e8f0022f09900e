"""Operators' pages of agents, conversations and runs."""

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.contrib.admin import display
from django.http import HttpRequest

from apps.agents import services
from apps.agents.models import Agent, AgentShare, AgentVersion, Conversation, Message, Run
from apps.core.admin_pages import WorkAdmin, list_url
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


@admin.register(Run)
class RunAdmin(TenantRecordAdmin, WorkAdmin):
    list_display = ("id", "preview", "tenant_id", "status", "error_code", "deliveries", "created_at", "finished_at")
    list_filter = (*WorkAdmin.list_filter, TenantFilter)
    search_fields = ("id", "conversation")
    pointers = {"agent_id": "agents.agent"}

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


@admin.register(Message)
class MessageAdmin(TenantRecordAdmin):
    list_display = ("id", "tenant_id", "conversation", "author", "preview", "created_at")
    search_fields = ("id", "conversation", "run")

    @display(description="content")
    def preview(self, row: Message) -> str:
        return row.content[:PREVIEW_CHARACTERS]
