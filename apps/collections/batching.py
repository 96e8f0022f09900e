"""The chunks that are embedded in one call: as many as the tier says, but no more than the provider takes."""

import math
from collections.abc import Iterator, Sequence

from apps.collections.models import Chunk, Document, EmbeddingBatch
from apps.collections.types import BatchStatus
from apps.core.context import ProcessingConfig
from apps.providers import catalog, tokens

#: The ordinals of the first and the last chunk of a batch.
Span = tuple[int, int]


def spans(chunks: Sequence[Chunk], config: ProcessingConfig, *, provider: str) -> Iterator[Span]:
    """The batches of these chunks, which lie one after the other in a document. There is at least one."""
    most_chunks = min(config.batch_size, catalog.provider(provider).max_texts or config.batch_size)
    most_tokens = tokens.largest_batch(provider=provider) or math.inf
    first, length = chunks[0].ordinal, 0
    for chunk in chunks:
        is_full = chunk.ordinal - first == most_chunks or length + chunk.searched_tokens > most_tokens
        # A chunk that is too long alone is sent all the same: its provider counts otherwise, and has the last word.
        if is_full and chunk.ordinal > first:
            yield first, chunk.ordinal - 1
            first, length = chunk.ordinal, 0
        length += chunk.searched_tokens
    yield first, chunks[-1].ordinal


def batch(document: Document, ordinal: int, span: Span) -> EmbeddingBatch:
    """A batch of the document, not saved yet, in the document's context."""
    first, last = span
    return EmbeddingBatch(
        tenant_id=document.tenant_id,
        document_id=document.pk,
        ordinal=ordinal,
        first=first,
        last=last,
        signed_context=document.signed_context,
    )


def divide(document: Document, batches: Sequence[EmbeddingBatch], config: ProcessingConfig) -> list[EmbeddingBatch]:
    """Bring those that failed down to what one call may hold now; returns new batches of what they have lost.

    ``batches`` are all of the document's, and locked. Nothing is saved here. One that is pending stays as it is: it may
    be at its provider, whose answer is then worth what it costs.
    """
    rows = list(Chunk.objects.filter(document=document).order_by("ordinal").only("ordinal", "tokens", "heading"))
    added: list[EmbeddingBatch] = []
    for failed in batches:
        if failed.status == BatchStatus.FAILED:
            chunks = rows[failed.first : failed.last + 1]
            (_, failed.last), *rest = spans(chunks, config, provider=document.space.provider)
            added += [batch(document, len(batches) + number, span) for number, span in enumerate(rest, len(added))]
    return added
