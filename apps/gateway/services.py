"""The one door to a provider: :func:`complete` and :func:`embed` buy answers and vectors through the till.

An answer that is shown while it is being written is bought with :func:`apps.gateway.streaming.stream`.
"""

import base64
import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Never
from uuid import UUID

import numpy as np

from apps.core.context import EmbeddingConfig, ExecutionContext
from apps.gateway import sellers
from apps.gateway.offers import Bought, Buyer, E, Offer, Option, at_once
from apps.gateway.purchase import buy
from apps.gateway.resolution import counts_of
from apps.gateway.sellers import Seller
from apps.ledger import metadata, records
from apps.ledger.types import Charge, TokenCounts
from apps.providers import tokens
from apps.providers.base import (
    ChatProvider,
    ChatRequest,
    ChatResult,
    EmbeddingRequest,
    EmbeddingResult,
    InputType,
    Vectors,
)
from apps.providers.errors import ProviderBadResponseError

#: Of work whose context says nothing of its calls.
DEFAULT_TIMEOUT_SECONDS, DEFAULT_RETRIES = 60.0, 3

#: Stores the vectors inside settle's transaction; returns the reference that the operation keeps instead of them.
Store = Callable[[Vectors], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Completion:
    operation_id: UUID
    text: str
    finish_reason: str
    provider: str
    model: str
    counts: TokenCounts
    replayed: bool


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """``vectors`` is None when they were stored by the caller's ``store``; ``reference`` is what it returned."""

    operation_id: UUID
    vectors: Vectors | None
    reference: Mapping[str, Any]
    counts: TokenCounts
    replayed: bool


def complete(
    ctx: ExecutionContext,
    charge: Charge,
    request: ChatRequest,
    *,
    provider: str,
    cancelled: Callable[[], bool] = lambda: False,
) -> Completion:
    """The model's answer, bought once: a repeated call of the same charge gets the same answer without a call.

    ``cancelled`` is asked before every call. When it says yes, none is made, the operation ends as cancelled and
    CallCancelledError is raised.
    """

    def offer() -> Offer[Never, ChatResult]:
        seller = sellers.chat(ctx, provider)
        adapter = seller.adapter
        send = at_once(lambda attempt, timeout: adapter.complete(request, request_id=str(attempt), timeout=timeout))
        return chat_offer(ctx, request, seller, send=send)

    option = Option(provider=provider, model=request.model, make=offer)
    return completion(buy(ctx, charge, option, Buyer(retries=retries(ctx), cancelled=cancelled)))


def retries(ctx: ExecutionContext) -> int:
    """How often answers are asked for again in the context."""
    return ctx.llm_config.retry_attempts if ctx.llm_config else DEFAULT_RETRIES


def chat_offer(
    ctx: ExecutionContext,
    request: ChatRequest,
    seller: Seller[ChatProvider],
    *,
    send: Callable[[UUID, float], Generator[E, None, ChatResult]],
) -> Offer[E, ChatResult]:
    """An answer as it can be bought; ``send`` makes the call with the seller's adapter."""
    provider = seller.provider
    return Offer(
        provider=provider,
        model=request.model,
        circuit=seller.circuit(request.model),
        hold_tokens=tokens.upper_bound_chat(request, provider=provider) + request.max_tokens,
        timeout=float(ctx.llm_config.timeout_seconds if ctx.llm_config else DEFAULT_TIMEOUT_SECONDS),
        send=send,
        counts=lambda result: counts_of(result.usage) if result.usage else estimate(request, result.text, provider),
        keep=lambda result: {
            "text": result.text,
            "finish_reason": result.finish_reason,
            "provider": provider,
            "model": result.model or request.model,
        },
        facts=seller.facts,
        lookup=seller.lookup,
    )


def completion(bought: Bought) -> Completion:
    """The answer in what was bought."""
    return Completion(
        operation_id=bought.operation_id,
        text=bought.result["text"],
        finish_reason=bought.result["finish_reason"],
        provider=bought.result["provider"],
        model=bought.result["model"],
        counts=bought.counts,
        replayed=bought.replayed,
    )


def embed(
    ctx: ExecutionContext,
    charge: Charge,
    texts: Sequence[str],
    *,
    config: EmbeddingConfig,
    input_type: InputType = "document",
    store: Store | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Embedded:
    """The texts' vectors, bought once. ``cancelled`` as in :func:`complete`.

    With ``store`` they are written in the transaction that books them; without it (a query's) the operation keeps them.
    """
    request = EmbeddingRequest(
        model=config.model, texts=tuple(texts), dimensions=config.dimensions, input_type=input_type
    )

    # An entry is written for vectors of all texts or for none.
    of_texts = {**metadata.of_texts(texts), "dimensions": config.dimensions, "successes": len(texts), "failures": 0}
    charge = replace(charge, metadata={**of_texts, **charge.metadata})
    offer = functools.partial(_embedding_offer, ctx, request, config.provider, store)
    option = Option(provider=config.provider, model=config.model, make=offer)
    again = ctx.processing_config.retry_attempts if ctx.processing_config else DEFAULT_RETRIES
    return _embedded(buy(ctx, charge, option, Buyer(retries=again, cancelled=cancelled)), stored=store is not None)


def _embedding_offer(
    ctx: ExecutionContext, request: EmbeddingRequest, provider: str, store: Store | None
) -> Offer[Never, EmbeddingResult]:
    seller = sellers.embedding(ctx, provider)
    adapter = seller.adapter
    return Offer(
        provider=provider,
        model=request.model,
        circuit=seller.circuit(request.model),
        hold_tokens=sum(tokens.upper_bound(text, provider=provider, model=request.model) for text in request.texts),
        timeout=float(ctx.processing_config.timeout_seconds if ctx.processing_config else DEFAULT_TIMEOUT_SECONDS),
        send=at_once(lambda attempt, timeout: adapter.embed(request, request_id=str(attempt), timeout=timeout)),
        check=lambda result: _check_shape(result, request),
        counts=lambda result: _embedding_counts(result, request, provider),
        keep=lambda result: store(result.vectors) if store else _packed(result.vectors),
        keep_writes=store is not None,
        facts=seller.facts,
        lookup=seller.lookup,
    )


def record_internal(
    ctx: ExecutionContext, charge: Charge, counts: TokenCounts, *, provider: str, model: str
) -> records.Recorded:
    """Book work that nobody is billed for and no provider did, such as chunking."""
    event = records.UsageEvent(
        idempotency_key=charge.idempotency_key(ctx.tenant_id, ctx.created_at),
        counts=counts,
        token_type=charge.token_type,
        operation=charge.operation,
        provider=provider,
        model=model,
        billable=charge.billable,
        occurred_at=ctx.created_at,
        agent_id=charge.agent_id,
        collection_id=charge.collection_id,
        document_id=charge.document_id,
        conversation_id=charge.conversation_id,
        run_id=charge.run_id,
        metadata=metadata.checked(charge.operation, charge.token_type, charge.metadata),
    )
    return records.record(ctx, event)


def estimate(request: ChatRequest, text: str, provider: str) -> TokenCounts:
    """Our own count of a request and of the text that answered it."""
    sent = tokens.count_chat(request, provider=provider).tokens
    answered = tokens.count(text, provider=provider, model=request.model).tokens
    return TokenCounts(fresh_input_tokens=sent, plain_output_tokens=answered, source="estimated")


def _embedding_counts(result: EmbeddingResult, request: EmbeddingRequest, provider: str) -> TokenCounts:
    if result.usage:
        return counts_of(result.usage)
    counted = sum(tokens.count(text, provider=provider, model=request.model).tokens for text in request.texts)
    return TokenCounts(fresh_input_tokens=counted, source="estimated")


def _check_shape(result: EmbeddingResult, request: EmbeddingRequest) -> None:
    """A vector of another length belongs to another space and is never stored in this one."""
    expected = (len(request.texts), request.dimensions or result.vectors.shape[1])
    if result.vectors.shape != expected:
        raise ProviderBadResponseError(
            f"Asked for vectors of shape {expected}, the provider sent {result.vectors.shape}."
        )


def _packed(vectors: Vectors) -> dict[str, Any]:
    raw = np.ascontiguousarray(vectors, dtype="<f4").tobytes()
    return {"shape": list(vectors.shape), "float32_le": base64.b64encode(raw).decode()}


def _unpacked(packed: Mapping[str, Any]) -> Vectors:
    raw = base64.b64decode(packed["float32_le"])
    return np.frombuffer(raw, dtype="<f4").astype(np.float32).reshape(packed["shape"])


def _embedded(bought: Bought, *, stored: bool) -> Embedded:
    return Embedded(
        operation_id=bought.operation_id,
        vectors=None if stored else _unpacked(bought.result),
        reference=bought.result if stored else {},
        counts=bought.counts,
        replayed=bought.replayed,
    )
