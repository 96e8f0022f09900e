"""How an agent answers now, read once for each question and remembered between questions.

What an agent says stands in its prompt, which a version never changes: each process keeps those that it has read. What
an agent is set to is remembered by all, for at most :data:`SECONDS`, and read anew after it was saved.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db.models import F
from pydantic import BaseModel, ConfigDict, ValidationError

from apps.agents.errors import AgentNotFoundError
from apps.agents.models import AgentVersion
from apps.core import caching
from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work

SECONDS = 600
#: Prompts that a process keeps: of 20,000 characters at most.
MAX_PROMPTS = 1024


class AgentConfiguration(BaseModel):
    """The version of an agent that answers now, without its prompt."""

    model_config = ConfigDict(frozen=True)

    owner_tenant_id: UUID
    version: int
    #: What the agent sets itself, by dotted name.
    settings: Mapping[str, Any]
    collections: tuple[UUID, ...]
    #: None: the deployment's.
    fallback_models: tuple[str, ...] | None


def current(ctx: ExecutionContext, agent_id: UUID) -> AgentConfiguration:
    """The configuration of an agent of the context's owner, in one query if it is not remembered.

    Raises AgentNotFoundError. Outside transactions.
    """
    remembered = caching.remembered(
        _key(agent_id), lambda: _read(ctx, agent_id).model_dump(mode="json"), seconds=SECONDS
    )
    try:
        found = AgentConfiguration.model_validate(remembered)
    except ValidationError:
        # By a process of another release, in the shape of that one: while both run, this one reads for itself. With a
        # key for each shape, what one of them changes would not be forgotten by the other.
        found = _read(ctx, agent_id)
    if found.owner_tenant_id != ctx.owner_tenant_id:
        raise _not_found(agent_id)
    return found


def forget(agent_id: UUID) -> None:
    """The agent was changed or deleted: what is remembered of it is not so once this transaction has committed."""
    caching.forget(_key(agent_id))


def prompt(ctx: ExecutionContext, agent_id: UUID, version: int) -> str:
    """What a version of an agent of the context's owner says; raises AgentNotFoundError once the agent is deleted.

    A process that has read it goes on with it: what had begun before an agent was deleted may end as it began. The
    caller is in the context's unit of work.
    """
    return _prompt(ctx.owner_tenant_id, agent_id, version)


@lru_cache(MAX_PROMPTS)
def _prompt(owner_tenant_id: UUID, agent_id: UUID, version: int) -> str:
    # By its owner, so that whoever acts for another tenant is asked for the row, which is not shown to it.
    rows = AgentVersion.objects.filter(tenant_id=owner_tenant_id, agent=agent_id, number=version)
    text = rows.values_list("prompt", flat=True).first()
    if text is None:
        raise AgentNotFoundError("The agent was deleted meanwhile.")
    return text


def _read(ctx: ExecutionContext, agent_id: UUID) -> AgentConfiguration:
    rows = AgentVersion.objects.filter(agent=agent_id, agent__tenant_id=ctx.owner_tenant_id, number=F("agent__version"))
    with unit_of_work(ctx):
        version = rows.defer("prompt").first()
    if version is None:
        raise _not_found(agent_id)
    return AgentConfiguration(
        owner_tenant_id=version.tenant_id,
        version=version.number,
        settings=version.settings,
        collections=tuple(version.collections),
        fallback_models=None if version.fallback_models is None else tuple(version.fallback_models),
    )


def _key(agent_id: UUID) -> str:
    return f"agent:{agent_id}"


def _not_found(agent_id: UUID) -> AgentNotFoundError:
    return AgentNotFoundError(f"There is no agent {agent_id}, or it is not yours.")
