"""What can be done with agents. A change makes a new version; versions are never changed."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F

from apps.agents import configurations
from apps.agents.errors import AgentNotFoundError
from apps.agents.models import DEFAULT_PROMPT, Agent, AgentVersion
from apps.collections import services as collections
from apps.core import configuration
from apps.core.configuration import Level
from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work
from apps.core.errors import SlugTakenError
from apps.core.ids import new_id
from apps.providers import choices
from apps.tenants import services as tenants


def create_agent(
    ctx: ExecutionContext,
    *,
    slug: str,
    name: str,
    prompt: str = DEFAULT_PROMPT,
    settings: Mapping[str, Any] | None = None,
    collection_ids: Sequence[UUID] = (),
    fallback_models: Sequence[str] | None = None,
) -> Agent:
    """A new agent with its first version. ``settings`` are what the agent sets itself, by dotted name.

    ``fallback_models``: None leaves them to the deployment.
    """
    with unit_of_work(ctx):
        agent = _insert(ctx, slug=slug, name=name)
        _add_version(
            ctx,
            agent,
            prompt=prompt,
            settings=_judged(ctx, configuration.check(settings or {}, level=Level.AGENT)),
            collections=_own(ctx, collection_ids),
            fallback_models=_checked_fallbacks(ctx, fallback_models),
        )
    return agent


def update_agent(
    ctx: ExecutionContext, agent_id: UUID, *, name: str | None = None, changes: Mapping[str, Any] | None = None
) -> Agent:
    """Rename the agent, or change what it says and how. ``changes`` are fields of its version; the rest stays."""
    with unit_of_work(ctx):
        agent = get_agent(ctx, agent_id, lock=True)
        if name is not None:
            agent.name = name
        if changes:
            _add_version(ctx, agent, **_changed(ctx, current_version(agent), changes))
        agent.save(update_fields=["name", "version", "updated_at"])
        configurations.forget(agent_id)
    return agent


def delete_agent(ctx: ExecutionContext, agent_id: UUID) -> None:
    """Delete the agent with its versions and shares. Conversations with it, and what they cost, stay."""
    with unit_of_work(ctx):
        get_agent(ctx, agent_id).delete()
        configurations.forget(agent_id)


def get_agent(ctx: ExecutionContext, agent_id: UUID, *, lock: bool = False) -> Agent:
    """The agent, if the context's owner has it. The caller is in the context's unit of work."""
    rows = Agent.objects.filter(pk=agent_id, tenant_id=ctx.owner_tenant_id)
    agent = (rows.select_for_update(no_key=True) if lock else rows).first()
    if agent is None:
        raise AgentNotFoundError(f"There is no agent {agent_id}, or it is not yours.")
    return agent


def current_version(agent: Agent) -> AgentVersion:
    """The version that answers now. The caller is in a unit of work."""
    return AgentVersion.objects.get(agent=agent, number=agent.version)


def current_versions(agents: Sequence[Agent]) -> dict[UUID, AgentVersion]:
    """The version that answers now, of each agent, in one query."""
    rows = AgentVersion.objects.filter(agent__in=agents, number=F("agent__version"))
    return {row.agent_id: row for row in rows}


def _insert(ctx: ExecutionContext, **fields: Any) -> Agent:
    try:
        with transaction.atomic():
            return Agent.objects.create(id=new_id(), tenant_id=ctx.tenant_id, version=0, **fields)
    except IntegrityError as error:
        raise SlugTakenError(f"You have an agent “{fields['slug']}” already. Choose another slug.") from error


def _add_version(ctx: ExecutionContext, agent: Agent, **fields: Any) -> None:
    agent.version += 1
    AgentVersion.objects.create(tenant_id=ctx.tenant_id, agent=agent, number=agent.version, **fields)
    Agent.objects.filter(pk=agent.pk).update(version=agent.version)


def _changed(ctx: ExecutionContext, version: AgentVersion, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the next version. What is not changed stays, even if nobody could choose it any more."""
    changed: dict[str, Any] = {
        "prompt": changes.get("prompt", version.prompt),
        "settings": version.settings,
        "collections": version.collections,
        "fallback_models": version.fallback_models,
    }
    if "settings" in changes:
        changed["settings"] = _changed_settings(ctx, version.settings, changes["settings"])
    if "collections" in changes:
        changed["collections"] = _own(ctx, changes["collections"])
    if "fallback_models" in changes:
        changed["fallback_models"] = _checked_fallbacks(ctx, changes["fallback_models"])
    return changed


def _changed_settings(ctx: ExecutionContext, before: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What the agent sets itself from now on; None takes a value back."""
    given = {name: value for name, value in wanted.items() if value is not None}
    kept = {name: value for name, value in before.items() if name not in wanted}
    settings = kept | configuration.check(given, level=Level.AGENT)
    return _judged(ctx, settings) if wanted.keys() & choices.CHAT_SETTINGS else settings


def _judged(ctx: ExecutionContext, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, once it is certain that the agent can answer with them and with what its tier says besides."""
    tier = tenants.tier_of(ctx)
    layers = {Level.AGENT: settings, Level.TIER: configuration.check(tier.defaults, level=Level.TIER)}
    choices.require_chat(configuration.resolve(layers), allowed=tier.models_allowed, saved_at=Level.AGENT)
    return settings


def _checked_fallbacks(ctx: ExecutionContext, models: Sequence[str] | None) -> list[str] | None:
    if models:
        choices.require_fallbacks(models, allowed=tenants.tier_of(ctx).models_allowed)
    return None if models is None else list(models)


def _own(ctx: ExecutionContext, collection_ids: Sequence[UUID]) -> list[UUID]:
    """The ids, once it is certain that all of them are the context's; raises CollectionNotFoundError."""
    collections.live_spaces(ctx, list(collection_ids))
    return list(dict.fromkeys(collection_ids))
