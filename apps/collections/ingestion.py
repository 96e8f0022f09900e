"""From an uploaded document to one that is searched: read and cut, embed batch by batch, index.

Locks: batch, then document, then the ledger's. Each step commits by a conditional UPDATE on the epoch of its lease, so
a worker that slept past its lease changes nothing. The last batch's transaction finishes the document: nothing counts
down anywhere else.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import connection, models
from django.db.models import F
from django.db.models.functions import Now

from apps.collections import batching, documents, parsing, services
from apps.collections.chunking import ChunkDraft, chunk
from apps.collections.models import Chunk, ChunkEmbedding, Document, EmbeddingBatch
from apps.collections.parsing import ParsedDocument
from apps.collections.types import BatchStatus, DocumentStatus
from apps.core import delivery, publication, work
from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work
from apps.core.errors import NoobleError
from apps.gateway import operations
from apps.gateway import services as gateway
from apps.gateway.types import Charge, OperationKind, TokenCounts, TokenType
from apps.providers import tokens
from apps.providers.base import Vectors


def chunk_document(ctx: ExecutionContext, document_id: UUID, *, task_id: str) -> bool:
    """Read the document, cut it, hand its batches over to be embedded. May be delivered any number of times."""
    return delivery.drive(ctx, Document, document_id, task_id=task_id, perform=_chunk, give_up=_fail_document)


def embed_batch(ctx: ExecutionContext, batch_id: UUID, *, task_id: str) -> bool:
    """Embed one batch; the last one makes the document ready. May be delivered any number of times."""
    return delivery.drive(ctx, EmbeddingBatch, batch_id, task_id=task_id, perform=_embed, give_up=_fail_batch)


def _chunk(ctx: ExecutionContext, document: Document) -> None:
    _advance(ctx, document, status=DocumentStatus.PARSING)
    parsed = parsing.parse(documents.content(document), name=document.name, content_type=document.content_type)
    _advance(ctx, document, status=DocumentStatus.CHUNKING)
    with unit_of_work(ctx):
        space = document.space
    count = functools.partial(_count, provider=space.provider, model=space.model)
    assert ctx.processing_config is not None
    size, overlap = ctx.processing_config.chunk_size, ctx.processing_config.chunk_overlap
    drafts = chunk(parsed, size=size, overlap=overlap, count=count)
    # Half a document is no use: what cannot be embedded to its end is not begun. Each batch then takes its own hold.
    operations.require_budget(ctx, sum(draft.tokens for draft in drafts))
    _book_chunking(ctx, document, drafts)
    _store_chunks(ctx, document, parsed, drafts)


def _count(text: str, *, provider: str, model: str) -> int:
    return tokens.count(text, provider=provider, model=model).tokens


def _book_chunking(ctx: ExecutionContext, document: Document, drafts: Sequence[ChunkDraft]) -> None:
    """Book the tokens that were cut, as the space's model counts them; nobody is billed for them."""
    space = document.space
    sizes = [draft.tokens for draft in drafts]
    charge = Charge(
        operation=OperationKind.INTERNAL,
        token_type=TokenType.EMBEDDING,
        payload={"document": document.content_hash, "space": document.space_id, "work": "chunking"},
        billable=False,
        collection_id=document.collection_id,
        document_id=document.pk,
        metadata={
            "service": "chunking",
            "chunks": len(drafts),
            "chunk_tokens_min": min(sizes),
            "chunk_tokens_average": round(sum(sizes) / len(sizes), 1),
            "chunk_tokens_max": max(sizes),
            "characters": sum(len(draft.text) for draft in drafts),
        },
    )
    counts = TokenCounts(fresh_input_tokens=max(sum(sizes), 1), source="estimated")
    gateway.record_internal(ctx, charge, counts, provider=space.provider, model=space.model)


def _store_chunks(
    ctx: ExecutionContext, document: Document, parsed: ParsedDocument, drafts: Sequence[ChunkDraft]
) -> None:
    """Write the chunks and their batches and hand the document over to them, in one transaction."""
    chunks = [_chunk_row(document, draft) for draft in drafts]
    batches = _batches(ctx, document, chunks)
    with unit_of_work(ctx):
        handed_over = work.advance(
            document,
            status=DocumentStatus.EMBEDDING,
            content_type=parsed.content_type,
            page_count=parsed.page_count,
            chunk_count=len(drafts),
            token_count=sum(draft.tokens for draft in drafts),
            batches_total=len(batches),
            batches_done=0,
            lease_expires_at=None,
        )
        if not handed_over:
            return
        Chunk.objects.bulk_create(chunks, batch_size=500)
        EmbeddingBatch.objects.bulk_create(batches)
        publication.admit(ctx, EmbeddingBatch)


def _chunk_row(document: Document, draft: ChunkDraft) -> Chunk:
    return Chunk(
        tenant_id=document.tenant_id,
        space_id=document.space_id,
        document_id=document.pk,
        ordinal=draft.ordinal,
        text=draft.text,
        page=draft.page,
        heading=draft.heading,
        tokens=draft.tokens,
    )


def _batches(ctx: ExecutionContext, document: Document, chunks: Sequence[Chunk]) -> list[EmbeddingBatch]:
    assert ctx.processing_config is not None
    spans = batching.spans(chunks, ctx.processing_config, provider=document.space.provider)
    return [batching.batch(document, ordinal, span) for ordinal, span in enumerate(spans)]


def _embed(ctx: ExecutionContext, batch: EmbeddingBatch) -> None:
    with unit_of_work(ctx):
        document = Document.objects.select_related("space").get(pk=batch.document_id)
        rows = Chunk.objects.filter(document=document, ordinal__range=(batch.first, batch.last))
        chunks = list(rows.order_by("ordinal"))
        if document.status != DocumentStatus.EMBEDDING:
            # Another batch has failed: this one waits for the document to be tried again.
            work.advance(batch, status=BatchStatus.FAILED, lease_expires_at=None)
            return
    embedded = gateway.embed(
        ctx,
        _charge(document, batch),
        [chunk.searched_text for chunk in chunks],
        config=services.embedding_config(document.space),
        store=functools.partial(_store_vectors, batch, chunks),
    )
    if embedded.replayed:
        # The vectors were stored when it was paid for, by a worker that had lost its lease: only the count is missing.
        with unit_of_work(ctx):
            _finish_batch(batch)


def _charge(document: Document, batch: EmbeddingBatch) -> Charge:
    return Charge(
        operation=OperationKind.BATCH,
        token_type=TokenType.EMBEDDING,
        payload={"document": document.content_hash, "space": document.space_id},
        step=batch.ordinal,
        collection_id=document.collection_id,
        document_id=document.pk,
        metadata={"service": "ingestion"},
    )


def _store_vectors(batch: EmbeddingBatch, chunks: Sequence[Chunk], vectors: Vectors) -> Mapping[str, Any]:
    """Write a batch's vectors and count it done; runs in the transaction that books them."""
    ChunkEmbedding.objects.bulk_create(
        [
            ChunkEmbedding(
                chunk_id=chunk.pk,
                tenant_id=chunk.tenant_id,
                space_id=chunk.space_id,
                document_id=chunk.document_id,
                embedding=vector,
            )
            for chunk, vector in zip(chunks, vectors, strict=True)
        ],
        ignore_conflicts=True,
    )
    _finish_batch(batch)
    return {"document_id": str(batch.document_id), "first": batch.first, "last": batch.last}


def _finish_batch(batch: EmbeddingBatch) -> None:
    if not work.advance(batch, status=BatchStatus.DONE, lease_expires_at=None):
        return
    # The UPDATE locks the document: of two last batches the second sees the first one's count.
    if _documents(batch).update(batches_done=F("batches_done") + 1):
        document = Document.objects.get(pk=batch.document_id)
        if document.batches_done == document.batches_total:
            _finish_document(document)


def _finish_document(document: Document) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nooble_index_document(%s, %s)", [document.space_id, document.pk])
    Document.objects.filter(pk=document.pk).update(status=DocumentStatus.READY, finished_at=Now())


def _advance(ctx: ExecutionContext, document: Document, **values: Any) -> None:
    with unit_of_work(ctx):
        if not work.advance(document, **values):
            raise work.LeaseLostError("Another worker has taken the document over.")


def _fail_document(ctx: ExecutionContext, document: Document, error: NoobleError) -> None:
    with unit_of_work(ctx):
        failed = work.advance(
            document,
            status=DocumentStatus.FAILED,
            error_code=error.reason,
            error_detail=error.detail,
            lease_expires_at=None,
            finished_at=Now(),
        )
        if failed:
            work.bury(document, error)


def _fail_batch(ctx: ExecutionContext, batch: EmbeddingBatch, error: NoobleError) -> None:
    """Fail the batch and its document. What was embedded is kept, unseen, so that trying again does not pay for it."""
    with unit_of_work(ctx):
        if not work.advance(batch, status=BatchStatus.FAILED, lease_expires_at=None):
            return
        _documents(batch).update(
            status=DocumentStatus.FAILED, error_code=error.reason, error_detail=error.detail, finished_at=Now()
        )
        operations.abandon(ctx, error, charge=_charge(batch.document, batch))
        work.bury(batch, error)


def _documents(batch: EmbeddingBatch) -> models.QuerySet[Document]:
    return Document.objects.filter(pk=batch.document_id, status=DocumentStatus.EMBEDDING)
