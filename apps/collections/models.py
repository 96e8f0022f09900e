"""Collections of documents, the space their vectors live in, and the chunks that are searched.

Foreign keys are composite in the database, (tenant, id), and cascade there; Django only reads along them.
"""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from pgvector.django import HalfVectorField, SparseVectorField

from apps.collections.types import BatchStatus, DocumentStatus, SpaceState
from apps.core.ids import new_id
from apps.core.references import reference
from apps.core.work import WorkItem, work_indexes

#: Hashed stems: see ``migrations/sql``.
TERM_DIMENSIONS = 1 << 28


class Collection(models.Model):
    """Documents that are searched together."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant_id = models.UUIDField(editable=False)
    slug = models.SlugField(max_length=63)
    name = models.CharField(max_length=200)
    #: Decides how words are reduced to stems; ``simple`` keeps them as they are.
    language = models.CharField(max_length=32, default="english")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["tenant_id", "slug"], name="one_collection_per_slug")]

    def __str__(self) -> str:
        return self.name


class EmbeddingSpace(models.Model):
    """One way of embedding a collection. A vector is only ever compared with vectors of its own space."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant_id = models.UUIDField(editable=False)
    collection = reference(Collection, related_name="spaces")
    provider = models.CharField(max_length=64)
    model = models.CharField(max_length=128)
    dimensions = models.PositiveIntegerField()
    chunk_size = models.PositiveIntegerField()
    chunk_overlap = models.PositiveIntegerField()
    text_search_config = models.CharField(max_length=32, default="english")
    state = models.CharField(max_length=16, choices=SpaceState.choices, default=SpaceState.LIVE)
    #: What BM25 needs to know of the whole: kept by the database functions that index a document.
    chunks = models.PositiveBigIntegerField(default=0, editable=False)
    lexemes = models.PositiveBigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["collection"], name="one_live_space", condition=Q(state="live")),
            models.UniqueConstraint(fields=["collection"], name="one_building_space", condition=Q(state="building")),
        ]

    def __str__(self) -> str:
        return f"{self.provider}/{self.model} ({self.dimensions})"


class Document(WorkItem):
    """A file or text of a collection, on its way from upload to ``ready``."""

    task_name = "ingestion.chunk"
    patient = True
    #: While it is embedded, its batches are the work; the last of them finishes it.
    unfinished: ClassVar[frozenset[str]] = frozenset(
        {DocumentStatus.PENDING, DocumentStatus.PARSING, DocumentStatus.CHUNKING}
    )

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant_id = models.UUIDField(editable=False)
    collection = reference(Collection, related_name="documents", db_index=False)
    space = reference(EmbeddingSpace, related_name="documents")
    name = models.CharField(max_length=255)
    content_type = models.CharField(max_length=128, blank=True)
    size_bytes = models.PositiveBigIntegerField()
    #: SHA-256 of the bytes that were uploaded: the same content is in a collection once.
    content_hash = models.CharField(max_length=64)
    storage_key = models.CharField(max_length=255, editable=False)
    status = models.CharField(max_length=16, choices=DocumentStatus.choices, default=DocumentStatus.PENDING)
    batches_total = models.PositiveIntegerField(default=0)
    batches_done = models.PositiveIntegerField(default=0)
    chunk_count = models.PositiveIntegerField(default=0)
    token_count = models.PositiveBigIntegerField(default=0)
    page_count = models.PositiveIntegerField(null=True)
    error_code = models.CharField(max_length=64, blank=True, default="")
    error_detail = models.TextField(blank=True, default="")
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    finished_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["collection", "content_hash"], name="one_document_per_content"),
            models.CheckConstraint(condition=Q(status__in=DocumentStatus.values), name="document_status"),
        ]
        indexes = [
            # Serves a collection's list, newest first.
            models.Index(fields=["collection", "-id"], name="document_of_collection"),
            *work_indexes("document", Q(status__in=["pending", "parsing", "chunking"])),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def progress(self) -> float:
        """Between 0 and 1. Reading and cutting count as a tenth, embedding as the rest.

        It does not fall while the document is worked on: reading once more counts as cutting, and what was embedded
        before a failure is kept. Of one that is tried again it can, where batches that failed are cut anew.
        """
        if self.status == DocumentStatus.READY:
            return 1.0
        if self.batches_total:
            return round(0.1 + 0.9 * self.batches_done / self.batches_total, 3)
        return 0.05 if self.status in {DocumentStatus.PARSING, DocumentStatus.CHUNKING} else 0.0


class EmbeddingBatch(WorkItem):
    """The chunks of a document that are embedded in one call: ordinals ``first`` to ``last``, both included."""

    task_name = "embedding.embed_batch"
    patient = True
    unfinished: ClassVar[frozenset[str]] = frozenset({BatchStatus.PENDING})

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant_id = models.UUIDField(editable=False)
    document = reference(Document, related_name="batches", db_index=False)
    ordinal = models.PositiveIntegerField()
    first = models.PositiveIntegerField()
    last = models.PositiveIntegerField()
    status = models.CharField(max_length=16, choices=BatchStatus.choices, default=BatchStatus.PENDING)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "embedding batches"
        constraints = [
            models.UniqueConstraint(fields=["document", "ordinal"], name="one_batch_per_ordinal"),
            models.CheckConstraint(condition=Q(status__in=BatchStatus.values), name="batch_status"),
        ]
        indexes = work_indexes("batch", Q(status="pending"))

    def __str__(self) -> str:
        return f"batch {self.ordinal} of {self.document_id}"


class Chunk(models.Model):
    """A piece of a document, as it is cited. What is searched stands in narrow tables beside it."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant_id = models.UUIDField(editable=False)
    space = reference(EmbeddingSpace, related_name="chunk_rows", db_index=False)
    document = reference(Document, related_name="chunk_rows", db_index=False)
    ordinal = models.PositiveIntegerField()
    text = models.TextField()
    #: The page on which it begins; null where the format has no pages.
    page = models.PositiveIntegerField(null=True)
    #: The headings above it, outermost first: ``Guide > Install``.
    heading = models.TextField(blank=True, default="")
    tokens = models.PositiveIntegerField()

    class Meta:
        ordering = ["document", "ordinal"]
        constraints = [models.UniqueConstraint(fields=["document", "ordinal"], name="one_chunk_per_ordinal")]

    def __str__(self) -> str:
        return f"chunk {self.ordinal} of {self.document_id}"

    @property
    def searched_text(self) -> str:
        """What is embedded: the headings say what a piece is about when the piece itself does not."""
        return f"{self.heading}\n{self.text}" if self.heading else self.text

    @property
    def searched_tokens(self) -> int:
        """The tokens of that, rather too many than too few: the headings' are as many as they have bytes."""
        return self.tokens + len(self.heading.encode()) + 1


class ChunkEmbedding(models.Model):
    """A chunk's vector. The column has no fixed length: a space has, and the gateway checks it."""

    chunk = models.OneToOneField(
        Chunk, on_delete=models.DO_NOTHING, db_constraint=False, primary_key=True, related_name="embedding"
    )
    tenant_id = models.UUIDField(editable=False)
    space = reference(EmbeddingSpace, related_name="+", db_index=False)
    document = reference(Document, related_name="+", db_index=False)
    embedding = HalfVectorField()

    class Meta:
        ordering = ["chunk"]
        # Serves the exact scan of a space, and what is done with one document of it.
        indexes = [models.Index(fields=["space", "document"], name="embedding_of_space")]

    def __str__(self) -> str:
        return f"vector of {self.chunk_id}"


class ChunkTerms(models.Model):
    """A chunk's words as BM25 weighs them. Narrow on purpose: a lexical search scans it."""

    chunk = models.OneToOneField(
        Chunk, on_delete=models.DO_NOTHING, db_constraint=False, primary_key=True, related_name="terms"
    )
    tenant_id = models.UUIDField(editable=False)
    space = reference(EmbeddingSpace, related_name="+", db_index=False)
    document = reference(Document, related_name="+", db_index=False)
    terms = SparseVectorField(dimensions=TERM_DIMENSIONS)

    class Meta:
        ordering = ["chunk"]
        # Serves the exact scan of a space, and what is done with one document of it.
        indexes = [models.Index(fields=["space", "document"], name="terms_of_space")]
        verbose_name_plural = "chunk terms"

    def __str__(self) -> str:
        return f"terms of {self.chunk_id}"


class TermStatistic(models.Model):
    """In how many chunks of a space a stem occurs."""

    tenant_id = models.UUIDField(editable=False)
    space = reference(EmbeddingSpace, related_name="+", db_index=False)
    term = models.IntegerField()
    chunks = models.PositiveIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["space", "term"], name="one_statistic_per_term")]

    def __str__(self) -> str:
        return f"term {self.term}"
