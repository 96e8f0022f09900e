"""The one door to a provider: :func:`complete` and :func:`embed` buy answers and vectors through the till."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np

from apps.core.context import EmbeddingConfig, ExecutionContext
from apps.gateway.purchase import Bought, Offer, buy
from apps.ledger import records
from apps.ledger.types import Charge, TokenCounts
from apps.providers import registry, tokens
from apps.providers.base import (
    Askable,
    ChatRequest,
    ChatResult,
    EmbeddingRequest,
    EmbeddingResult,
    InputType,
    Usage,
    Vectors,
)
from apps.providers.errors import ProviderBadResponseError

EMBEDDING_TIMEOUT_SECONDS = 60.0

#: Stores the vectors inside settle's transaction; returns the reference that the operation keeps instead of them.
Store = Callable[[Vectors], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Completion:
    operation_id: UUID
    text: str
    finish_reason: str
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


def complete(ctx: ExecutionContext, charge: Charge, request: ChatRequest, *, provider: str) -> Completion:
    """The model's answer, bought once: a repeated call of the same charge gets the same answer without a call."""
    adapter = registry.chat(provider)
    offer = Offer(
        provider=provider,
        model=request.model,
        hold_tokens=tokens.upper_bound_chat(request, provider=provider) + request.max_tokens,
        timeout=float(ctx.llm_config.timeout_seconds if ctx.llm_config else EMBEDDING_TIMEOUT_SECONDS),
        send=lambda request_id, timeout: adapter.complete(request, request_id=request_id, timeout=timeout),
        counts=lambda result: _chat_counts(result, request, provider),
        keep=lambda result: {"text": result.text, "finish_reason": result.finish_reason, "model": result.model},
        lookup=adapter.lookup if isinstance(adapter, Askable) else None,
    )
    bought = buy(ctx, charge, offer)
    return Completion(
        operation_id=bought.operation_id,
        text=bought.result["text"],
        finish_reason=bought.result["finish_reason"],
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
) -> Embedded:
    """The texts' vectors, bought once.

    With ``store`` they are written in the transaction that books them; without it (a query's) the operation keeps them.
    """
    adapter = registry.embedding(config.provider)
    request = EmbeddingRequest(
        model=config.model, texts=tuple(texts), dimensions=config.dimensions, input_type=input_type
    )
    offer = Offer(
        provider=config.provider,
        model=config.model,
        hold_tokens=sum(tokens.upper_bound(text, provider=config.provider, model=config.model) for text in texts),
        timeout=EMBEDDING_TIMEOUT_SECONDS,
        send=lambda request_id, timeout: adapter.embed(request, request_id=request_id, timeout=timeout),
        check=lambda result: _check_shape(result, request),
        counts=lambda result: _embedding_counts(result, request, config.provider),
        keep=lambda result: store(result.vectors) if store else _packed(result.vectors),
        keep_writes=store is not None,
        lookup=adapter.lookup if isinstance(adapter, Askable) else None,
    )
    return _embedded(buy(ctx, charge, offer), stored=store is not None)


def record_internal(
    ctx: ExecutionContext, charge: Charge, counts: TokenCounts, *, provider: str, model: str
) -> records.Recorded:
    """Book work that nobody is billed for and no provider did, such as chunking."""
    return records.record(
        ctx,
        counts,
        provider=provider,
        model=model,
        token_type=charge.token_type,
        operation=charge.operation,
        idempotency_key=charge.idempotency_key(ctx.tenant_id, ctx.created_at),
        billable=charge.billable,
        occurred_at=ctx.created_at,
        agent_id=charge.agent_id,
        collection_id=charge.collection_id,
        document_id=charge.document_id,
        conversation_id=charge.conversation_id,
        run_id=charge.run_id,
        metadata=charge.metadata,
    )


def _chat_counts(result: ChatResult, request: ChatRequest, provider: str) -> TokenCounts:
    if result.usage:
        return _counts(result.usage)
    sent = tokens.count_chat(request, provider=provider).tokens
    answered = tokens.count(result.text, provider=provider, model=request.model).tokens
    return TokenCounts(fresh_input_tokens=sent, plain_output_tokens=answered, source="estimated")


def _embedding_counts(result: EmbeddingResult, request: EmbeddingRequest, provider: str) -> TokenCounts:
    if result.usage:
        return _counts(result.usage)
    counted = sum(tokens.count(text, provider=provider, model=request.model).tokens for text in request.texts)
    return TokenCounts(fresh_input_tokens=counted, source="estimated")


def _counts(usage: Usage) -> TokenCounts:
    return TokenCounts(
        fresh_input_tokens=usage.fresh_input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        plain_output_tokens=usage.plain_output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        source=usage.source,
    )


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
