"""Ollama: models on the deployment's own machines, in OpenAI's wire format.

What does not fit the context that its server was started with it cuts off without a word: of a chat the earliest
messages, then the beginning of the prompt; of a text to embed the end. What it then counts is what was left. The
protocol has no field that forbids it or that asks for a longer context. So requests are made to fit what the deployment
says the server holds (``context_window`` of the provider's settings, which the catalogue applies), and what was cut all
the same is no answer. See docs/decisions/0012-what-ollama-cuts.md.
"""

from collections.abc import Iterator
from dataclasses import replace

from apps.providers import catalog, tokens
from apps.providers.adapters.openai import OpenAIProvider
from apps.providers.base import ChatChunk, ChatRequest, ChatResult, EmbeddingRequest, EmbeddingResult
from apps.providers.catalog import ModelSpec
from apps.providers.errors import PromptCutError, RequestNotSentError
from apps.providers.lines import Line

#: Of a prompt that is too long, half a context is read. No tokenizer that we know makes that few tokens of a text.
LEAST_PART = 0.5


class OllamaProvider(OpenAIProvider):
    """Chat completions and embeddings. A key is for a proxy before it, or for its cloud."""

    name = "ollama"
    title = "Ollama"
    base_url = "http://localhost:11434"

    def complete(self, request: ChatRequest, *, request_id: str, timeout: float) -> ChatResult:
        result = super().complete(request, request_id=request_id, timeout=timeout)
        self._require_whole(request, result)
        return result

    def stream(
        self, request: ChatRequest, *, request_id: str, timeout: float, line: Line | None = None
    ) -> Iterator[ChatChunk]:
        for chunk in super().stream(request, request_id=request_id, timeout=timeout, line=line):
            self._require_whole(request, chunk)
            yield chunk

    def embed(self, request: EmbeddingRequest, *, request_id: str, timeout: float) -> EmbeddingResult:
        self._require_fitting(request)
        return super().embed(request, request_id=request_id, timeout=timeout)

    def _address(self, base_url: str) -> str:
        """With the path of this protocol, whether it was given or not: Ollama's own clients do without."""
        return base_url.rstrip("/").removesuffix("/v1") + "/v1"

    def _facts(self, model: str) -> ModelSpec:
        """Without the window: it is for us to keep, while Ollama goes on past its end, and counts that."""
        return replace(catalog.model(self._name, model), context_window=None)

    def _require_whole(self, request: ChatRequest, told: ChatResult | ChatChunk) -> None:
        if told.usage is None:
            return
        sent = tokens.count_chat(request, provider=self._name).tokens
        if told.usage.input_tokens < sent * LEAST_PART:
            raise PromptCutError(
                f"Ollama read {told.usage.input_tokens:,} of about {sent:,} tokens and answered to those. Start it "
                "with a longer OLLAMA_CONTEXT_LENGTH and say so here, or ask with less.",
                provider_request_id=told.provider_request_id,
                usage=told.usage,
            )

    def _require_fitting(self, request: EmbeddingRequest) -> None:
        window = catalog.model(self._name, request.model).context_window
        for number, text in enumerate(request.texts):
            counted = tokens.count(text, provider=self._name, model=request.model).tokens
            if not counted:
                raise RequestNotSentError(f"There is nothing to embed in the text at index {number}: it is empty.")
            if window and counted > window:
                raise RequestNotSentError(
                    f"The text at index {number} has about {counted:,} tokens, and {request.model} reads {window:,} of "
                    "them here. Embed shorter texts."
                )
