"""The main job: find passages, ask the model, cite. May be delivered any number of times and pays once.

What was found is written to the run before the first hold on an answer, so a repeated delivery puts the same question
to the model; a done operation gives its answer back without a call.
"""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db.models.functions import Now

from apps.agents import citations, configurations, expansion, generation, prompts
from apps.agents.expansion import Expansion
from apps.agents.models import Message, Run
from apps.agents.types import Author, RunStatus
from apps.collections import retrieval
from apps.collections.search import Hit
from apps.core import delivery, work
from apps.core.context import ExecutionContext, LLMConfig
from apps.core.db import unit_of_work
from apps.core.errors import NoobleError
from apps.core.ids import new_id
from apps.gateway import operations
from apps.gateway.errors import OF_THE_PAYERS_PROVIDER, CallCancelledError
from apps.gateway.services import Completion
from apps.gateway.types import Charge, OperationKind, TokenCounts, TokenType
from apps.providers.base import ChatRequest, Passage

logger = logging.getLogger(__name__)

#: What a consumer is told where another tenant pays. How that one stands with its provider is its own business, and a
#: provider's own words may tell of it; ``ledger_end`` keeps no more.
_BUDGET = "The budget of the agent's owner, who pays for its answers, does not cover this one. Ask the owner."
_PROVIDER = "The model that the agent's owner pays for did not answer. Try again later, or ask the owner."


def answer(ctx: ExecutionContext, run_id: UUID, *, task_id: str) -> bool:
    """Answer the run's question, whatever an earlier delivery of it left behind."""
    return delivery.drive(ctx, Run, run_id, task_id=task_id, perform=_answer, give_up=_fail)


def _answer(ctx: ExecutionContext, run: Run) -> None:
    try:
        completion = _completion(ctx, run)
    except CallCancelledError:
        # Its row says so already.
        logger.info("run cancelled", extra={"run": str(run.pk)})
    else:
        _succeed(ctx, run, completion)


def _completion(ctx: ExecutionContext, run: Run) -> Completion:
    """Find the passages, unless an earlier delivery has, and buy the answer that rests on them."""
    with unit_of_work(ctx):
        asked = Message.objects.get(run=run, author=Author.USER)
    if run.passages is None:
        _require_room(ctx, run)
        _retrieve(ctx, run, asked)
    charge, request = _generation(ctx, run, asked), _request(ctx, run, asked)
    return generation.buy(ctx, charge, request, cancelled=lambda: _is_cancelled(ctx, run))


def _require_room(ctx: ExecutionContext, run: Run) -> None:
    """Refuse a question that none of the models can hold before the search for it is paid for."""
    with unit_of_work(ctx):
        prompt = configurations.prompt(ctx, run.agent_id, run.agent_version)
    prompts.require_room(generation.models(ctx), prompt=prompt, question=run.question)


def _retrieve(ctx: ExecutionContext, run: Run, asked: Message) -> None:
    assert ctx.rag_config is not None
    _advance(ctx, run, status=RunStatus.RETRIEVING, started_at=Now())
    chosen = ctx.rag_config.collections
    expanded = _expand(ctx, run, asked)
    found = retrieval.retrieve(
        ctx,
        run.question,
        wordings=expanded.wordings,
        collections=[collection.collection_id for collection in chosen],
        limit=ctx.rag_config.max_results,
        similarity_threshold=min((collection.similarity_threshold for collection in chosen), default=0.0),
        charge=_embedding(ctx, run, asked),
        cancelled=lambda: _is_cancelled(ctx, run),
    )
    _advance(
        ctx,
        run,
        status=RunStatus.GENERATING,
        passages=[_stored(hit) for hit in found.hits],
        answer_message_id=new_id(),
        usage={
            "expansion_tokens": expanded.counts.total_tokens,
            "expansion_token_source": expanded.counts.source,
            "embedding_tokens": found.counts.total_tokens,
            "embedding_token_source": found.counts.source,
        },
        retrieved_at=Now(),
    )


def _expand(ctx: ExecutionContext, run: Run, asked: Message) -> Expansion:
    """The other wordings that the question is to be searched for in."""
    assert ctx.rag_config is not None
    if not (ctx.rag_config.query_expansion_enabled and ctx.rag_config.collections):
        return Expansion()
    charge = _charge(run, asked, OperationKind.GENERATION, TokenType.LLM, **_facts(ctx))
    return expansion.expand(ctx, charge, run.question, cancelled=lambda: _is_cancelled(ctx, run))


def _stored(hit: Hit) -> dict[str, Any]:
    return {
        "chunk_id": str(hit.chunk_id),
        "document_id": str(hit.document_id),
        "document_name": hit.document_name,
        "page": hit.page,
        "heading": hit.heading,
        "score": round(hit.score, 6),
        "text": hit.text,
    }


def _request(ctx: ExecutionContext, run: Run, asked: Message) -> Callable[[LLMConfig], ChatRequest]:
    """Makes what a model is sent: as much of it as it can hold."""
    with unit_of_work(ctx):
        prompt = configurations.prompt(ctx, run.agent_id, run.agent_version)
        history = _history(asked)
    return functools.partial(
        prompts.build,
        prompt=prompt,
        question=run.question,
        passages=_passages(run.passages or []),
        history=history,
    )


def _history(asked: Message) -> list[Message]:
    """What was said before the question, newest first; ids are in the order of time.

    Except that an answer has its id before it is said. One that was still on its way when the question came is left out
    by its moment, so that every delivery puts the same question to the model.
    """
    earlier = Message.objects.filter(
        conversation=asked.conversation_id, pk__lt=asked.pk, created_at__lt=asked.created_at
    )
    return list(earlier.order_by("-id")[: prompts.MAX_HISTORY_MESSAGES])


def _passages(stored: Sequence[Mapping[str, Any]]) -> list[Passage]:
    return [
        Passage(number=number, document=item["document_name"], text=item["text"], page=item["page"])
        for number, item in enumerate(stored, start=1)
    ]


def _embedding(ctx: ExecutionContext, run: Run, asked: Message) -> Charge:
    facts = _facts(ctx)
    if run.is_shared:
        # The agent's owner sees the entry, and could find out by the hash whether a question is one it guessed.
        facts["text_hash"] = None
    return _charge(run, asked, OperationKind.QUERY, TokenType.EMBEDDING, **facts)


def _generation(ctx: ExecutionContext, run: Run, asked: Message) -> Charge:
    facts = {**_facts(ctx), "passages": len(run.passages or [])}
    if not run.is_shared:
        facts["message_id"] = run.answer_message_id
    return _charge(run, asked, OperationKind.CHAT, TokenType.LLM, **facts)


def _facts(ctx: ExecutionContext) -> dict[str, Any]:
    searched = ctx.rag_config is not None and ctx.rag_config.collections
    strategy = retrieval.DEFAULT_MODE if searched else None
    return {"query_type": ctx.query_type, "strategy": strategy, "service": "agents"}


def _charge(run: Run, asked: Message, operation: OperationKind, token_type: TokenType, **metadata: Any) -> Charge:
    """What identifies the work, and whom it is for.

    The owner of a shared agent sees the hash in the entry's key. It is not told the messages' ids; without the
    question's the hash proves no guess of it.
    """
    payload = {"message": asked.pk, "question": run.question, "agent": run.agent_id, "version": run.agent_version}
    return Charge(
        operation=operation,
        token_type=token_type,
        payload=payload,
        agent_id=run.agent_id,
        conversation_id=run.conversation_id,
        run_id=run.pk,
        metadata=metadata,
    )


def _succeed(ctx: ExecutionContext, run: Run, completion: Completion) -> None:
    found = citations.cited(completion.text, run.passages or [])
    with unit_of_work(ctx):
        finished = work.advance(
            run,
            status=RunStatus.SUCCEEDED,
            answer=completion.text,
            finish_reason=completion.finish_reason,
            citations=found,
            usage={**run.usage, **_usage(completion.counts), **_answerer(completion), "cost_usd": _cost(ctx, run)},
            **run.final,
        )
        if finished:
            Message.objects.create(
                id=run.answer_message_id,
                tenant_id=run.tenant_id,
                conversation_id=run.conversation_id,
                run=run,
                author=Author.ASSISTANT,
                content=completion.text,
                finish_reason=completion.finish_reason,
                citations=found,
            )


def _cost(ctx: ExecutionContext, run: Run) -> str | None:
    cost = operations.cost_usd(ctx, run_id=run.pk)
    # Never in the form 3E-7, which Decimal chooses for small ones.
    return None if cost is None else f"{cost:.10f}"


def _usage(counts: TokenCounts) -> dict[str, Any]:
    return {
        "input_tokens": counts.input_tokens,
        "cached_input_tokens": counts.cached_input_tokens,
        "output_tokens": counts.output_tokens,
        "reasoning_tokens": counts.reasoning_tokens,
        "token_source": counts.source,
    }


def _answerer(completion: Completion) -> dict[str, str]:
    """Who answered. The model as its provider names it, where it does: more exactly than it was asked for, maybe."""
    return {"provider": completion.provider, "model": completion.model}


def _fail(ctx: ExecutionContext, run: Run, error: NoobleError) -> None:
    with unit_of_work(ctx):
        failed = work.advance(
            run,
            status=RunStatus.FAILED,
            error_code=error.reason,
            error_detail=_told(ctx, error),
            **run.final,
        )
        if failed:
            operations.abandon(ctx, error, run_id=run.pk)
            work.bury(run, error)


def _told(ctx: ExecutionContext, error: NoobleError) -> str:
    """The error's detail as the consumer may read it: another tenant's budget and keys are that tenant's business."""
    if ctx.payer_tenant_id == ctx.tenant_id:
        return error.detail
    if error.reason == "budget_exceeded":
        return _BUDGET
    return _PROVIDER if isinstance(error, OF_THE_PAYERS_PROVIDER) else error.detail


def _is_cancelled(ctx: ExecutionContext, run: Run) -> bool:
    """The last look at the run before it costs something."""
    with unit_of_work(ctx):
        return not Run.objects.filter(pk=run.pk).exclude(status=RunStatus.CANCELLED).exists()


def _advance(ctx: ExecutionContext, run: Run, **values: Any) -> None:
    with unit_of_work(ctx):
        if not work.advance(run, **values):
            raise work.LeaseLostError("Another worker has taken the run over, or it was cancelled.")
