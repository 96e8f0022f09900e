"""Documents enter, are tried again, and leave."""

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import IntegrityError, connection, transaction
from psycopg.errors import ForeignKeyViolation

from apps.collections import batching, services
from apps.collections.errors import (
    ChunkSizeMismatchError,
    CollectionNotFoundError,
    DocumentNotFoundError,
    EmptyDocumentError,
    NotRetriableError,
)
from apps.collections.models import Document, EmbeddingBatch, EmbeddingSpace
from apps.collections.types import BatchStatus, DocumentStatus
from apps.core import clock, configuration, publication
from apps.core.configuration import Level, Resolved
from apps.core.context import ContextRefusedError, ExecutionContext
from apps.core.db import unit_of_work
from apps.core.errors import TooLargeError
from apps.core.ids import new_id

#: How long work on a document may take before its calls count as late; it is renewed with every delivery.
INGESTION_SECONDS = 900

#: What says how a document is embedded, besides its collection.
_DECIDED = ("processing_config.batch_size", "processing_config.timeout_seconds", "processing_config.retry_attempts")
_CHUNK_SIZE = "processing_config.chunk_size"


@dataclass(frozen=True, kw_only=True)
class Upload:
    """What a client handed in."""

    name: str
    data: bytes
    content_type: str = ""
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Added:
    """``created`` is False when the collection had the same content already."""

    document: Document
    created: bool


def add_document(
    ctx: ExecutionContext,
    collection_id: UUID,
    upload: Upload,
    *,
    max_bytes: int,
    tier_defaults: Mapping[str, Any],
    requested: Mapping[str, Any] | None = None,
) -> Added:
    """Take in a document; its work begins when the transaction commits.

    ``requested`` are the request's settings, by dotted name: a size of chunks of its own, and an embedding, which must
    be the collection's. The same content is in a collection once: uploading it again returns the document that is
    there, and tries it again if it had failed. Raises ChunkSizeMismatchError for chunks of another size than it has.
    """
    _check_size(upload, max_bytes)
    content_hash = hashlib.sha256(upload.data).hexdigest()
    with unit_of_work(ctx):
        [space] = services.live_spaces(ctx, [collection_id])
        chunking = _chunking_of(space, requested or {})
        known = Document.objects.filter(collection_id=collection_id, content_hash=content_hash).first()
        if known is None:
            document = _insert(_ingestion_context(ctx, space, tier_defaults, chunking), space, upload, content_hash)
            if document is not None:
                return Added(document=document, created=True)
            # Somebody uploaded the same bytes at the same time and committed first: theirs is the document.
            known = Document.objects.filter(collection_id=collection_id, content_hash=content_hash).first()
            if known is None:
                raise DocumentNotFoundError("The same content came in meanwhile and was deleted. Upload it again.")
        if known.status == DocumentStatus.FAILED:
            known = retry_document(ctx, known.pk, tier_defaults=tier_defaults, chunking=chunking)
        else:
            _require_size(known, tier_defaults, chunking)
        return Added(document=known, created=False)


def retry_document(
    ctx: ExecutionContext,
    document_id: UUID,
    *,
    tier_defaults: Mapping[str, Any],
    chunking: Mapping[str, Any] | None = None,
) -> Document:
    """Try a failed document again. Batches that were embedded stay paid for and are not embedded again.

    Those that failed are cut anew, to what one call may hold now. ``chunking`` is what is asked for instead of what the
    upload asked for, as long as the document is not cut. Raises NotRetriableError, or ChunkSizeMismatchError.
    """
    with unit_of_work(ctx):
        # In the order in which embedding takes them: batches, then the document.
        batches = list(EmbeddingBatch.objects.filter(document=document_id).order_by("id").select_for_update())
        document = get_document(ctx, document_id, lock=True)
        if document.status != DocumentStatus.FAILED:
            raise NotRetriableError(f"The document is {document.status}.")
        if batches:
            _require_size(document, tier_defaults, chunking or {})
        asked = {**_asked_before(document), **(chunking or {})}
        context = _ingestion_context(ctx, document.space, tier_defaults, asked)
        document.signed_context = context.sign()
        document.error_code = document.error_detail = ""
        document.finished_at = None
        if batches:
            _restart_batches(document, batches, context)
        else:
            document.status = DocumentStatus.PENDING
            _restart(document)
        document.save()
        publication.admit(context, EmbeddingBatch if batches else Document)
    return document


def delete_document(ctx: ExecutionContext, document_id: UUID) -> None:
    """Delete a document with its chunks, vectors and file. What it cost stays in the ledger."""
    with unit_of_work(ctx):
        document = get_document(ctx, document_id, lock=True)
        with connection.cursor() as cursor:
            cursor.execute("SELECT nooble_unindex_document(%s, %s)", [document.space_id, document.pk])
        key = document.storage_key
        document.delete()
        transaction.on_commit(lambda: services.delete_files([key]))


def get_document(ctx: ExecutionContext, document_id: UUID, *, lock: bool = False) -> Document:
    """The document, if the context's owner has it. The caller is in the context's unit of work."""
    rows = Document.objects.select_related("space").filter(pk=document_id, tenant_id=ctx.owner_tenant_id)
    document = (rows.select_for_update(no_key=True, of=("self",)) if lock else rows).first()
    if document is None:
        raise DocumentNotFoundError(f"There is no document {document_id}, or it is not yours.")
    return document


def content(document: Document) -> bytes:
    """The bytes that were uploaded."""
    with default_storage.open(document.storage_key) as file:
        return bytes(file.read())


def _check_size(upload: Upload, max_bytes: int) -> None:
    if not upload.data.strip():
        raise EmptyDocumentError("The file is empty.")
    if len(upload.data) > max_bytes:
        raise TooLargeError(
            f"The document has {len(upload.data):,} bytes; your plan allows {max_bytes:,}. Split it.",
            limit_bytes=max_bytes,
        )


def _insert(ctx: ExecutionContext, space: EmbeddingSpace, upload: Upload, content_hash: str) -> Document | None:
    """The new document, in its ingestion's context, or None when the same content came in meanwhile."""
    document = Document(
        id=new_id(),
        tenant_id=ctx.tenant_id,
        collection_id=space.collection_id,
        space=space,
        name=upload.name,
        content_type=upload.content_type[:128],
        size_bytes=len(upload.data),
        content_hash=content_hash,
        metadata=upload.metadata or {},
        signed_context=ctx.sign(),
    )
    document.storage_key = f"documents/{ctx.tenant_id}/{document.id}"
    try:
        inserted = Document.objects.bulk_create([document], ignore_conflicts=True)
    except IntegrityError as error:
        if not isinstance(error.__cause__, ForeignKeyViolation):
            raise
        raise CollectionNotFoundError("The collection was deleted meanwhile.") from error
    row = Document.objects.filter(pk=inserted[0].pk).first()
    if row is None:
        return None
    # After the insert, which may lose; a crash before the commit leaves a file nobody names, never a row without one.
    default_storage.save(row.storage_key, ContentFile(upload.data))
    publication.admit(ctx, Document)
    return row


def _chunking_of(space: EmbeddingSpace, requested: Mapping[str, Any]) -> dict[str, Any]:
    """What the request says of the chunks; raises EmbeddingSpaceMismatchError for what it says of their vectors."""
    chunking = {name: value for name, value in requested.items() if name == _CHUNK_SIZE}
    services.require_spaces([space], {name: value for name, value in requested.items() if name not in chunking})
    return chunking


def _require_size(document: Document, tier_defaults: Mapping[str, Any], chunking: Mapping[str, Any]) -> None:
    """Refuse another size of chunks than the document has, or will have: its first upload has decided that."""
    if not chunking:
        return
    size = _size(document)
    wanted = services.processing_config(document.space, _resolved(tier_defaults, chunking)).chunk_size
    if wanted != size:
        raise ChunkSizeMismatchError(
            f"It is document {document.pk}, in chunks of {size} tokens, not of {wanted}. Leave X-RAG-Chunk-Size out, "
            "or delete the document and upload it again.",
            document_id=str(document.pk),
        )


def _size(document: Document) -> int:
    """How many tokens its chunks have at most, as the row's context remembers it, unless its key was thrown away."""
    with contextlib.suppress(ContextRefusedError):
        if document.context.processing_config:
            return document.context.processing_config.chunk_size
    size: int = document.space.chunk_size
    return size


def _asked_before(document: Document) -> dict[str, Any]:
    """What the upload said of the chunks, as the row's context remembers it, unless its key was thrown away."""
    with contextlib.suppress(ContextRefusedError):
        ctx = document.context
        if ctx.processing_config and ctx.config_sources.get(_CHUNK_SIZE) == Level.REQUEST:
            return {_CHUNK_SIZE: ctx.processing_config.chunk_size}
    return {}


def _ingestion_context(
    ctx: ExecutionContext, space: EmbeddingSpace, tier_defaults: Mapping[str, Any], requested: Mapping[str, Any]
) -> ExecutionContext:
    resolved = _resolved(tier_defaults, requested)
    # How it is cut was decided when the space was made, unless the request says: no lower level does.
    decided = [*_DECIDED, *requested]
    return ctx.model_copy(
        update={
            "context_id": new_id(),
            "context_type": "ingestion",
            # The moment idempotency keys are made of: trying again is new work under new keys.
            "created_at": clock.now(),
            "deadline": clock.now() + timedelta(seconds=INGESTION_SECONDS),
            "embedding_config": services.embedding_config(space),
            "collection_config": services.collection_config(space),
            "processing_config": services.processing_config(space, resolved),
            "config_sources": {name: resolved.sources[name] for name in decided},
        }
    )


def _resolved(tier_defaults: Mapping[str, Any], requested: Mapping[str, Any]) -> Resolved:
    tier = configuration.check(tier_defaults, level=Level.TIER)
    return configuration.resolve({Level.REQUEST: requested, Level.TIER: tier})


def _restart(item: Document | EmbeddingBatch) -> None:
    item.deliveries = item.publications = 0
    item.lease_expires_at = None
    item.available_at = clock.now()


def _restart_batches(document: Document, batches: Sequence[EmbeddingBatch], ctx: ExecutionContext) -> None:
    assert ctx.processing_config is not None
    added = batching.divide(document, batches, ctx.processing_config)
    unfinished = [*(batch for batch in batches if batch.status != BatchStatus.DONE), *added]
    document.status = DocumentStatus.EMBEDDING
    document.batches_total = len(batches) + len(added)
    document.batches_done = document.batches_total - len(unfinished)
    for batch in unfinished:
        batch.status = BatchStatus.PENDING
        batch.signed_context = document.signed_context
        _restart(batch)
        batch.save()
