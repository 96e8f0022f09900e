"""The admin's sidebar: the rooms, in the order in which an operator needs them."""

from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest
from django.utils.text import capfirst

from apps.core.admin_pages import list_url

#: Room → model → icon (a name of Material Symbols).
ROOMS: Mapping[str, Mapping[str, str]] = {
    "Tenants": {
        "tenants.tenant": "domain",
        "tenants.apikey": "key",
        "tenants.providercredential": "vpn_key",
        "tenants.member": "badge",
        "tenants.tier": "workspace_premium",
        "tenants.user": "person",
        "auth.group": "group",
    },
    "Agents": {
        "agents.agent": "smart_toy",
        "agents.agentversion": "history",
        "agents.agentshare": "share",
        "agents.conversation": "forum",
        "agents.run": "play_circle",
        "agents.message": "chat",
    },
    "Collections": {
        "collections.collection": "folder",
        "collections.document": "description",
        "collections.embeddingspace": "hub",
        "collections.embeddingbatch": "stacks",
        "collections.chunk": "segment",
        "collections.chunkembedding": "scatter_plot",
        "collections.chunkterms": "match_word",
        "collections.termstatistic": "bar_chart",
    },
    "Ledger": {
        "ledger.budget": "savings",
        "ledger.entry": "receipt_long",
        "ledger.operation": "deployed_code",
        "ledger.attempt": "call_made",
        "ledger.usagedaily": "today",
        "ledger.usagemonthly": "calendar_month",
        "ledger.discrepancy": "report",
        "ledger.reconciliationrun": "fact_check",
        "ledger.price": "sell",
    },
    "Work & operations": {
        "django_celery_results.taskresult": "task_alt",
        "core.deadletter": "skull",
        "django_celery_beat.periodictask": "schedule",
        "django_celery_beat.intervalschedule": "timer",
        "django_celery_beat.crontabschedule": "calendar_clock",
        "django_celery_beat.clockedschedule": "alarm",
        "django_celery_beat.solarschedule": "wb_sunny",
        "core.periodicslot": "event_available",
        "core.idempotentresponse": "replay",
        "admin.logentry": "manage_accounts",
    },
}


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Unfold's navigation for this user: without the pages that it may not open."""
    rooms = {
        room: [_item(label, icon) for label, icon in models.items() if _may_view(request, label)]
        for room, models in ROOMS.items()
    }
    return [{"title": room, "separator": True, "items": items} for room, items in rooms.items() if items]


def _may_view(request: HttpRequest, label: str) -> bool:
    return admin.site.get_model_admin(apps.get_model(label)).has_view_permission(request)


def _item(label: str, icon: str) -> dict[str, Any]:
    name = apps.get_model(label)._meta.verbose_name_plural
    return {"title": capfirst(str(name)), "icon": icon, "link": list_url(label)}
