"""Anthropic: the Messages API. It does not embed.

Source: the API's reference at platform.claude.com, version 2026-10-21, which the SDK asks for. Since that version no
model takes a temperature, so none is sent, as to OpenAI's reasoning models.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import anthropic
import httpx2

from apps.providers import catalog, passages
from apps.providers.adapters import clients, metering
from apps.providers.adapters.channel import Answer, Channel, inner
from apps.providers.base import ChatChunk, ChatMessage, ChatRequest, ChatResult, ProviderConfig, Usage
from apps.providers.catalog import ModelSpec
from apps.providers.errors import ProviderBadResponseError, ProviderInterruptedError, ProviderUnavailableError
from apps.providers.lines import Line

NAME = "anthropic"
BASE_URL = "https://api.anthropic.com"
#: The SDK puts this before its paths itself; a base URL that was copied for an OpenAI client ends in it.
PATH = "/v1"

#: Why an answer ends, in OpenAI's words, which runs and messages tell; those without one there stay as they are.
FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
LAST_EVENT = "message_stop"


class AnthropicProvider:
    """Messages. A thinking model thinks within the request's ``max_tokens``."""

    def __init__(self, config: ProviderConfig) -> None:
        base_url = (config.base_url or BASE_URL).rstrip("/").removesuffix(PATH)
        # The SDK's own telemetry is off: where an application traces, it would tell Anthropic the trace.
        self._client = anthropic.Anthropic(
            api_key=config.api_key,
            base_url=base_url,
            max_retries=0,
            open_telemetry=False,
            http_client=clients.http_client(anthropic.DefaultHttpxClient, httpx2, owner=self),
        )
        clients.forget_environment(self._client)
        self._channel = Channel(
            sdk=anthropic,
            http=httpx2,
            name="Anthropic",
            secret=config.api_key,
            id_header="request-id",
            last_event=LAST_EVENT,
        )

    def complete(self, request: ChatRequest, *, request_id: str, timeout: float) -> ChatResult:
        facts = catalog.model(NAME, request.model)
        create = self._client.messages.with_streaming_response.create
        answer = self._channel.answer(create, _body(request, facts), request_id=request_id, timeout=timeout)
        return _result(answer, facts)

    def stream(
        self, request: ChatRequest, *, request_id: str, timeout: float, line: Line | None = None
    ) -> Iterator[ChatChunk]:
        facts = catalog.model(NAME, request.model)
        create = self._client.messages.with_streaming_response.create
        body = {**_body(request, facts), "stream": True}
        with self._channel.events(create, body, request_id=request_id, timeout=timeout, line=line) as events:
            yield from _chunks(events, facts)


def _body(request: ChatRequest, facts: ModelSpec) -> dict[str, Any]:
    """The request; what the system says stands beside the messages."""
    said = passages.render(request)
    body = {
        "model": request.model,
        "messages": [{"role": message.role, "content": message.content} for message in _turns(said)],
        "max_tokens": request.max_tokens,
        **({"output_config": dict(request.extras)} if request.extras else {}),
        **facts.parameters,
    }
    system = "\n\n".join(message.content for message in said if message.role == "system")
    return {**body, "system": system} if system else body


def _turns(said: Iterable[ChatMessage]) -> Iterator[ChatMessage]:
    """The conversation, from a user's turn on. Turns of one role that follow each other Anthropic joins itself."""
    turns = (message for message in said if message.role != "system")
    return itertools.dropwhile(lambda message: message.role == "assistant", turns)


def _result(answer: Answer, facts: ModelSpec) -> ChatResult:
    """The answer in one piece."""
    raw, text = metering.as_sent(answer.data.get("usage")), _text(answer.data.get("content"))
    usage = _counted(raw, answered=bool(text), facts=facts)
    if text is None:
        message = "The provider's answer holds no content, or some whose text is none."
        raise ProviderBadResponseError(message, provider_request_id=answer.call_id, usage=usage)
    return ChatResult(
        text=text,
        finish_reason=_finish(answer.data.get("stop_reason")),
        usage=usage,
        raw_usage=raw,
        provider_request_id=answer.call_id,
        model=str(answer.data.get("model") or ""),
    )


def _chunks(events: Iterable[Answer], facts: ModelSpec) -> Iterator[ChatChunk]:
    """The pieces of a streamed answer and its closing chunk."""
    answer = _Streamed()
    for event in events:
        piece = answer.take(event)
        if piece:
            yield ChatChunk(delta=piece, provider_request_id=answer.request_id, model=answer.model)
    yield answer.closing(facts)


@dataclass
class _Streamed:
    """An answer, as far as the events of its stream have told it.

    The first event's usage is right of the input and only begins to count the output. That of the last
    ``message_delta`` is cumulative; it need not repeat what has not changed.
    """

    request_id: str = ""
    model: str = ""
    finish: str = ""
    answered: bool = False
    ended: bool = False
    opening: Mapping[str, Any] = field(default_factory=dict)
    cumulative: Mapping[str, Any] = field(default_factory=dict)

    def take(self, event: Answer) -> str:
        """Note what the event tells; returns the text in it."""
        _refuse_error(event)
        self.request_id = self.request_id or event.call_id or str(event.inner("message", "id") or "")
        self.model = str(event.inner("message", "model") or self.model)
        self.opening = metering.as_sent(event.inner("message", "usage")) or self.opening
        if "usage" in event.data:
            self.cumulative = _without_nulls(metering.as_sent(event.data["usage"]))
        self.finish = _finish(event.inner("delta", "stop_reason")) or self.finish
        self.ended = event.data.get("type") == LAST_EVENT
        return self._piece(event)

    def _piece(self, event: Answer) -> str:
        """The beginning of a block of text, or more of it."""
        part = event.data.get("content_block") or event.data.get("delta")
        text = (inner(part, "text") or "") if inner(part, "type") in ("text", "text_delta") else ""
        if not isinstance(text, str):
            message = "The provider's answer is not text."
            raise ProviderBadResponseError(message, provider_request_id=self.request_id)
        self.answered = self.answered or bool(text)
        return text

    def closing(self, facts: ModelSpec) -> ChatChunk:
        """The closing chunk; raises when the stream is over and the answer is not."""
        if not (self.ended and self.finish):
            message = "The stream ended before the answer did."
            raise ProviderInterruptedError(message, provider_request_id=self.request_id)
        raw = {**self.opening, **self.cumulative}
        return ChatChunk(
            finish_reason=self.finish,
            usage=_counted(raw, answered=self.answered, facts=facts) if "output_tokens" in self.cumulative else None,
            raw_usage=raw,
            provider_request_id=self.request_id,
            model=self.model,
        )


def _counted(raw: Mapping[str, Any], *, answered: bool, facts: ModelSpec) -> Usage | None:
    """The usage, or None when it is missing or cannot be.

    ``input_tokens`` exclude what was read from and written to the cache, ``output_tokens`` include the thinking. There
    is no total.
    """
    fresh: Any = raw.get("input_tokens")
    output: Any = raw.get("output_tokens")
    cached = metering.part(raw, "cache_read_input_tokens")
    written = metering.part(raw, "cache_creation_input_tokens")
    thinking = metering.part(raw.get("output_tokens_details"), "thinking_tokens")
    if not metering.are_counts(fresh, output, cached, written, thinking):
        return None
    usage = Usage(
        fresh_input_tokens=fresh,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        plain_output_tokens=output - thinking,
        reasoning_tokens=thinking,
        raw=raw,
    )
    return metering.believed(usage, answered=answered, at_most=facts.context_window)


def _text(content: Any) -> str | None:
    """What the blocks of text say together; None when it is no content. Other blocks, as of thinking, are no answer."""
    if not isinstance(content, list):
        return None
    blocks = (block for block in content if isinstance(block, Mapping) and block.get("type") == "text")
    texts: list[Any] = [block.get("text") for block in blocks]
    return "".join(texts) if all(isinstance(text, str) for text in texts) else None


def _finish(reason: Any) -> str:
    told = str(reason or "")
    return FINISH_REASONS.get(told, told)


def _without_nulls(usage: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in usage.items() if value is not None}


def _refuse_error(event: Answer) -> None:
    """In a stream, which has begun with a 200, an error is an event; ``overloaded_error`` is what a 529 is before."""
    if event.data.get("type") == "error":
        message = "The provider failed while it was answering. Try again later."
        raise ProviderUnavailableError(message, provider_request_id=event.call_id)
