"""From a question to the passages that may answer it: embed it once per kind of space, then search."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from django.db import connection

from apps.collections import search, services
from apps.collections.models import EmbeddingSpace
from apps.collections.search import Hit, SpaceQuery
from apps.collections.types import Mode
from apps.core.context import EmbeddingConfig, ExecutionContext
from apps.core.db import unit_of_work
from apps.gateway import services as gateway
from apps.gateway.types import Charge, TokenCounts
from apps.providers import tokens

DEFAULT_MODE: Mode = "hybrid"


@dataclass(frozen=True, kw_only=True)
class Retrieved:
    """Passages, best first, and what embedding the question took."""

    hits: tuple[Hit, ...]
    counts: TokenCounts


def retrieve(
    ctx: ExecutionContext,
    question: str,
    *,
    collections: Sequence[UUID],
    limit: int,
    similarity_threshold: float,
    mode: Mode = DEFAULT_MODE,
    charge: Charge,
    cancelled: Callable[[], bool] = lambda: False,
) -> Retrieved:
    """Search collections that may live in different spaces; each is asked with a vector of its own model.

    Of a question that is longer than a model takes, what the context's truncation strategy leaves of it is embedded;
    its words are searched for all the same.

    ``charge`` describes the embedding of the question; with several kinds of space each is a step of it.
    ``cancelled`` is asked before each is paid for; see :func:`apps.gateway.services.embed`.
    """
    if not collections:
        return Retrieved(hits=(), counts=TokenCounts())
    with unit_of_work(ctx):
        spaces = services.live_spaces(ctx, list(collections))
    vectors, counts = ({}, TokenCounts()) if mode == "lexical" else _embed(ctx, question, spaces, charge, cancelled)
    queries = [
        SpaceQuery(
            space_id=space.pk,
            vector=vectors.get(services.embedding_config(space)),
            similarity_threshold=similarity_threshold,
        )
        for space in spaces
    ]
    with unit_of_work(ctx), connection.cursor() as cursor:
        hits = search.search(cursor, queries, question, mode=mode, limit=limit)
    return Retrieved(hits=tuple(hits), counts=counts)


def _embed(
    ctx: ExecutionContext,
    question: str,
    spaces: Sequence[EmbeddingSpace],
    charge: Charge,
    cancelled: Callable[[], bool],
) -> tuple[dict[EmbeddingConfig, list[float]], TokenCounts]:
    vectors: dict[EmbeddingConfig, list[float]] = {}
    total = 0
    source = "api"
    for step, config in enumerate(dict.fromkeys(map(services.embedding_config, spaces))):
        stepped = replace(charge, step=step)
        text = _fitting(ctx, question, config)
        embedded = gateway.embed(ctx, stepped, [text], config=config, input_type="query", cancelled=cancelled)
        assert embedded.vectors is not None
        vectors[config] = embedded.vectors[0].tolist()
        total += embedded.counts.total_tokens
        source = embedded.counts.source if embedded.counts.source != "api" else source
    return vectors, TokenCounts(fresh_input_tokens=total, source="api" if source == "api" else "estimated")


def _fitting(ctx: ExecutionContext, question: str, config: EmbeddingConfig) -> str:
    limit = tokens.longest_text(provider=config.provider, model=config.model)
    if limit is None:
        return question
    leave_out = ctx.processing_config.truncation_strategy if ctx.processing_config else "end"
    return tokens.fit(question, limit, provider=config.provider, model=config.model, leave_out=leave_out)
