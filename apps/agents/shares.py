"""Agents that other tenants may use: who may, who pays, and in which scope a question to one is worked on.

What is asked belongs to the consumer, what answers to the owner, and neither sees the other's. A tenant is shared with
by its id alone, and the answer is the same whether there is such a tenant: nobody learns here who else is a customer.
"""

from collections.abc import Iterable
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from apps.agents import services
from apps.agents.errors import AgentNotFoundError, AlreadySharedError, ShareNotFoundError
from apps.agents.models import Agent, AgentShare
from apps.agents.types import Payer
from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work
from apps.core.errors import FieldError, InvalidRequestError
from apps.tenants.models import Tenant


def share_agent(ctx: ExecutionContext, agent_id: UUID, *, consumer_id: UUID, payer: str) -> AgentShare:
    """Let another tenant use the agent; raises AgentNotFoundError, AlreadySharedError, InvalidRequestError."""
    if consumer_id == ctx.tenant_id:
        detail = "An agent is shared with another tenant; its own may use it anyway."
        raise InvalidRequestError(detail, errors=[FieldError(field="tenant_id", code="own_tenant", detail=detail)])
    with unit_of_work(ctx):
        # Locked, so that what is not unique is all that the row can be refused for.
        agent = services.get_agent(ctx, agent_id, lock=True)
        try:
            with transaction.atomic():
                return AgentShare.objects.create(
                    tenant_id=ctx.tenant_id, agent=agent, consumer_id=consumer_id, payer=payer
                )
        except IntegrityError as error:
            raise AlreadySharedError("Revoke that share first to change who pays.") from error


def shares_of(ctx: ExecutionContext, agent_id: UUID) -> QuerySet[AgentShare]:
    """With whom the agent is shared; for its owner. The caller is in the context's unit of work."""
    agent = services.get_agent(ctx, agent_id)
    return AgentShare.objects.filter(tenant_id=agent.tenant_id, agent=agent)


def revoke_share(ctx: ExecutionContext, agent_id: UUID, share_id: UUID) -> None:
    """Take a share back. New questions are refused; runs that have begun end as they began."""
    with unit_of_work(ctx):
        if not shares_of(ctx, agent_id).filter(pk=share_id).delete()[0]:
            raise ShareNotFoundError(f"The agent has no share {share_id}. List its shares.")


def shared_agents(ctx: ExecutionContext) -> QuerySet[Agent]:
    """The agents that other tenants share with the context's. The caller is in the context's unit of work."""
    return Agent.objects.filter(shares__consumer_id=ctx.tenant_id)


def get_visible_agent(ctx: ExecutionContext, agent_id: UUID) -> Agent:
    """The agent, if it is the context's tenant's or shared with it. The caller is in the context's unit of work."""
    visible = Q(tenant_id=ctx.tenant_id) | Q(pk__in=shared_agents(ctx))
    agent = Agent.objects.filter(visible, pk=agent_id).first()
    if agent is None:
        raise AgentNotFoundError(f"There is no agent {agent_id}, or it is not yours.")
    return agent


def shares_with(ctx: ExecutionContext, agents: Iterable[Agent]) -> dict[UUID, AgentShare]:
    """By agent, the shares through which the context's tenant may use them. The caller is in a unit of work."""
    rows = AgentShare.objects.filter(consumer_id=ctx.tenant_id, agent__in=list(agents))
    return {row.agent_id: row for row in rows}


def using(ctx: ExecutionContext, agent_id: UUID) -> ExecutionContext:
    """The context in which its tenant uses the agent: of a shared one, with the owner, and who pays by the share.

    Of any other agent it is the context as it is, in whose scope the agent is found, or not. A share of a tenant that
    has been deactivated is none.
    """
    with unit_of_work(ctx):
        share = AgentShare.objects.filter(agent=agent_id, consumer_id=ctx.tenant_id).first()
    if share is None:
        return ctx
    payer = share.tenant_id if share.payer == Payer.OWNER else ctx.tenant_id
    shared = ctx.model_copy(update={"owner_tenant_id": share.tenant_id, "payer_tenant_id": payer})
    with unit_of_work(shared):
        active = Tenant.objects.filter(pk=share.tenant_id, is_active=True).exists()
    return shared if active else ctx
