"""From a request about a collection to what it asks for: its headers, its body and the tier, resolved once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from rest_framework.request import Request

from apps.collections import services
from apps.core import configuration, headers
from apps.core.configuration import Level
from apps.core.context import ExecutionContext, ProcessingConfig
from apps.core.db import unit_of_work
from apps.core.headers import Sent
from apps.tenants import entry


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search of one collection: the context that it is done in, and how much it may find."""

    ctx: ExecutionContext
    limit: int
    similarity_threshold: float


def collection_settings(request: Request, in_body: Mapping[str, Any]) -> dict[str, Any]:
    """How a new collection is embedded and cut, as body and headers say between them, by dotted name."""
    return headers.merged(in_body, headers.read(request), "embedding_config", "processing_config")


def upload_settings(request: Request, collection_id: UUID) -> dict[str, Any]:
    """How the headers want a document embedded and cut, by dotted name."""
    return headers.overrides(_sent_about(collection_id, request), "embedding_config", "processing_config")


def search(request: Request, collection_id: UUID, in_body: Mapping[str, Any], *, created_at: datetime) -> Search:
    """The search that the request asks for; ``in_body`` are the body's settings, by dotted name.

    Raises what its headers deserve: PreferenceConflictError, EmbeddingSpaceMismatchError, CollectionNotFoundError.
    """
    sent = _sent_about(collection_id, request)
    ctx = entry.context(request, context_type="search", created_at=created_at)
    if embedding := headers.overrides(sent, "embedding_config"):
        with unit_of_work(ctx):
            services.require_spaces(services.live_spaces(ctx, [collection_id]), embedding)
    layers = {
        Level.REQUEST: headers.merged(in_body, sent, "rag_config"),
        Level.TIER: configuration.check(entry.principal(request).tier_defaults, level=Level.TIER),
    }
    resolved = configuration.resolve(layers)
    return Search(
        ctx=ctx.model_copy(update={"processing_config": ProcessingConfig(**resolved.section("processing_config"))}),
        limit=resolved.values["rag_config.max_results"],
        similarity_threshold=resolved.values["rag_config.similarity_threshold"],
    )


def _sent_about(collection_id: UUID, request: Request) -> Sent:
    """The request's headers; they may not be about another collection than its address."""
    sent = headers.read(request)
    headers.agreed("address", collection_id, "X-Collection-ID", sent.get("X-Collection-ID"))
    return sent
