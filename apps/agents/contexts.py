"""From a chat request to its ExecutionContext: request, agent, tier and deployment, resolved once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from rest_framework.request import Request

from apps.agents import configurations, shares
from apps.agents.configurations import AgentConfiguration
from apps.agents.errors import AgentNotFoundError
from apps.collections import services as collections
from apps.collections.errors import CollectionNotFoundError
from apps.core import configuration, headers
from apps.core.configuration import Level, Resolved
from apps.core.context import ExecutionContext, LLMConfig, ProcessingConfig, RagCollection, RagConfig
from apps.core.db import unit_of_work
from apps.core.errors import FieldError, InvalidRequestError
from apps.core.headers import Sent
from apps.providers import choices
from apps.tenants import entry
from apps.tenants.types import Principal


@dataclass(frozen=True, kw_only=True)
class ChatBody:
    """A chat request's body, validated."""

    message: str
    agent_id: UUID | None = None
    conversation_id: UUID | None = None
    #: By dotted name of the setting.
    preferences: Mapping[str, Any] | None = None
    collections: tuple[UUID, ...] | None = None


def chat_context(request: Request, body: ChatBody, *, created_at: datetime | None = None) -> ExecutionContext:
    """The context of one question to an agent, its own or one that is shared with the tenant.

    Plan and tier settings are those of the tenant that asks. Raises what the headers, the body and the agent's settings
    deserve.
    """
    who, sent = entry.principal(request), headers.read(request)
    own = entry.context(request, context_type="chat", created_at=created_at)
    named = _agent_id(sent, body)
    base = shares.using(own, named)
    agent = configurations.current(base, named)
    chosen = _collections(sent, base, body, agent)
    query_type = "rag" if chosen else "chat"
    requested = headers.merged(body.preferences or {}, sent, "llm_config", "rag_config")
    resolved = resolve(who, agent, requested=requested, query_type=query_type)
    return base.model_copy(
        update={
            "agent_id": named,
            "agent_version": agent.version,
            "conversation_id": headers.agreed(
                "conversation_id", body.conversation_id, "X-Conversation-ID", sent.get("X-Conversation-ID")
            ),
            "llm_config": LLMConfig(**resolved.section("llm_config")),
            "rag_config": _rag_config(base, sent, resolved, chosen),
            "processing_config": ProcessingConfig(**resolved.section("processing_config")),
            "config_sources": _sources(resolved),
            "fallback_models": tuple(resolved.values["fallback_models"]),
            "query_type": query_type,
        }
    )


def resolve(who: Principal, agent: AgentConfiguration, *, requested: Mapping[str, Any], query_type: str) -> Resolved:
    """The cascade for one question, held to what the tenant's tier allows."""
    resolved = configuration.resolve(
        {
            Level.REQUEST: configuration.check(requested, level=Level.REQUEST),
            Level.AGENT: _of_agent(agent),
            Level.TIER: configuration.check(who.tier_defaults, level=Level.TIER),
        },
        kinds={query_type},
    )
    most = who.limits.max_output_tokens
    if resolved.values["llm_config.max_tokens"] > most:
        if resolved.sources["llm_config.max_tokens"] == Level.REQUEST:
            raise _refused("llm_config.max_tokens", f"Your plan allows at most {most} tokens of answer.")
        resolved = Resolved(
            values={**resolved.values, "llm_config.max_tokens": most},
            sources={**resolved.sources, "llm_config.max_tokens": Level.TIER.value},
        )
    choices.require_chat(resolved, allowed=who.limits.models_allowed)
    return _with_fallbacks(resolved, allowed=who.limits.models_allowed)


def _of_agent(agent: AgentConfiguration) -> dict[str, Any]:
    """What the agent sets itself. Its fallback models are its own if it says so, even that there are none."""
    named = {} if agent.fallback_models is None else {"fallback_models": list(agent.fallback_models)}
    return {**agent.settings, **named}


def _with_fallbacks(resolved: Resolved, *, allowed: Sequence[str]) -> Resolved:
    """Of the fallback models those that the tenant's plan has: an agent may be another tenant's."""
    wanted, models = choices.fallbacks(resolved), choices.fallbacks(resolved, allowed=allowed)
    source = resolved.sources["fallback_models"] if models == wanted else Level.TIER.value
    return Resolved(
        values={**resolved.values, "fallback_models": models}, sources={**resolved.sources, "fallback_models": source}
    )


def _sources(resolved: Resolved) -> dict[str, str]:
    """Who set what: without the models that embed, which are those of the collections that are searched."""
    return {name: level for name, level in resolved.sources.items() if not name.startswith("embedding_config.")}


def _agent_id(sent: Sent, body: ChatBody) -> UUID:
    named: UUID | None = headers.agreed("agent_id", body.agent_id, "X-Agent-ID", sent.get("X-Agent-ID"))
    if named is None:
        raise AgentNotFoundError("Name the agent: `agent_id` in the body or the header X-Agent-ID.")
    return named


def _collections(sent: Sent, ctx: ExecutionContext, body: ChatBody, agent: AgentConfiguration) -> list[UUID]:
    """What is searched: of a shared agent only what it searches itself, not what else its owner has."""
    chosen = headers.agreed("collections", body.collections, "X-RAG-Collections", sent.get("X-RAG-Collections"))
    if "X-Collection-ID" in sent:
        chosen = headers.agreed("collections", chosen, "X-Collection-ID", (sent["X-Collection-ID"],))
    if chosen is None:
        return list(agent.collections)
    foreign = [each for each in chosen if each not in agent.collections]
    if foreign and ctx.owner_tenant_id != ctx.tenant_id:
        raise CollectionNotFoundError(f"There is no collection {foreign[0]}, or it is not yours.")
    return list(chosen)


def _rag_config(ctx: ExecutionContext, sent: Sent, resolved: Resolved, chosen: list[UUID]) -> RagConfig:
    values = resolved.section("rag_config")
    threshold = values.pop("similarity_threshold")
    with unit_of_work(ctx):
        spaces = collections.live_spaces(ctx, chosen)
    collections.require_spaces(spaces, headers.overrides(sent, "embedding_config"))
    return RagConfig(
        collections=tuple(
            RagCollection(
                collection_id=space.collection_id,
                embedding_model=space.model,
                embedding_dimensions=space.dimensions,
                similarity_threshold=threshold,
            )
            for space in spaces
        ),
        **values,
    )


def _refused(field: str, detail: str) -> InvalidRequestError:
    return InvalidRequestError(detail, errors=[FieldError(field=field, code="invalid", detail=detail)])
