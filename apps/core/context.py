"""The ExecutionContext: who asked, who pays, with which configuration. Every service takes one first.

It is built once, where work enters, and then only handed on. Between processes it travels signed: a worker trusts
nothing that it cannot verify. It holds ids, resolved configuration and limits, never an ORM object and never a secret.
"""

import zlib
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from django.core import signing
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from apps.core import clock
from apps.core.errors import NoobleError
from apps.core.ids import new_id

SALT = "nooble.execution-context"
#: A context that does not fit is a defect: prompts and documents do not belong in it.
MAX_SIGNED_BYTES = 16 * 1024

ContextType = Literal["api", "chat", "search", "ingestion", "usage", "maintenance"]
TruncationStrategy = Literal["end", "start", "middle"]
InterruptionPolicy = Literal["retry", "partial"]


ContextFault = Literal["missing", "oversized", "forged", "unknown"]


class ContextRefusedError(NoobleError):
    """The task's context is missing, forged or not understood."""

    code = "context_refused"

    def __init__(self, detail: str = "", *, fault: ContextFault = "unknown") -> None:
        super().__init__(detail)
        self.fault = fault


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LLMConfig(_Frozen):
    provider: str
    model: str
    temperature: float = Field(ge=0, le=2)
    max_tokens: int = Field(ge=1)
    timeout_seconds: int = Field(ge=1)
    retry_attempts: int = Field(ge=0)
    on_interrupted_stream: InterruptionPolicy = "retry"
    extras: dict[str, int | float | str] = Field(default_factory=dict)


class EmbeddingConfig(_Frozen):
    provider: str
    model: str
    dimensions: int = Field(ge=1)
    encoding_format: Literal["float"] = "float"


class RagCollection(_Frozen):
    """One collection a question is put to, with the space its vectors live in."""

    collection_id: UUID
    embedding_model: str
    embedding_dimensions: int
    similarity_threshold: float = Field(ge=0, le=1)


class RagConfig(_Frozen):
    collections: tuple[RagCollection, ...] = ()
    max_results: int = Field(ge=1, le=50)
    query_expansion_enabled: bool = False


class ProcessingConfig(_Frozen):
    truncation_strategy: TruncationStrategy = "end"
    max_text_length: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    timeout_seconds: int = Field(default=60, ge=1)
    retry_attempts: int = Field(default=3, ge=0)
    concurrency: int = Field(default=1, ge=1)
    chunk_size: int = Field(ge=1)
    chunk_overlap: int = Field(ge=0)


class CollectionConfig(_Frozen):
    """The collection and the space that embedding work fills."""

    collection_id: UUID
    space_id: UUID
    created_with_model: str
    expected_dimensions: int


class ExecutionContext(_Frozen):
    context_id: UUID = Field(default_factory=new_id)
    context_type: ContextType
    #: When the request arrived. It never changes on a retry, which is why a retry finds its own idempotency keys.
    created_at: datetime = Field(default_factory=clock.now)
    #: Bounds the calls made for it, not its validity: see :meth:`renewed`.
    deadline: datetime
    #: The consumer: the tenant that asked.
    tenant_id: UUID
    tenant_tier: str
    #: The tenant that is billed.
    payer_tenant_id: UUID
    #: The tenant whose agent and collections are used.
    owner_tenant_id: UUID
    agent_id: UUID | None = None
    agent_version: int | None = None
    session_id: str | None = None
    conversation_id: UUID | None = None
    user_id: str | None = None
    request_source: str | None = None
    client_version: str | None = None
    llm_config: LLMConfig | None = None
    embedding_config: EmbeddingConfig | None = None
    rag_config: RagConfig | None = None
    processing_config: ProcessingConfig | None = None
    collection_config: CollectionConfig | None = None
    #: ``llm_config.model`` → ``request``, ``agent``, ``tier`` or ``deployment``.
    config_sources: dict[str, str] = Field(default_factory=dict)
    fallback_models: tuple[str, ...] = ()
    language: str | None = None
    query_type: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    def renewed(self, seconds: float) -> "ExecutionContext":
        """The same context with a new deadline: for work that is driven again after an outage."""
        return self.model_copy(update={"deadline": clock.now() + timedelta(seconds=seconds)})

    def sign(self) -> str:
        """The context as a token that only this deployment can have made."""
        token = signing.dumps(self.model_dump(mode="json", exclude_defaults=True), salt=SALT, compress=True)
        if len(token) > MAX_SIGNED_BYTES:
            detail = f"The context is {len(token)} bytes signed; at most {MAX_SIGNED_BYTES} travel."
            raise ContextRefusedError(detail, fault="oversized")
        return token


def restore(token: str | None) -> ExecutionContext:
    """The context that :meth:`ExecutionContext.sign` signed; anything else is refused."""
    if not token:
        raise ContextRefusedError("The task carries no context.", fault="missing")
    if len(token) > MAX_SIGNED_BYTES:
        raise ContextRefusedError("The task's context is larger than ours are.", fault="oversized")
    try:
        return ExecutionContext.model_validate(signing.loads(token, salt=SALT))
    except signing.BadSignature as error:
        raise ContextRefusedError("The signature of the task's context is not ours.", fault="forged") from error
    except (ValidationError, ValueError) as error:
        detail = "The task's context is not one this version understands."
        raise ContextRefusedError(detail, fault="unknown") from error


def unverified(token: str) -> ExecutionContext:
    """The context of a row of ours, to be shown: whose signature it bears is not asked, as its key may be gone.

    Work is only ever done in what :func:`restore` gave. What cannot be read is refused.
    """
    try:
        return ExecutionContext.model_validate(_Opener().unsign_object(token))
    except (ValidationError, ValueError, zlib.error) as error:
        detail = "The row's context is not one this version understands."
        raise ContextRefusedError(detail, fault="unknown") from error


class _Opener(signing.TimestampSigner):
    """Reads what :meth:`ExecutionContext.sign` made as Django packs it, without its signature."""

    def unsign(self, value: str, max_age: int | timedelta | None = None) -> str:
        return value.rsplit(self.sep, 2)[0]
