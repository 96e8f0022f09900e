"""Groq: OpenAI's wire format with a few words of its own. It does not embed."""

from collections.abc import Iterator
from typing import Any

import groq
import httpx

from apps.providers import catalog
from apps.providers.adapters import clients, wire
from apps.providers.adapters.channel import Channel
from apps.providers.base import ChatChunk, ChatRequest, ChatResult, ProviderConfig
from apps.providers.lines import Line

BASE_URL = "https://api.groq.com"
#: The SDK puts this before its paths itself; a base URL that was copied for an OpenAI client ends in it.
PATH = "/openai/v1"


class GroqProvider:
    """Chat completions. In a stream the usage comes unasked: Groq refuses ``stream_options``."""

    def __init__(self, config: ProviderConfig) -> None:
        base_url = (config.base_url or BASE_URL).rstrip("/").removesuffix(PATH)
        self._client = groq.Groq(
            api_key=config.api_key,
            base_url=base_url,
            max_retries=0,
            http_client=clients.http_client(groq.DefaultHttpxClient, httpx, owner=self),
        )
        clients.forget_environment(self._client)
        self._channel = Channel(sdk=groq, http=httpx, name="Groq", secret=config.api_key)

    def complete(self, request: ChatRequest, *, request_id: str, timeout: float) -> ChatResult:
        create = self._client.chat.completions.with_streaming_response.create
        answer = self._channel.answer(create, _chat(request), request_id=request_id, timeout=timeout)
        return wire.chat_result(answer, _facts(request.model))

    def stream(
        self, request: ChatRequest, *, request_id: str, timeout: float, line: Line | None = None
    ) -> Iterator[ChatChunk]:
        create = self._client.chat.completions.with_streaming_response.create
        body = {**_chat(request), "stream": True}
        with self._channel.events(create, body, request_id=request_id, timeout=timeout, line=line) as events:
            yield from wire.chat_chunks(events, _facts(request.model))


def _facts(model: str) -> catalog.ModelSpec:
    return catalog.model("groq", model)


def _chat(request: ChatRequest) -> dict[str, Any]:
    body = {
        "model": request.model,
        "messages": wire.messages(request),
        "max_completion_tokens": request.max_tokens,
        **request.extras,
        **_facts(request.model).parameters,
    }
    return body if request.temperature is None else {**body, "temperature": request.temperature}
