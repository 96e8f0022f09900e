from typing import Any, get_args

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.collections.api import examples
from apps.collections.models import Chunk, Collection, Document, EmbeddingSpace
from apps.collections.types import DocumentStatus, Mode
from apps.core.api.fields import FailureField, MetadataField, number_field
from apps.core.api.schema import example
from apps.gateway.types import TokenSource

MAX_QUESTION_CHARACTERS = 20_000
MAX_NAME_CHARACTERS = 255


class EmbeddingRequestSerializer(serializers.Serializer[Any]):
    """What embeds the documents; what is left out is the tier's or the deployment's."""

    provider = serializers.CharField(max_length=64, required=False)
    model = serializers.CharField(max_length=128, required=False)
    dimensions = number_field("embedding_config.dimensions", required=False)


class EmbeddingSerializer(serializers.Serializer[Any]):
    """What embeds the documents, and the questions that are put to them."""

    provider = serializers.CharField()
    model = serializers.CharField()
    dimensions = serializers.IntegerField()


@example(examples.COLLECTION_REQUEST)
class CollectionRequestSerializer(serializers.Serializer[Any]):
    """A new collection; what is left out comes from the tenant's tier, then from the deployment."""

    slug = serializers.SlugField(max_length=63)
    name = serializers.CharField(max_length=200)
    language = serializers.CharField(max_length=32, default="english")
    embedding = EmbeddingRequestSerializer(required=False)
    chunk_size = number_field("processing_config.chunk_size", required=False)
    chunk_overlap = number_field("processing_config.chunk_overlap", required=False)


@example(examples.COLLECTION_CHANGE)
class CollectionChangeSerializer(serializers.Serializer[Any]):
    """A collection's new name."""

    name = serializers.CharField(max_length=200)


@example(examples.COLLECTION)
class CollectionSerializer(serializers.Serializer[Any]):
    """A collection as the API shows it."""

    id = serializers.UUIDField()
    slug = serializers.CharField()
    name = serializers.CharField()
    language = serializers.CharField()
    embedding = EmbeddingSerializer()
    chunk_size = serializers.IntegerField()
    chunk_overlap = serializers.IntegerField()
    documents = serializers.IntegerField()
    chunks = serializers.IntegerField()
    status = serializers.ChoiceField(choices=["empty", "working", "ready"])
    created_at = serializers.DateTimeField()


@example(examples.DOCUMENT_TEXT)
class DocumentTextSerializer(serializers.Serializer[Any]):
    """A document given as text."""

    name = serializers.CharField(max_length=MAX_NAME_CHARACTERS)
    text = serializers.CharField(trim_whitespace=False, allow_blank=True)
    metadata = MetadataField(default=dict)


@extend_schema_field(OpenApiTypes.BINARY)
class UploadField(serializers.FileField):
    """A file that comes in; the schema would take DRF's own for one that goes out, by its address."""


@example(examples.DOCUMENT_FILE, media_type="multipart/form-data")
class DocumentFileSerializer(serializers.Serializer[Any]):
    """A document given as a file (multipart)."""

    file = UploadField(allow_empty_file=True, max_length=MAX_NAME_CHARACTERS)
    name = serializers.CharField(max_length=MAX_NAME_CHARACTERS, required=False)
    metadata = MetadataField(default=dict)


@example(examples.DOCUMENT)
class DocumentSerializer(serializers.ModelSerializer[Document]):
    """A file or text of a collection, on its way to being searched."""

    collection_id = serializers.UUIDField()
    chunks = serializers.IntegerField(source="chunk_count")
    tokens = serializers.IntegerField(source="token_count")
    pages = serializers.IntegerField(source="page_count", allow_null=True)
    progress = serializers.FloatField(min_value=0, max_value=1)
    error = FailureField()
    metadata = MetadataField(read_only=True)

    class Meta:
        model = Document
        fields = [
            "id",
            "collection_id",
            "name",
            "content_type",
            "size_bytes",
            "content_hash",
            "status",
            "progress",
            "error",
            "chunks",
            "tokens",
            "pages",
            "metadata",
            "task_id",
            "created_at",
        ]
        read_only_fields = fields


@example(examples.CHUNK)
class ChunkSerializer(serializers.ModelSerializer[Chunk]):
    """A piece of a document."""

    class Meta:
        model = Chunk
        fields = ["id", "ordinal", "text", "page", "heading", "tokens"]
        read_only_fields = fields


@example(examples.SEARCH_REQUEST)
class SearchRequestSerializer(serializers.Serializer[Any]):
    """What to look for; limit and threshold default to the tenant's tier."""

    query = serializers.CharField(max_length=MAX_QUESTION_CHARACTERS)
    limit = number_field("rag_config.max_results", required=False)
    similarity_threshold = number_field("rag_config.similarity_threshold", required=False)
    mode = serializers.ChoiceField(choices=get_args(Mode), default="hybrid")


class HitSerializer(serializers.Serializer[Any]):
    """A passage that was found. A score is null in a mode that does not make it."""

    chunk_id = serializers.UUIDField()
    document_id = serializers.UUIDField()
    document_name = serializers.CharField()
    text = serializers.CharField()
    page = serializers.IntegerField(allow_null=True)
    heading = serializers.CharField()
    score = serializers.FloatField()
    vector_score = serializers.FloatField(allow_null=True)
    lexical_score = serializers.FloatField(allow_null=True)


class SearchUsageSerializer(serializers.Serializer[Any]):
    """What embedding the question used."""

    embedding_tokens = serializers.IntegerField()
    token_source = serializers.ChoiceField(choices=TokenSource.choices)


@example(examples.SEARCH_RESULT)
class SearchResultSerializer(serializers.Serializer[Any]):
    """What was found, best first."""

    results = HitSerializer(many=True)
    usage = SearchUsageSerializer()


def present_collection(collection: Collection, space: EmbeddingSpace, counts: dict[str, int]) -> dict[str, Any]:
    """A collection in the shape of the API. ``counts``: documents by status."""
    documents = sum(counts.values())
    finished = counts.get(DocumentStatus.READY, 0) + counts.get(DocumentStatus.FAILED, 0)
    status = "empty" if not documents else "ready" if finished == documents else "working"
    return dict(
        CollectionSerializer(
            {
                "id": collection.pk,
                "slug": collection.slug,
                "name": collection.name,
                "language": collection.language,
                "embedding": {"provider": space.provider, "model": space.model, "dimensions": space.dimensions},
                "chunk_size": space.chunk_size,
                "chunk_overlap": space.chunk_overlap,
                "documents": documents,
                "chunks": space.chunks,
                "status": status,
                "created_at": collection.created_at,
            }
        ).data
    )


def settings_of(wanted: dict[str, Any]) -> dict[str, Any]:
    """A collection request's settings by their dotted names."""
    embedding = {f"embedding_config.{name}": value for name, value in wanted.pop("embedding", {}).items()}
    names = ("chunk_size", "chunk_overlap")
    return embedding | {f"processing_config.{name}": wanted.pop(name) for name in names if name in wanted}


def search_settings_of(wanted: dict[str, Any]) -> dict[str, Any]:
    """A search request's settings by their dotted names."""
    names = {"limit": "rag_config.max_results", "similarity_threshold": "rag_config.similarity_threshold"}
    return {setting: wanted[name] for name, setting in names.items() if name in wanted}
