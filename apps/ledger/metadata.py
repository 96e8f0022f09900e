"""What stands beside the numbers of an entry, by kind of operation.

nooble's own operations have the fields of the models below and no others: a name that nobody knows, or a number that
cannot be, is a mistake of ours and is refused before a call is paid for. What a client reports with usage from
elsewhere is the client's own and free in form; it is only kept small, flat and storable. An entry's ``operation_id``
tells the two apart: usage from elsewhere has none.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from apps.core.errors import FieldError
from apps.ledger.errors import InvalidMetadataError, InvalidUsageError
from apps.ledger.types import OperationKind, TokenType

#: What a client may say about one event.
MAX_CLIENT_BYTES = 8 * 1024
MAX_CLIENT_DEPTH = 8

Count = Annotated[int, Field(ge=0, strict=True)]
Average = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[\w.:@/+-]{1,64}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256, in hexadecimal.")]


class OperationMetadata(BaseModel):
    """What any operation may say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation_id: UUID | None = None
    operation_hash: Digest | None = Field(None, description="Of what identifies the request.")
    execution_time_ms: Count | None = Field(None, description="From the request to its answer.")
    service: Name | None = Field(None, description="The part of nooble that the work was done in, or for.")
    credential: Literal["tenant", "deployment"] | None = Field(
        None, description="Whose key the call was made with: the payer's own, or the deployment's."
    )
    resolved_by: Literal["lookup", "reconciliation"] | None = Field(
        None, description="How the outcome became known when its answer had not been seen."
    )


class GenerationMetadata(OperationMetadata):
    """A model's answer."""

    query_type: Name | None = None
    strategy: Name | None = Field(None, description="How the passages were found.")
    message_id: UUID | None = None
    tools_used: tuple[Name, ...] | None = None
    passages: Count | None = Field(None, description="How many the answer could rest on.")


class TextMetadata(OperationMetadata):
    """Texts that became vectors, one or a batch."""

    text_hash: Digest | None = Field(None, description="Of the texts, in their order.")
    characters: Count | None = Field(None, description="In all texts together.")
    characters_average: Average | None = None
    dimensions: Annotated[int, Field(ge=1, strict=True)] | None = None
    batch_size: Count | None = None
    successes: Count | None = None
    failures: Count | None = None

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        parts = (self.successes, self.failures)
        if self.batch_size is not None and None not in parts and self.batch_size != sum(part or 0 for part in parts):
            raise ValueError("successes and failures do not add up to batch_size")
        return self


class SearchMetadata(TextMetadata):
    """A question that became a vector."""

    query_type: Name | None = None
    strategy: Name | None = None


class InternalMetadata(TextMetadata):
    """Work of nooble's own: a document that was cut into chunks, texts that another service had embedded."""

    chunks: Count | None = None
    chunk_tokens_min: Count | None = None
    chunk_tokens_average: Average | None = None
    chunk_tokens_max: Count | None = None


_OF_VECTORS: Mapping[OperationKind, type[OperationMetadata]] = {
    OperationKind.QUERY: SearchMetadata,
    OperationKind.VECTOR_SEARCH: SearchMetadata,
    OperationKind.INTERNAL: InternalMetadata,
}


def model_of(operation: OperationKind, token_type: TokenType) -> type[OperationMetadata]:
    """The words that an operation of this kind has."""
    if token_type is TokenType.EMBEDDING:
        return _OF_VECTORS.get(operation, TextMetadata)
    return GenerationMetadata


def checked(operation: OperationKind, token_type: TokenType, values: Mapping[str, Any]) -> dict[str, Any]:
    """An operation's metadata as they are stored: JSON, without what is not known. Raises InvalidMetadataError."""
    try:
        found = model_of(operation, token_type).model_validate(dict(values))
    except ValidationError as error:
        fields = [
            FieldError(field=".".join(str(part) for part in each["loc"]), code=each["type"], detail=each["msg"])
            for each in error.errors(include_url=False, include_input=False)
        ]
        raise InvalidMetadataError(
            f"metadata of {operation}: {fields[0].field or fields[0].detail}", errors=fields
        ) from error
    return found.model_dump(mode="json", exclude_none=True)


def of_texts(texts: Sequence[str]) -> dict[str, Any]:
    """What metadata say of texts that are embedded together."""
    digest = hashlib.sha256()
    for text in texts:
        # Each with its length, so that no two lists of texts have one hash.
        encoded = text.encode(errors="surrogatepass")
        digest.update(b"%d:" % len(encoded) + encoded)
    characters = sum(map(len, texts))
    return {
        "text_hash": digest.hexdigest(),
        "characters": characters,
        "characters_average": round(characters / max(len(texts), 1), 1),
        "batch_size": len(texts),
    }


def check_client(values: Any) -> None:
    """Raise InvalidUsageError for what a client may not say of an event: no object, too deep, too large, no text."""
    if not isinstance(values, Mapping):
        raise InvalidUsageError("Metadata must be an object.")
    # Before anything that recurses.
    for depth, value in _walk(values):
        if depth > MAX_CLIENT_DEPTH:
            raise InvalidUsageError(f"Metadata may be nested {MAX_CLIENT_DEPTH} deep.")
        if isinstance(value, str) and "\0" in value:
            raise InvalidUsageError("Metadata may not contain null characters.")
    try:
        size = len(json.dumps(values, allow_nan=False, ensure_ascii=False, default=str).encode())
    except (TypeError, ValueError) as error:
        raise InvalidUsageError("Metadata must be JSON: no NaN, no Infinity, no half of a surrogate pair.") from error
    if size > MAX_CLIENT_BYTES:
        raise InvalidUsageError(f"Metadata may have {MAX_CLIENT_BYTES} bytes.")


def _walk(value: Any) -> Iterator[tuple[int, Any]]:
    """Every value in a structure, names included, with its depth; the structure itself has depth 1."""
    waiting = [(1, value)]
    while waiting:
        depth, value = waiting.pop()
        yield depth, value
        if isinstance(value, Mapping):
            waiting += [(depth + 1, inner) for pair in value.items() for inner in pair]
        elif isinstance(value, list | tuple):
            waiting += [(depth + 1, inner) for inner in value]
