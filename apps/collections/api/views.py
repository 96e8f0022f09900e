import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from apps.collections import contexts, documents, retrieval, services
from apps.collections.api.serializers import (
    ChunkSerializer,
    CollectionChangeSerializer,
    CollectionRequestSerializer,
    CollectionSerializer,
    DocumentFileSerializer,
    DocumentSerializer,
    DocumentTextSerializer,
    HitSerializer,
    SearchRequestSerializer,
    SearchResultSerializer,
    present_collection,
    search_settings_of,
    settings_of,
)
from apps.collections.documents import Upload
from apps.collections.errors import (
    ChunkSizeMismatchError,
    CollectionNotFoundError,
    DocumentNotFoundError,
    EmbeddingSpaceMismatchError,
    EmptyDocumentError,
    LanguageUnknownError,
    NotRetriableError,
)
from apps.collections.models import Chunk, Collection, Document
from apps.core import headers
from apps.core.api import idempotency
from apps.core.api.parsers import JSONParser
from apps.core.api.schema import raises
from apps.core.configuration import InvalidSettingError
from apps.core.errors import PreferenceConflictError, SlugTakenError
from apps.gateway import errors as gateway
from apps.gateway.types import Charge, OperationKind, TokenType
from apps.providers import choices
from apps.providers.errors import UnsupportedDimensionsError
from apps.tenants import entry
from apps.tenants.api.base import TenantViewSet, in_unit_of_work
from apps.tenants.types import Scope

_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+", re.ASCII)


class CollectionViewSet(TenantViewSet):
    """Collections of documents."""

    scope = Scope.MANAGE
    queryset = Collection.objects.all()
    serializer_class = CollectionSerializer

    @in_unit_of_work
    def list(self, request: Request) -> Response:
        """List the collections, newest first. With how many documents and chunks each of them has."""
        return self.page(self.get_queryset(), self._present)

    @raises(
        SlugTakenError, LanguageUnknownError, UnsupportedDimensionsError, PreferenceConflictError, *choices.REFUSALS
    )
    @extend_schema(
        request=CollectionRequestSerializer,
        responses={201: CollectionSerializer},
        parameters=headers.parameters((*headers.EMBEDDING, "X-RAG-Chunk-Size")),
    )
    def create(self, request: Request) -> Response:
        """Create a collection. How it is embedded and cut stays as it is chosen here."""
        wanted = self.accepted(CollectionRequestSerializer)
        return self.once(lambda: self._create(wanted))

    @raises(CollectionNotFoundError)
    @in_unit_of_work
    def retrieve(self, request: Request, pk: UUID) -> Response:
        """Show a collection. Its status is `working` while one of its documents is."""
        return Response(self._present([services.get_collection(self.ctx, pk)])[0])

    @raises(CollectionNotFoundError)
    @extend_schema(request=CollectionChangeSerializer)
    @in_unit_of_work
    def partial_update(self, request: Request, pk: UUID) -> Response:
        """Rename a collection. The slug stays."""
        collection = services.rename_collection(self.ctx, pk, **self.accepted(CollectionChangeSerializer))
        return Response(self._present([collection])[0])

    @raises(CollectionNotFoundError)
    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: UUID) -> Response:
        """Delete a collection with all its documents. What it cost stays in the ledger."""
        services.delete_collection(self.ctx, pk)
        return Response(status=204)

    @raises(
        CollectionNotFoundError,
        EmbeddingSpaceMismatchError,
        InvalidSettingError,
        PreferenceConflictError,
        *gateway.PURCHASE_ERRORS,
    )
    @extend_schema(
        request=SearchRequestSerializer,
        responses=SearchResultSerializer,
        parameters=headers.parameters(
            ("X-Collection-ID", "X-RAG-Similarity-Threshold", "X-RAG-Results-Limit", *headers.EMBEDDING)
        ),
    )
    @action(detail=True, methods=["post"], scope=Scope.CHAT)
    def search(self, request: Request, pk: UUID) -> Response:
        """Search a collection by meaning and words. Embedding the question is booked as `vector_search`."""
        wanted = self.accepted(SearchRequestSerializer)
        return idempotency.announced(self.ctx, request, lambda arrived: self._search(pk, wanted, arrived))

    def _create(self, wanted: dict[str, Any]) -> Response:
        who = entry.principal(self.request)
        collection = services.create_collection(
            self.ctx,
            settings=contexts.collection_settings(self.request, settings_of(wanted)),
            tier_defaults=who.tier_defaults,
            models_allowed=who.limits.models_allowed,
            **wanted,
        )
        collection.refresh_from_db()
        return Response(self._present([collection])[0], status=201)

    def _search(self, pk: UUID, wanted: dict[str, Any], arrived: datetime) -> Response:
        asked = contexts.search(self.request, pk, search_settings_of(wanted), created_at=arrived)
        found = retrieval.retrieve(
            asked.ctx,
            wanted["query"],
            collections=[pk],
            limit=asked.limit,
            similarity_threshold=asked.similarity_threshold,
            mode=wanted["mode"],
            charge=Charge(
                operation=OperationKind.VECTOR_SEARCH,
                token_type=TokenType.EMBEDDING,
                payload={"query": wanted["query"], "collection": pk},
                collection_id=pk,
                metadata={"strategy": wanted["mode"], "service": "search"},
            ),
        )
        usage = {"embedding_tokens": found.counts.total_tokens, "token_source": found.counts.source}
        return Response({"results": HitSerializer(found.hits, many=True).data, "usage": usage})

    def _present(self, rows: Sequence[Collection]) -> Sequence[dict[str, Any]]:
        """The collections with their live spaces and document counts, in two queries however many they are."""
        if not rows:
            return []
        ids = [row.pk for row in rows]
        spaces = {space.collection_id: space for space in services.live_spaces(self.ctx, ids)}
        counts: dict[UUID, dict[str, int]] = defaultdict(dict)
        grouped = Document.objects.filter(collection__in=ids).order_by().values("collection_id", "status")
        for group in grouped.annotate(number=Count("id")):
            counts[group["collection_id"]][group["status"]] = group["number"]
        return [present_collection(row, spaces[row.pk], counts[row.pk]) for row in rows]


class CollectionDocumentViewSet(TenantViewSet):
    """The documents of a collection."""

    scope = Scope.MANAGE
    parser_classes = [JSONParser, MultiPartParser]
    queryset = Document.objects.all()
    serializer_class = DocumentSerializer

    @raises(CollectionNotFoundError)
    @in_unit_of_work
    def list(self, request: Request, collection_id: UUID) -> Response:
        """List a collection's documents, newest first. With how far each of them is."""
        services.get_collection(self.ctx, collection_id)
        rows = self.get_queryset().filter(collection=collection_id).defer("signed_context")
        return self.page(rows, lambda found: DocumentSerializer(found, many=True).data)

    @raises(
        ChunkSizeMismatchError,
        CollectionNotFoundError,
        EmbeddingSpaceMismatchError,
        EmptyDocumentError,
        PreferenceConflictError,
    )
    @extend_schema(
        request={"multipart/form-data": DocumentFileSerializer, "application/json": DocumentTextSerializer},
        responses={200: DocumentSerializer, 202: DocumentSerializer},
        parameters=headers.parameters(("X-Collection-ID", *headers.EMBEDDING, "X-RAG-Chunk-Size")),
    )
    def create(self, request: Request, collection_id: UUID) -> Response:
        """Add a document, as a file or as text. 202: work on it has begun; 200: the collection had the same content."""
        upload = self._upload()
        return self.once(lambda: self._add(collection_id, upload))

    def _upload(self) -> Upload:
        if "file" in self.request.FILES:
            form = self.accepted(DocumentFileSerializer)
            file = form["file"]
            return Upload(
                name=form.get("name") or file.name,
                data=file.read(),
                content_type=_media_type(file.content_type or ""),
                metadata=form["metadata"],
            )
        text = self.accepted(DocumentTextSerializer)
        return Upload(
            name=text["name"], data=text["text"].encode(), content_type="text/markdown", metadata=text["metadata"]
        )

    def _add(self, collection_id: UUID, upload: Upload) -> Response:
        who = entry.principal(self.request)
        added = documents.add_document(
            entry.context(self.request, context_type="ingestion"),
            collection_id,
            upload,
            max_bytes=who.limits.max_upload_bytes,
            tier_defaults=who.tier_defaults,
            requested=contexts.upload_settings(self.request, collection_id),
        )
        return Response(DocumentSerializer(added.document).data, status=202 if added.created else 200)


class DocumentViewSet(TenantViewSet):
    """A document, wherever it is."""

    scope = Scope.MANAGE
    queryset = Document.objects.all()
    serializer_class = DocumentSerializer

    @raises(DocumentNotFoundError)
    @in_unit_of_work
    def retrieve(self, request: Request, pk: UUID) -> Response:
        """Show a document. How far it is, or why it failed."""
        return Response(DocumentSerializer(documents.get_document(self.ctx, pk)).data)

    @raises(DocumentNotFoundError)
    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: UUID) -> Response:
        """Delete a document with its chunks and vectors. What it cost stays in the ledger."""
        documents.delete_document(self.ctx, pk)
        return Response(status=204)

    @raises(DocumentNotFoundError)
    @extend_schema(responses=ChunkSerializer(many=True))
    @action(detail=True, ordering="id")
    @in_unit_of_work
    def chunks(self, request: Request, pk: UUID) -> Response:
        """List a document's chunks. The pieces that are searched and cited, as they lie in the document."""
        documents.get_document(self.ctx, pk)
        rows = Chunk.objects.filter(document=pk)
        return self.page(rows, lambda found: ChunkSerializer(found, many=True).data)

    @raises(DocumentNotFoundError, NotRetriableError)
    @extend_schema(request=None, responses={202: DocumentSerializer})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: UUID) -> Response:
        """Try a failed document again. What was embedded is not paid for twice."""
        return self.once(lambda: Response(DocumentSerializer(self._retry(pk)).data, status=202))

    def _retry(self, pk: UUID) -> Document:
        tier_defaults = entry.principal(self.request).tier_defaults
        return documents.retry_document(self.ctx, pk, tier_defaults=tier_defaults)


def _media_type(text: str) -> str:
    """What the client says that a file is; nothing, where its header says no such thing. The content decides anyway."""
    return text if _MEDIA_TYPE.fullmatch(text) else ""
