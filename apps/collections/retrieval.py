"""From a question to the passages that may answer it: embed it once per kind of space, then search.

It may be searched for in several wordings. All are embedded in one call, and what each finds is fused.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from django.db import connection

from apps.collections import fusion, search, services
from apps.collections.models import EmbeddingSpace
from apps.collections.search import Hit, SpaceQuery
from apps.collections.types import Mode
from apps.core.context import EmbeddingConfig, ExecutionContext
from apps.core.db import unit_of_work
from apps.gateway import services as gateway
from apps.gateway.types import Charge, TokenCounts
from apps.providers import tokens

DEFAULT_MODE: Mode = "hybrid"

#: A text's vector of each kind of space.
Vectors = dict[EmbeddingConfig, list[float]]


@dataclass(frozen=True, kw_only=True)
class Retrieved:
    """Passages, best first, and what embedding the question took."""

    hits: tuple[Hit, ...]
    counts: TokenCounts


def retrieve(
    ctx: ExecutionContext,
    question: str,
    *,
    wordings: Sequence[str] = (),
    collections: Sequence[UUID],
    limit: int,
    similarity_threshold: float,
    mode: Mode = DEFAULT_MODE,
    charge: Charge,
    cancelled: Callable[[], bool] = lambda: False,
) -> Retrieved:
    """Search collections that may live in different spaces; each is asked with a vector of its own model.

    ``wordings`` say the question otherwise. A passage is found for any of them, or for the question, that it is similar
    enough to; what many of them find comes first. Of a question that is longer than a model takes, what the context's
    truncation strategy leaves of it is embedded; its words are searched for all the same.

    ``charge`` describes the embedding of all wordings; with several kinds of space each is a step of it.
    ``cancelled`` is asked before each is paid for; see :func:`apps.gateway.services.embed`.
    """
    if not collections:
        return Retrieved(hits=(), counts=TokenCounts())
    with unit_of_work(ctx):
        spaces = services.live_spaces(ctx, list(collections))
    texts = [question, *wordings]
    vectors, counts = _embed(ctx, texts, [] if mode == "lexical" else spaces, charge, cancelled)
    with unit_of_work(ctx), connection.cursor() as cursor:
        rankings = [
            search.search(cursor, _queries(spaces, own, similarity_threshold), text, mode=mode, limit=limit)
            for text, own in zip(texts, vectors, strict=True)
        ]
    return Retrieved(hits=tuple(fusion.fused(rankings, limit=limit)), counts=counts)


def _queries(spaces: Sequence[EmbeddingSpace], vectors: Vectors, similarity_threshold: float) -> list[SpaceQuery]:
    return [
        SpaceQuery(
            space_id=space.pk,
            vector=vectors.get(services.embedding_config(space)),
            similarity_threshold=similarity_threshold,
        )
        for space in spaces
    ]


def _embed(
    ctx: ExecutionContext,
    texts: Sequence[str],
    spaces: Sequence[EmbeddingSpace],
    charge: Charge,
    cancelled: Callable[[], bool],
) -> tuple[list[Vectors], TokenCounts]:
    vectors: list[Vectors] = [{} for _ in texts]
    total = 0
    source = "api"
    for step, config in enumerate(dict.fromkeys(map(services.embedding_config, spaces))):
        stepped = replace(charge, step=step)
        fitting = [_fitting(ctx, text, config) for text in texts]
        embedded = gateway.embed(ctx, stepped, fitting, config=config, input_type="query", cancelled=cancelled)
        assert embedded.vectors is not None
        # An earlier delivery may have embedded fewer: what has no vector here is searched for by its words.
        for own, vector in zip(vectors, embedded.vectors, strict=False):
            own[config] = vector.tolist()
        total += embedded.counts.total_tokens
        source = embedded.counts.source if embedded.counts.source != "api" else source
    return vectors, TokenCounts(fresh_input_tokens=total, source="api" if source == "api" else "estimated")


def _fitting(ctx: ExecutionContext, text: str, config: EmbeddingConfig) -> str:
    limit = tokens.longest_text(provider=config.provider, model=config.model)
    if limit is None:
        return text
    leave_out = ctx.processing_config.truncation_strategy if ctx.processing_config else "end"
    return tokens.fit(text, limit, provider=config.provider, model=config.model, leave_out=leave_out)
