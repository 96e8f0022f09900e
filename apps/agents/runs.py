"""Runs begin, are looked up, and are cancelled; conversations are read and deleted."""

from uuid import UUID

from apps.agents.errors import ConversationNotFoundError, RunNotFoundError
from apps.agents.models import Conversation, Message, Run
from apps.agents.types import Author, RunStatus
from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work
from apps.core.ids import new_id

FINISHED = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED})
TITLE_CHARACTERS = 80


def start_run(ctx: ExecutionContext, question: str) -> Run:
    """Put a question to the context's agent: its rows are written now, its work begins when they are committed."""
    assert ctx.agent_id is not None
    assert ctx.agent_version is not None
    with unit_of_work(ctx):
        conversation = _conversation(ctx, ctx.agent_id, question)
        run = Run.objects.create(
            id=new_id(),
            tenant_id=ctx.tenant_id,
            owner_tenant_id=ctx.owner_tenant_id,
            payer_tenant_id=ctx.payer_tenant_id,
            agent_id=ctx.agent_id,
            agent_version=ctx.agent_version,
            conversation=conversation,
            session_id=ctx.session_id or "",
            question=question,
            signed_context=ctx.model_copy(update={"conversation_id": conversation.pk}).sign(),
        )
        Message.objects.create(
            tenant_id=ctx.tenant_id, conversation=conversation, run=run, author=Author.USER, content=question
        )
        run.publish()
    return run


def get_run(ctx: ExecutionContext, run_id: UUID) -> Run:
    """The run, if it is the context's tenant's. The caller is in the context's unit of work."""
    run = Run.objects.filter(pk=run_id, tenant_id=ctx.tenant_id).first()
    if run is None:
        raise RunNotFoundError(f"There is no run {run_id}, or it is not yours.")
    return run


def cancel_run(ctx: ExecutionContext, run_id: UUID) -> Run:
    """Stop a run. One that has finished stays as it is; a call that is on its way is charged when it is answered."""
    with unit_of_work(ctx):
        final = get_run(ctx, run_id).final
        # Whoever works on it finds at its next step that the run is no longer unfinished, and stops.
        unfinished = Run.objects.filter(pk=run_id, status__in=Run.unfinished)
        unfinished.update(status=RunStatus.CANCELLED, **final)
        return get_run(ctx, run_id)


def delete_conversation(ctx: ExecutionContext, conversation_id: UUID) -> None:
    """Delete a conversation with its messages and runs. What it cost stays in the ledger."""
    with unit_of_work(ctx):
        get_conversation(ctx, conversation_id).delete()


def get_conversation(ctx: ExecutionContext, conversation_id: UUID) -> Conversation:
    """The conversation, if it is the context's tenant's. The caller is in the context's unit of work."""
    conversation = Conversation.objects.filter(pk=conversation_id, tenant_id=ctx.tenant_id).first()
    if conversation is None:
        raise ConversationNotFoundError(f"There is no conversation {conversation_id}, or it is not yours.")
    return conversation


def _conversation(ctx: ExecutionContext, agent_id: UUID, question: str) -> Conversation:
    if ctx.conversation_id is not None:
        return get_conversation(ctx, ctx.conversation_id)
    return Conversation.objects.create(
        tenant_id=ctx.tenant_id, agent_id=agent_id, title=question.strip()[:TITLE_CHARACTERS]
    )
