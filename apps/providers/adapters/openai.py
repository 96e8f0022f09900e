"""OpenAI, and by ``base_url`` every service that speaks its wire format, under a name of its own or OpenAI's.

Services that speak it with peculiarities have adapters that inherit this one and override what differs.
"""

from collections.abc import Iterator
from typing import Any

import httpx2
import openai

from apps.providers import catalog
from apps.providers.adapters import clients, wire
from apps.providers.adapters.channel import Channel
from apps.providers.base import (
    ChatChunk,
    ChatRequest,
    ChatResult,
    EmbeddingRequest,
    EmbeddingResult,
    ProviderConfig,
)
from apps.providers.catalog import ModelSpec
from apps.providers.lines import Line

#: Services without keys take any; the SDK insists on one.
NO_KEY = "none"


class OpenAIProvider:
    """Chat completions and embeddings."""

    name = "openai"
    #: What people call it. A service under another name is called by that.
    title = "OpenAI"
    base_url = "https://api.openai.com/v1"
    #: Codes of refusals for which it may charge all the same.
    charged_refusals: frozenset[str] = frozenset()

    def __init__(self, config: ProviderConfig) -> None:
        # Given even when empty: the SDK would take them from its own environment variables.
        self._client = openai.OpenAI(
            api_key=config.api_key or NO_KEY,
            base_url=self._address(config.base_url or self.base_url),
            max_retries=0,
            http_client=clients.http_client(openai.DefaultHttpxClient, httpx2, owner=self),
        )
        clients.forget_environment(self._client)
        # As arguments None would mean its variables, too.
        self._client.organization = self._client.project = None
        self._name = config.name or self.name
        self._channel = Channel(
            sdk=openai,
            http=httpx2,
            name=self.title if self._name == self.name else self._name,
            secret=config.api_key,
            charged_refusals=self.charged_refusals,
        )

    def complete(self, request: ChatRequest, *, request_id: str, timeout: float) -> ChatResult:
        facts = self._facts(request.model)
        create = self._client.chat.completions.with_streaming_response.create
        answer = self._channel.answer(create, self._chat(request, facts), request_id=request_id, timeout=timeout)
        return wire.chat_result(answer, facts)

    def stream(
        self, request: ChatRequest, *, request_id: str, timeout: float, line: Line | None = None
    ) -> Iterator[ChatChunk]:
        facts = self._facts(request.model)
        create = self._client.chat.completions.with_streaming_response.create
        body = self._streamed(self._chat(request, facts))
        with self._channel.events(create, body, request_id=request_id, timeout=timeout, line=line) as events:
            yield from wire.chat_chunks(events, facts)

    def embed(self, request: EmbeddingRequest, *, request_id: str, timeout: float) -> EmbeddingResult:
        facts = self._facts(request.model)
        create = self._client.embeddings.with_streaming_response.create
        answer = self._channel.answer(create, self._texts(request, facts), request_id=request_id, timeout=timeout)
        return wire.embedding_result(answer, request, facts)

    def _address(self, base_url: str) -> str:
        """What the SDK puts before its paths, of what the deployment gave."""
        return base_url

    def _facts(self, model: str) -> ModelSpec:
        """What is known of the model under this provider's name; of one that passes OpenAI's on, what OpenAI's are."""
        own = catalog.model(self._name, model)
        return own if own.is_known else catalog.model(OpenAIProvider.name, model)

    def _chat(self, request: ChatRequest, facts: ModelSpec) -> dict[str, Any]:
        # Extras go past the SDK's own words: services that speak OpenAI's protocol have others, too.
        body = {
            "model": request.model,
            "messages": wire.messages(request),
            "extra_body": dict(request.extras),
            **facts.parameters,
        }
        if facts.reasoning:
            return {**body, "max_completion_tokens": request.max_tokens}
        if request.temperature is not None:
            body["temperature"] = request.temperature
        return {**body, "max_tokens": request.max_tokens}

    def _streamed(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "stream": True, "stream_options": {"include_usage": True}}

    def _texts(self, request: EmbeddingRequest, facts: ModelSpec) -> dict[str, Any]:
        return {
            "model": request.model,
            "input": list(request.texts),
            "encoding_format": "base64",
            **wire.dimensions(request, facts),
        }
