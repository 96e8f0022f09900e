"""The ledger's words: kinds of tokens and operations, states, and what goes in and out of it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, Self
from uuid import UUID

from django.db import models

from apps.core import clock
from apps.core.ids import new_id


class TokenType(models.TextChoices):
    """What the tokens were spent on. The database checks the same list; a test compares the two."""

    LLM = "llm", "Language model"
    EMBEDDING = "embedding", "Embedding"
    FINE_TUNING = "fine_tuning", "Fine-tuning"


class OperationKind(models.TextChoices):
    """What the tokens were spent for. The database checks the same list; a test compares the two."""

    QUERY = "query", "Query"
    CHAT = "chat", "Chat"
    SUMMARIZE = "summarize", "Summarize"
    VECTOR_SEARCH = "vector_search", "Vector search"
    GENERATION = "generation", "Generation"
    CLASSIFICATION = "classification", "Classification"
    EXTRACTION = "extraction", "Extraction"
    BATCH = "batch", "Batch"
    INTERNAL = "internal", "Internal"
    EMBEDDING = "embedding", "Embedding"


TOKEN_TYPE_LLM = TokenType.LLM.value
TOKEN_TYPE_EMBEDDING = TokenType.EMBEDDING.value
TOKEN_TYPE_FINE_TUNING = TokenType.FINE_TUNING.value

OPERATION_QUERY = OperationKind.QUERY.value
OPERATION_CHAT = OperationKind.CHAT.value
OPERATION_SUMMARIZE = OperationKind.SUMMARIZE.value
OPERATION_VECTOR_SEARCH = OperationKind.VECTOR_SEARCH.value
OPERATION_GENERATION = OperationKind.GENERATION.value
OPERATION_CLASSIFICATION = OperationKind.CLASSIFICATION.value
OPERATION_EXTRACTION = OperationKind.EXTRACTION.value
OPERATION_BATCH = OperationKind.BATCH.value
OPERATION_INTERNAL = OperationKind.INTERNAL.value
OPERATION_EMBEDDING = OperationKind.EMBEDDING.value


class OperationState(models.TextChoices):
    PENDING = "pending", "Pending"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


class AttemptState(models.TextChoices):
    """``open`` and ``unknown`` keep their hold; the other three have let it go."""

    OPEN = "open", "Open"
    SETTLED = "settled", "Settled"
    VOID = "void", "Void"
    UNKNOWN = "unknown", "Unknown"
    LOST = "lost", "Lost"


class TokenSource(models.TextChoices):
    API = "api", "The provider said so"
    ESTIMATED = "estimated", "Estimated"


class DiscrepancyKind(models.TextChoices):
    """What reconciliation, and the till itself, find worth looking at."""

    IDEMPOTENCY_CONFLICT = "idempotency_conflict", "A key came again with other content"
    OVERAGE = "overage", "A call cost more than its hold"
    LOST_ATTEMPT = "lost_attempt", "A hold was given up without proof"
    COUNTED_VOID = "counted_void", "A provider counted a call that was proven not to be"
    DAILY_STATISTICS = "daily_statistics", "Entries and daily statistics differ"
    MONTHLY_STATISTICS = "monthly_statistics", "Daily and monthly statistics differ"
    BUDGET_SPENT = "budget_spent", "Billable entries and the budget's spent differ"
    BUDGET_HELD = "budget_held", "Holds of attempts and the budget's held differ"
    OPERATION_WITHOUT_ENTRY = "operation_without_entry", "A done operation has no entry"
    ENTRY_WITHOUT_OPERATION = "entry_without_operation", "An entry's operation is not done"
    OPEN_PAST_DEADLINE = "open_past_deadline", "An attempt is open past its deadline"
    UNKNOWN_PAST_GRACE = "unknown_past_grace", "An attempt is unknown past its grace period"
    HOLD_WITHOUT_OPERATION = "hold_without_operation", "An ended operation still holds"
    TASK_RESULT = "task_result", "A task's result and its operations differ"
    UNPRICED_MODEL = "unpriced_model", "A model has no price"


class DiscrepancyState(models.TextChoices):
    OPEN = "open", "Open"
    REPAIRED = "repaired", "Repaired"
    RESOLVED = "resolved", "Resolved"


class EntryKind(models.TextChoices):
    USAGE = "usage", "Usage"
    ADJUSTMENT = "adjustment", "Adjustment"


#: The exclusive buckets of tokens, by the names of their columns.
BUCKETS = (
    "fresh_input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "plain_output_tokens",
    "reasoning_tokens",
)


@dataclass(frozen=True, kw_only=True)
class TokenCounts:
    """Tokens in exclusive buckets, and whether the provider counted them or we did."""

    fresh_input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    plain_output_tokens: int = 0
    reasoning_tokens: int = 0
    source: Literal["api", "estimated"] = "api"

    @property
    def buckets(self) -> tuple[int, int, int, int, int]:
        """Fresh, cached, written to the cache, plain output, reasoning."""
        return (
            self.fresh_input_tokens,
            self.cached_input_tokens,
            self.cache_write_tokens,
            self.plain_output_tokens,
            self.reasoning_tokens,
        )

    @property
    def input_tokens(self) -> int:
        return self.fresh_input_tokens + self.cached_input_tokens + self.cache_write_tokens

    @property
    def output_tokens(self) -> int:
        return self.plain_output_tokens + self.reasoning_tokens

    @property
    def total_tokens(self) -> int:
        return sum(self.buckets)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of a mapping in canonical JSON: equal content, equal digest, whatever the order of its keys."""
    return hashlib.sha256(_CANONICAL.encode(content).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Charge:
    """One operation as its caller describes it: what it is, what identifies it, and whom it is for."""

    operation: OperationKind
    token_type: TokenType
    #: What identifies the request: question and message, document hash and space. Never what was found on the way.
    payload: Mapping[str, Any]
    #: Which of several operations on the same payload this is.
    step: int = 0
    billable: bool = True
    agent_id: UUID | None = None
    collection_id: UUID | None = None
    document_id: UUID | None = None
    conversation_id: UUID | None = None
    run_id: UUID | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def payload_hash(self) -> str:
        return digest(self.payload)

    def idempotency_key(self, tenant_id: UUID, requested_at: datetime) -> str:
        """``{operation}:{tenant_id}:{content_hash}:{timestamp}``; the same however often the work is delivered."""
        content = digest({"payload": self.payload_hash, "step": self.step, "type": self.token_type.value})[:32]
        return f"{self.operation.value}:{tenant_id}:{content}:{clock.epoch_milliseconds(requested_at)}"


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call that is about to be made for an operation, and the most it can cost."""

    provider: str
    model: str
    model_family: str = ""
    hold_tokens: int
    deadline_seconds: float
    #: Ours; it goes out with the request, so that the provider can be asked for it.
    attempt_id: UUID = field(default_factory=new_id)


class Held:
    """What became of an attempt to hold."""


@dataclass(frozen=True, kw_only=True)
class Admitted(Held):
    """The hold is taken: make the call. ``epoch`` is the lease's; it is named when holding again for a retry."""

    operation_id: UUID
    attempt_id: UUID
    epoch: int
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Replay(Held):
    """The operation is done: here is its result, and nothing is paid again."""

    operation_id: UUID
    result: Mapping[str, Any]
    counts: TokenCounts


@dataclass(frozen=True, kw_only=True)
class LeftAttempt:
    """A call of a worker that is gone, and where it was made."""

    id: UUID
    provider: str
    model: str


@dataclass(frozen=True, kw_only=True)
class Unresolved(Held):
    """The operation was taken over; whoever was called in these attempts can be asked about them first."""

    operation_id: UUID
    epoch: int
    attempts: tuple[LeftAttempt, ...]


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """What settling did. ``late``: the operation or the attempt had ended already, so it made no entry of its own.

    A settlement that is repeated is late, too: whoever cannot know whether the first made an entry keeps nothing of it.
    ``result`` is the operation's: where it had ended already, not the one of this settlement.
    """

    operation_id: UUID
    late: bool
    overage_tokens: int
    state: OperationState
    result: Mapping[str, Any]
    counts: TokenCounts

    @classmethod
    def of(cls, row: Mapping[str, Any], counts: TokenCounts, result: Mapping[str, Any]) -> Self:
        """From the function's row, and from what it was called with."""
        return cls(
            operation_id=row["operation_id"],
            late=row["outcome"] != "settled",
            overage_tokens=row["overage_tokens"],
            state=OperationState(row["state"]),
            result=result if row["outcome"] == "settled" else row["result"] or {},
            counts=counts,
        )


def counts_of(row: Mapping[str, Any]) -> TokenCounts:
    """The counts in a row that has the five buckets and ``token_source``."""
    return TokenCounts(**{bucket: row[bucket] or 0 for bucket in BUCKETS}, source=row["token_source"] or "api")
