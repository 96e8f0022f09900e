"""The local provider: nooble's default. It needs no key and no network.

Its chat model, ``extractive``, answers with quotations from the passages; its embedding model is WordLlama. Both are
deterministic, and their usage is a real count with the model's own tokenizer.
"""

from collections.abc import Iterator

from apps.providers import tokens, wordvectors
from apps.providers.base import (
    ChatChunk,
    ChatRequest,
    ChatResult,
    EmbeddingRequest,
    EmbeddingResult,
    ProviderConfig,
    Usage,
)
from apps.providers.encodings import wellformed
from apps.providers.errors import RequestNotSentError, UnknownModelError, UnsupportedDimensionsError
from apps.providers.extraction import answers
from apps.providers.lines import Line

CHAT_MODEL = "extractive"
EMBEDDING_MODEL = "wordllama-256"
NAME = "local"


class LocalProvider:
    """Chat and embeddings in this process. Time-outs are not watched: an answer takes milliseconds."""

    def __init__(self, config: ProviderConfig) -> None:
        """The configuration is not used: there is nothing to reach."""

    def complete(self, request: ChatRequest, *, request_id: str, timeout: float) -> ChatResult:
        *pieces, closing = self.stream(request, request_id=request_id, timeout=timeout)
        return ChatResult(
            text="".join(piece.delta for piece in pieces),
            finish_reason=closing.finish_reason or "",
            usage=closing.usage,
            raw_usage=closing.raw_usage,
            provider_request_id=request_id,
            model=request.model,
        )

    def stream(
        self, request: ChatRequest, *, request_id: str, timeout: float, line: Line | None = None
    ) -> Iterator[ChatChunk]:
        if request.model != CHAT_MODEL:
            raise UnknownModelError(f"The local provider has no chat model {request.model!r}. Use {CHAT_MODEL!r}.")
        said, finish_reason = "", "stop"
        for piece in answers.answer(_question(request), request.passages):
            fitting = tokens.fit(said + piece, request.max_tokens, provider=NAME, model=request.model)
            yield ChatChunk(delta=fitting[len(said) :], provider_request_id=request_id, model=request.model)
            if fitting != said + piece:
                said, finish_reason = fitting, "length"
                break
            said = fitting
        usage = Usage(
            fresh_input_tokens=tokens.count_chat(request, provider=NAME).tokens,
            plain_output_tokens=tokens.count(said, provider=NAME, model=request.model).tokens,
        )
        yield ChatChunk(finish_reason=finish_reason, usage=usage, provider_request_id=request_id, model=request.model)

    def embed(self, request: EmbeddingRequest, *, request_id: str, timeout: float) -> EmbeddingResult:
        if request.model != EMBEDDING_MODEL:
            raise UnknownModelError(f"The local provider embeds with {EMBEDDING_MODEL!r}, not {request.model!r}.")
        dimensions = request.dimensions or wordvectors.DIMENSIONS
        if dimensions not in wordvectors.TRAINED_DIMENSIONS:
            raise UnsupportedDimensionsError(
                f"{EMBEDDING_MODEL} makes vectors of 64, 128 or 256 numbers, not of {dimensions}."
            )
        encoded = [wordvectors.encode(wellformed(text)) for text in request.texts]
        if empty := [number for number, encoding in enumerate(encoded) if not encoding.ids]:
            raise RequestNotSentError(f"There is nothing to embed in the text at index {empty[0]}: it is empty.")
        return EmbeddingResult(
            vectors=wordvectors.embed(encoded, dimensions=dimensions),
            usage=Usage(fresh_input_tokens=sum(len(encoding.ids) for encoding in encoded)),
            provider_request_id=request_id,
            model=request.model,
        )


def _question(request: ChatRequest) -> str:
    """The last message of the user. What was said before does not count: quotations answer one question."""
    return next((message.content for message in reversed(request.messages) if message.role == "user"), "")
