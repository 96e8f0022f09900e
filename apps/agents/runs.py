"""Runs begin, are looked up, cancelled and replayed; conversations are read and deleted."""

from uuid import UUID

from django.db.models import Q
from django.db.models.functions import Now

from apps.agents.errors import ConversationNotFoundError, NotReplayableError, RunNotFoundError
from apps.agents.models import Conversation, Message, Run
from apps.agents.types import Author, RunStatus
from apps.core import publication
from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work
from apps.core.ids import new_id
from apps.gateway import operations

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
        publication.admit(ctx, Run)
    return run


def get_run(ctx: ExecutionContext, run_id: UUID) -> Run:
    """The run, if it is the context's tenant's. The caller is in the context's unit of work.

    What was found for it is not read, as it is much, and who looks a run up does not want it.
    """
    run = Run.objects.filter(pk=run_id, tenant_id=ctx.tenant_id).defer("passages").first()
    if run is None:
        raise RunNotFoundError(f"There is no run {run_id}, or it is not yours.")
    return run


def cancel_run(ctx: ExecutionContext, run_id: UUID) -> Run:
    """Stop a run, and with it what it is buying. One that has finished stays as it is.

    What was consumed is charged: what was settled by then as the provider counted it, and the answer that is on its way
    at an estimate, since its call is ended within about a second. A search's call is charged when it has been answered.
    No other is made; only one whose hold is taken in the very moment of the cancel, after the worker's last look at the
    run, counts as on its way.

    Of this and the worker that finishes the run, whoever changes the run's row first wins. The worker: nothing is
    cancelled. This: the worker finds that the run is no longer unfinished, and its answer is charged but not said.
    """
    ctx = in_scope(ctx, run_id)
    with unit_of_work(ctx):
        final = get_run(ctx, run_id).final
        unfinished = Run.objects.filter(pk=run_id, status__in=Run.unfinished)
        if unfinished.update(status=RunStatus.CANCELLED, **final):
            # Operations after the run's row: the order in which a worker that gives the run up locks them, too.
            operations.cancel(ctx, run_id=run_id)
        return get_run(ctx, run_id)


def in_scope(ctx: ExecutionContext, run_id: UUID) -> ExecutionContext:
    """The context with the run's owner and payer: who asks reads the run, what it buys is the three parties'."""
    with unit_of_work(ctx):
        run = get_run(ctx, run_id)
    return ctx.model_copy(update={"owner_tenant_id": run.owner_tenant_id, "payer_tenant_id": run.payer_tenant_id})


def replay_run(ctx: ExecutionContext, run_id: UUID) -> Run:
    """Have a run delivered now, and as often as a new one: its message was lost, its worker died, or it was put off.

    Raises NotReplayableError for one that somebody is at, and for one that has finished: what it was buying ended with
    it, and is not bought again under the same keys.
    """
    with unit_of_work(ctx):
        run = get_run(ctx, run_id)
        unleased = Q(lease_expires_at__isnull=True) | Q(lease_expires_at__lt=Now())
        waiting = Run.objects.filter(unleased, pk=run_id, status__in=Run.unfinished)
        # A worker that claims it at the same moment, before this or after, has it: its message finds it taken.
        if not waiting.update(
            lease_expires_at=None, available_at=Now(), published_at=Now(), publications=1, deliveries=0
        ):
            raise NotReplayableError(_why_not(run))
        run.publish()
        return get_run(ctx, run_id)


def _why_not(run: Run) -> str:
    if run.status in FINISHED:
        return f"The run is {run.status}. The question can be asked again."
    return "A worker is at it. If that dies, the run is published again by itself."


def delete_conversation(ctx: ExecutionContext, conversation_id: UUID) -> None:
    """Delete a conversation with its messages and runs. What it cost stays in the ledger."""
    with unit_of_work(ctx):
        get_conversation(ctx, conversation_id).delete()


def get_conversation(ctx: ExecutionContext, conversation_id: UUID, *, lock: bool = False) -> Conversation:
    """The conversation, if it is the context's tenant's. The caller is in the context's unit of work."""
    rows = Conversation.objects.filter(pk=conversation_id, tenant_id=ctx.tenant_id)
    conversation = (rows.select_for_update(no_key=True) if lock else rows).first()
    if conversation is None:
        raise ConversationNotFoundError(f"There is no conversation {conversation_id}, or it is not yours.")
    return conversation


def _conversation(ctx: ExecutionContext, agent_id: UUID, question: str) -> Conversation:
    if ctx.conversation_id is not None:
        return get_conversation(ctx, ctx.conversation_id, lock=True)
    return Conversation.objects.create(
        tenant_id=ctx.tenant_id, agent_id=agent_id, title=question.strip()[:TITLE_CHARACTERS]
    )
