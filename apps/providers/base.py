"""What a provider of models is to nooble: the contract that every adapter keeps.

An adapter turns one of our requests into one call of the provider and its answer into one of our results. It calls
once: retries, budgets and charges are the gateway's. Its calls raise nothing but
:class:`apps.providers.errors.ProviderError`, whose ``uncounted`` says whether a hold may be released.
"""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from apps.providers.lines import Line

Role = Literal["system", "user", "assistant"]
InputType = Literal["document", "query"]
TokenSource = Literal["api", "estimated"]

#: One row per text, in the order of the texts.
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ProviderConfig:
    """How to reach a provider: resolved by the worker at call time, never stored in a message."""

    #: What the deployment calls the provider: the name under which its models stand in the catalogue.
    name: str = ""
    api_key: str = field(default="", repr=False)
    base_url: str = ""
    #: What only one provider understands, by its adapter's own names.
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Credential:
    """A key that calls are made with, and the address that it is for; empty: the deployment's."""

    api_key: str = field(repr=False)
    base_url: str = ""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The tokens of one call in exclusive buckets: every token is in exactly one of the five.

    OpenTelemetry's GenAI totals are derived: input includes what was cached, output includes reasoning.
    """

    fresh_input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    plain_output_tokens: int = 0
    reasoning_tokens: int = 0
    #: ``api`` when the provider said so, ``estimated`` when we counted.
    source: TokenSource = "api"
    #: What the provider sent, unread.
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_tokens(self) -> int:
        return self.fresh_input_tokens + self.cached_input_tokens + self.cache_write_tokens

    @property
    def output_tokens(self) -> int:
        return self.plain_output_tokens + self.reasoning_tokens

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, kw_only=True)
class ChatMessage:
    role: Role
    content: str


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A piece of a document that an answer may rest on; ``number`` is how the answer cites it: ``[number]``."""

    number: int
    document: str
    text: str
    page: int | None = None


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """One question to a model. ``passages`` are handed over as data: each adapter renders them its provider's way."""

    model: str
    messages: tuple[ChatMessage, ...]
    max_tokens: int
    temperature: float | None = None
    passages: tuple[Passage, ...] = ()
    #: What only this provider's model takes, by its own names: see :mod:`apps.providers.extras`.
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ChatResult:
    text: str
    finish_reason: str
    #: None when the provider did not say, or said what cannot be (see :attr:`raw_usage`).
    usage: Usage | None
    #: What the provider sent as usage, unread: kept also when it is not believed and ``usage`` is None.
    raw_usage: Mapping[str, Any] = field(default_factory=dict)
    #: The provider's own id of the call; empty when it gave none.
    provider_request_id: str = ""
    #: The model that answered, as the provider names it.
    model: str = ""


@dataclass(frozen=True, kw_only=True)
class ChatChunk:
    """A piece of a streamed answer.

    Pieces of text come first; one closing chunk with ``finish_reason``, ``usage`` and ``raw_usage`` ends the stream.
    Of several usages that a provider sends in one stream the last one counts, never their sum.
    """

    delta: str = ""
    #: Set on the closing chunk and only there.
    finish_reason: str | None = None
    usage: Usage | None = None
    raw_usage: Mapping[str, Any] = field(default_factory=dict)
    provider_request_id: str = ""
    model: str = ""


@dataclass(frozen=True, kw_only=True)
class EmbeddingRequest:
    model: str
    texts: tuple[str, ...]
    #: None: the model's own.
    dimensions: int | None = None
    input_type: InputType = "document"


@dataclass(frozen=True, kw_only=True)
class EmbeddingResult:
    #: float32, shape (number of texts, dimensions), unit length.
    vectors: Vectors
    usage: Usage | None
    raw_usage: Mapping[str, Any] = field(default_factory=dict)
    provider_request_id: str = ""
    model: str = ""


class Fate(enum.Enum):
    """What a provider that can be asked says of a request it has no result of."""

    #: It never saw the request, did not count it and will not: proof that a hold may be released.
    NOT_SEEN = "not_seen"
    #: It is still at work.
    RUNNING = "running"


@runtime_checkable
class ChatProvider(Protocol):
    """A provider that answers."""

    def complete(self, request: ChatRequest, *, request_id: str, timeout: float) -> ChatResult:
        """Answer in one piece, within ``timeout`` seconds; ``request_id`` is ours and goes out with the request."""

    def stream(
        self, request: ChatRequest, *, request_id: str, timeout: float, line: Line | None = None
    ) -> Iterator[ChatChunk]:
        """Answer piece by piece; the call goes out with the first ``next()``.

        A stream that ends without its closing chunk ends with an error. Closing the iterator closes the upstream call.
        Only the thread that reads can do so; any other hangs up on ``line``, which ends the stream with an error.
        """


@runtime_checkable
class EmbeddingProvider(Protocol):
    """A provider that embeds."""

    def embed(self, request: EmbeddingRequest, *, request_id: str, timeout: float) -> EmbeddingResult:
        """Embed all texts in one call, within ``timeout`` seconds."""


@runtime_checkable
class Askable(Protocol):
    """A provider that can be asked what became of a request."""

    def lookup(self, request_id: str) -> ChatResult | EmbeddingResult | Fate:
        """The result of the request that went out with ``request_id``, or its fate."""
