"""What can be done with collections."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.core.files.storage import default_storage
from django.db import IntegrityError, transaction

from apps.collections.errors import CollectionNotFoundError, EmbeddingSpaceMismatchError, LanguageUnknownError
from apps.collections.models import Collection, Document, EmbeddingSpace
from apps.collections.types import SpaceState
from apps.core import configuration
from apps.core.configuration import Level, Resolved
from apps.core.context import CollectionConfig, EmbeddingConfig, ExecutionContext, ProcessingConfig
from apps.core.db import unit_of_work
from apps.core.errors import SlugTakenError
from apps.core.ids import new_id
from apps.providers import choices, tokens

#: PostgreSQL's built-in text search configurations; ``simple`` leaves words as they are.
LANGUAGES = frozenset(
    (
        *("arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "estonian", "finnish", "french"),
        *("german", "greek", "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian", "nepali"),
        *("norwegian", "portuguese", "romanian", "russian", "serbian", "simple", "spanish", "swedish", "tamil"),
        *("turkish", "yiddish"),
    )
)


def create_collection(
    ctx: ExecutionContext,
    *,
    slug: str,
    name: str,
    language: str = "english",
    settings: Mapping[str, Any],
    tier_defaults: Mapping[str, Any],
    models_allowed: Sequence[str] = (),
) -> Collection:
    """A new, empty collection with its live space.

    ``settings`` are the request's, by dotted name; ``models_allowed`` are the plan's.
    """
    if language not in LANGUAGES:
        raise LanguageUnknownError(f"Use one of: {', '.join(sorted(LANGUAGES))}.")
    resolved = configuration.resolve(
        {
            Level.REQUEST: configuration.check(settings, level=Level.REQUEST),
            Level.TIER: configuration.check(tier_defaults, level=Level.TIER),
        }
    )
    choices.require_embedding(resolved, allowed=models_allowed)
    embedding, processing = resolved.section("embedding_config"), resolved.section("processing_config")
    chunk_size = _chunk_size(processing, provider=embedding["provider"], model=embedding["model"])
    with unit_of_work(ctx):
        collection = _insert(ctx, slug=slug, name=name, language=language)
        EmbeddingSpace.objects.create(
            tenant_id=ctx.tenant_id,
            collection=collection,
            chunk_size=chunk_size,
            chunk_overlap=min(processing["chunk_overlap"], chunk_size // 2),
            text_search_config=language,
            state=SpaceState.LIVE,
            **embedding,
        )
    return collection


def rename_collection(ctx: ExecutionContext, collection_id: UUID, *, name: str) -> Collection:
    with unit_of_work(ctx):
        collection = get_collection(ctx, collection_id, lock=True)
        collection.name = name
        collection.save(update_fields=["name"])
    return collection


def delete_collection(ctx: ExecutionContext, collection_id: UUID) -> None:
    """Delete the collection with all its documents, vectors and files. What it cost stays in the ledger."""
    with unit_of_work(ctx):
        collection = get_collection(ctx, collection_id)
        # The documents first, as indexing locks them; only then what hangs on the collection.
        rows = Document.objects.filter(collection=collection).order_by("pk").select_for_update(no_key=True)
        keys = list(rows.values_list("storage_key", flat=True))
        collection.delete()
        transaction.on_commit(lambda: delete_files(keys))


def get_collection(ctx: ExecutionContext, collection_id: UUID, *, lock: bool = False) -> Collection:
    """The collection, if the context's owner has it. The caller is in the context's unit of work."""
    rows = Collection.objects.filter(pk=collection_id, tenant_id=ctx.owner_tenant_id)
    collection = (rows.select_for_update(no_key=True) if lock else rows).first()
    if collection is None:
        raise CollectionNotFoundError(f"There is no collection {collection_id}, or it is not yours.")
    return collection


def live_spaces(ctx: ExecutionContext, collection_ids: list[UUID]) -> list[EmbeddingSpace]:
    """The live space of each collection, in the given order. The caller is in the context's unit of work."""
    rows = EmbeddingSpace.objects.filter(
        collection__in=collection_ids, tenant_id=ctx.owner_tenant_id, state=SpaceState.LIVE
    )
    spaces = {space.collection_id: space for space in rows}
    missing = [str(collection_id) for collection_id in collection_ids if collection_id not in spaces]
    if missing:
        raise CollectionNotFoundError(f"There is no collection {missing[0]}, or it is not yours.")
    return [spaces[collection_id] for collection_id in dict.fromkeys(collection_ids)]


def require_spaces(spaces: Iterable[EmbeddingSpace], wanted: Mapping[str, Any]) -> None:
    """Refuse vectors of another space than the collections'; raises EmbeddingSpaceMismatchError.

    ``wanted`` is what a request asks for, by dotted name of the setting; what it leaves out is the collection's.
    """
    for space in spaces:
        own = embedding_config(space).model_dump(include={"provider", "model", "dimensions"})
        asked = own | {name.removeprefix("embedding_config."): value for name, value in wanted.items()}
        if asked != own:
            raise EmbeddingSpaceMismatchError(
                f"The collection {space.collection_id} is embedded with {own['provider']}'s {own['model']} in "
                f"{own['dimensions']} dimensions. Leave the headers X-Embedding-* out: its own are used.",
                collection_id=str(space.collection_id),
                collection_space=own,
                requested_space=asked,
            )


def embedding_config(space: EmbeddingSpace) -> EmbeddingConfig:
    """How everything that is compared with this space's vectors is embedded."""
    return EmbeddingConfig(provider=space.provider, model=space.model, dimensions=space.dimensions)


def collection_config(space: EmbeddingSpace) -> CollectionConfig:
    return CollectionConfig(
        collection_id=space.collection_id,
        space_id=space.pk,
        created_with_model=space.model,
        expected_dimensions=space.dimensions,
    )


def processing_config(space: EmbeddingSpace, resolved: Resolved) -> ProcessingConfig:
    """How documents are taken in: cut as the request says, else as the space does; everything else as resolved."""
    values = resolved.section("processing_config")
    asked = resolved.sources["processing_config.chunk_size"] == Level.REQUEST
    size = _chunk_size(values, provider=space.provider, model=space.model) if asked else space.chunk_size
    cut = {"chunk_size": size, "chunk_overlap": min(space.chunk_overlap, size // 2)}
    return ProcessingConfig(**{**values, **cut})


def delete_files(keys: list[str]) -> None:
    for key in keys:
        default_storage.delete(key)


def _chunk_size(processing: Mapping[str, Any], *, provider: str, model: str) -> int:
    """The size of chunks that was asked for, brought down to what a chunk may have and the model surely takes."""
    longest = tokens.longest_text(provider=provider, model=model)
    sizes: list[int] = [processing["chunk_size"], processing["max_text_length"], *([longest] if longest else [])]
    return min(sizes)


def _insert(ctx: ExecutionContext, **fields: Any) -> Collection:
    try:
        with transaction.atomic():
            return Collection.objects.create(id=new_id(), tenant_id=ctx.tenant_id, **fields)
    except IntegrityError as error:
        raise SlugTakenError(f"You have a collection “{fields['slug']}” already. Choose another slug.") from error
