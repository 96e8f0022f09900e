"""From a chat request to its ExecutionContext: request, agent, tier and deployment, resolved once."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from rest_framework.request import Request

from apps.agents import services, shares
from apps.agents.errors import AgentNotFoundError, PreferenceConflictError
from apps.agents.models import AgentVersion
from apps.collections import services as collections
from apps.collections.errors import CollectionNotFoundError
from apps.core import configuration
from apps.core.configuration import Level, Resolved
from apps.core.context import ExecutionContext, LLMConfig, ProcessingConfig, RagCollection, RagConfig
from apps.core.db import unit_of_work
from apps.core.errors import FieldError, InvalidRequestError
from apps.providers import catalog
from apps.tenants import entry
from apps.tenants.types import Principal

MAX_COLLECTIONS = 20

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ChatBody:
    """A chat request's body, validated."""

    message: str
    agent_id: UUID | None = None
    conversation_id: UUID | None = None
    #: By dotted name of the setting.
    preferences: Mapping[str, Any] | None = None
    collections: tuple[UUID, ...] | None = None


def _number(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return kind(text)
        except ValueError as error:
            raise ValueError(f"expected {'a number' if kind is float else 'a whole number'}") from error

    return read


#: Header → the setting it sets, and how its text is read.
HEADERS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "X-LLM-Provider": ("llm_config.provider", entry.label),
    "X-LLM-Model": ("llm_config.model", entry.label),
    "X-LLM-Temperature": ("llm_config.temperature", _number(float)),
    "X-LLM-Max-Tokens": ("llm_config.max_tokens", _number(int)),
    "X-RAG-Similarity-Threshold": ("rag_config.similarity_threshold", _number(float)),
    "X-RAG-Results-Limit": ("rag_config.max_results", _number(int)),
}


def chat_context(request: Request, body: ChatBody, *, created_at: datetime | None = None) -> ExecutionContext:
    """The context of one question to an agent, its own or one that is shared with the tenant.

    Plan and tier settings are those of the tenant that asks. Raises what the headers, the body and the agent's settings
    deserve.
    """
    who = entry.principal(request)
    own = entry.context(request, context_type="chat", created_at=created_at)
    named = _agent_id(request, body)
    base = shares.using(own, named)
    with unit_of_work(base):
        agent = services.get_agent(base, named)
        version = services.current_version(agent)
        resolved = resolve(who, version, requested=_requested(request, body))
        chosen = _collections(request, base, body, version)
        rag = _rag_config(base, resolved, chosen)
    return base.model_copy(
        update={
            "agent_id": agent.pk,
            "agent_version": version.number,
            "conversation_id": _conversation_id(request, body),
            "llm_config": LLMConfig(**resolved.section("llm_config")),
            "rag_config": rag,
            "processing_config": ProcessingConfig(**resolved.section("processing_config")),
            "config_sources": dict(resolved.sources),
            "fallback_models": tuple(resolved.values["fallback_models"]),
            "query_type": "rag" if chosen else "chat",
        }
    )


def resolve(who: Principal, version: AgentVersion, *, requested: Mapping[str, Any]) -> Resolved:
    """The cascade for one question, held to what the tenant's tier allows."""
    resolved = configuration.resolve(
        {
            Level.REQUEST: configuration.check(requested, level=Level.REQUEST),
            Level.AGENT: {**version.settings, "fallback_models": version.fallback_models},
            Level.TIER: configuration.check(who.tier_defaults, level=Level.TIER),
        }
    )
    most = who.limits.max_output_tokens
    if resolved.values["llm_config.max_tokens"] > most:
        if resolved.sources["llm_config.max_tokens"] == Level.REQUEST:
            raise _refused("llm_config.max_tokens", f"Your plan allows at most {most} tokens of answer.")
        resolved = Resolved(
            values={**resolved.values, "llm_config.max_tokens": most},
            sources={**resolved.sources, "llm_config.max_tokens": Level.TIER.value},
        )
    catalog.provider(resolved.values["llm_config.provider"])
    return resolved


def _agent_id(request: Request, body: ChatBody) -> UUID:
    named = _same("agent_id", body.agent_id, "X-Agent-ID", entry.header(request, "X-Agent-ID", entry.identifier))
    if named is None:
        raise AgentNotFoundError("Name the agent: `agent_id` in the body or the header X-Agent-ID.")
    return named


def _conversation_id(request: Request, body: ChatBody) -> UUID | None:
    header = entry.header(request, "X-Conversation-ID", entry.identifier)
    return _same("conversation_id", body.conversation_id, "X-Conversation-ID", header)


def _requested(request: Request, body: ChatBody) -> dict[str, Any]:
    """What this request asks for, from its headers and its ``model_preferences``; they may not disagree."""
    preferences = dict(body.preferences or {})
    for header, (setting, read) in HEADERS.items():
        value = entry.header(request, header, read)
        if value is not None:
            preferences[setting] = _same(setting, preferences.get(setting), header, value)
    return preferences


def _collections(request: Request, ctx: ExecutionContext, body: ChatBody, version: AgentVersion) -> list[UUID]:
    """What is searched: of a shared agent only what it searches itself, not what else its owner has."""
    header = entry.header(request, "X-RAG-Collections", _identifiers)
    chosen = _same("collections", body.collections, "X-RAG-Collections", header)
    if chosen is None:
        return list(version.collections)
    foreign = [each for each in chosen if each not in version.collections]
    if foreign and ctx.owner_tenant_id != ctx.tenant_id:
        raise CollectionNotFoundError(f"There is no collection {foreign[0]}, or it is not yours.")
    return list(chosen)


def _identifiers(text: str) -> tuple[UUID, ...]:
    refusal = f"expected a JSON list of at most {MAX_COLLECTIONS} collection ids"
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(refusal) from error
    if not isinstance(found, list) or len(found) > MAX_COLLECTIONS:
        raise ValueError(refusal)
    return tuple(entry.identifier(str(item)) for item in found)


def _rag_config(ctx: ExecutionContext, resolved: Resolved, chosen: list[UUID]) -> RagConfig:
    values = resolved.section("rag_config")
    threshold = values.pop("similarity_threshold")
    spaces = collections.live_spaces(ctx, chosen)
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


def _same(field: str, in_body: T | None, header: str, in_header: T | None) -> T | None:
    """The one value that body or header gives; raises when they give two."""
    if in_body is not None and in_header is not None and in_body != in_header:
        raise PreferenceConflictError(f"The body's {field} and the header {header} differ. Send one of them.")
    return in_header if in_body is None else in_body


def _refused(field: str, detail: str) -> InvalidRequestError:
    return InvalidRequestError(detail, errors=[FieldError(field=field, code="invalid", detail=detail)])
