"""Cohere, in version 2 of its API: chat in blocks of content, streams in events, vectors for what they are used for.

Source: Cohere's API reference, "Chat", "Chat with Streaming" and "Embed". What counts is what Cohere bills for
(``billed_units``), not what its model saw (``tokens``): it adds tokens that it does not charge for ("How Does Cohere's
Pricing Work?").
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import httpx
from cohere.core.client_wrapper import SyncClientWrapper

from apps.providers import catalog
from apps.providers.adapters import clients, fern, metering, vectors, wire
from apps.providers.adapters.channel import Answer, Channel, inner
from apps.providers.base import (
    ChatChunk,
    ChatRequest,
    ChatResult,
    EmbeddingRequest,
    EmbeddingResult,
    InputType,
    ProviderConfig,
    Usage,
)
from apps.providers.catalog import ModelSpec
from apps.providers.errors import (
    ProviderBadResponseError,
    ProviderInterruptedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    RequestNotSentError,
)
from apps.providers.lines import Line

NAME = "cohere"
BASE_URL = "https://api.cohere.com"
#: The SDK puts this before its paths itself; a base URL that was copied from the reference ends in it.
VERSION = "/v2"
#: What Cohere calls the reasons that others know as well; further ones keep their names.
FINISHES = {"COMPLETE": "stop", "MAX_TOKENS": "length"}
INPUT_TYPES: Mapping[InputType, str] = {"document": "search_document", "query": "search_query"}
#: What is kept of an embedding's ``meta``, in which versions and warnings stand as well: what a chat has as ``usage``.
_USAGE = ("billed_units", "tokens", "cached_tokens")


class CohereProvider:
    """Chat and embeddings."""

    def __init__(self, config: ProviderConfig) -> None:
        base_url = (config.base_url or BASE_URL).rstrip("/").removesuffix(VERSION)
        # Of the SDK the part that makes requests: see fern.py. It reads nothing from the environment.
        client = SyncClientWrapper(
            token=config.api_key,
            base_url=base_url,
            client_name="nooble",
            max_retries=0,
            httpx_client=clients.http_client(httpx.Client, httpx, owner=self),
        ).httpx_client
        self._chat = fern.creating(client, "v2/chat")
        self._embed = fern.creating(client, "v2/embed")
        self._channel = Channel(
            sdk=fern, http=httpx, name="Cohere", secret=config.api_key, id_header="x-debug-trace-id"
        )

    def complete(self, request: ChatRequest, *, request_id: str, timeout: float) -> ChatResult:
        body = {**_chat(request), "stream": False}
        answer = self._channel.answer(self._chat, body, request_id=request_id, timeout=timeout)
        return _chat_result(answer, _facts(request.model))

    def stream(
        self, request: ChatRequest, *, request_id: str, timeout: float, line: Line | None = None
    ) -> Iterator[ChatChunk]:
        body = {**_chat(request), "stream": True}
        with self._channel.events(self._chat, body, request_id=request_id, timeout=timeout, line=line) as events:
            yield from _chat_chunks(events, _facts(request.model))

    def embed(self, request: EmbeddingRequest, *, request_id: str, timeout: float) -> EmbeddingResult:
        facts = _facts(request.model)
        answer = self._channel.answer(self._embed, _texts(request, facts), request_id=request_id, timeout=timeout)
        return _embedding_result(answer, request, facts)


def _facts(model: str) -> ModelSpec:
    return catalog.model(NAME, model)


def _chat(request: ChatRequest) -> dict[str, Any]:
    """The request's body. A temperature goes out as it is: Cohere takes 0 to 2, as we do."""
    body = {
        "model": request.model,
        "messages": wire.messages(request),
        "max_tokens": request.max_tokens,
        **request.extras,
        **_facts(request.model).parameters,
    }
    return body if request.temperature is None else {**body, "temperature": request.temperature}


def _texts(request: EmbeddingRequest, facts: ModelSpec) -> dict[str, Any]:
    """The request's body; raises RequestNotSentError for more texts than one call takes."""
    most = catalog.provider(NAME).max_texts
    if most and len(request.texts) > most:
        raise RequestNotSentError(
            f"Cohere embeds at most {most} texts in one call, not {len(request.texts)}. Send fewer at once."
        )
    length = vectors.asked_for(request, facts)
    return {
        "model": request.model,
        "texts": list(request.texts),
        "input_type": INPUT_TYPES[request.input_type],
        "embedding_types": ["float"],
        # A text that is too long is refused. Otherwise Cohere would leave out its end and say nothing of it.
        "truncate": "NONE",
        **({} if length is None else {"output_dimension": length}),
    }


def _chat_result(answer: Answer, facts: ModelSpec) -> ChatResult:
    """The answer in one piece. Which model gave it is not told."""
    text = _text(answer.inner("message"))
    raw = metering.as_sent(answer.data.get("usage"))
    usage = _read(raw, answered=bool(text), at_most=facts.context_window)
    finish = _finish(answer, answer.data.get("finish_reason"), usage)
    if text is None:
        raise _unusable(answer, "The provider's answer holds no text.", usage)
    return ChatResult(
        text=text,
        finish_reason=finish,
        usage=usage,
        raw_usage=raw,
        provider_request_id=answer.call_id,
        model=facts.model,
    )


def _chat_chunks(events: Iterable[Answer], facts: ModelSpec) -> Iterator[ChatChunk]:
    """The pieces of a streamed answer and its closing chunk. What was thought and what is cited is passed over."""
    closing, answered, request_id = None, False, ""
    for event in events:
        request_id = event.call_id or request_id
        if event.data.get("type") == "message-end":
            closing = _closing(event, request_id, facts, answered=answered)
            continue
        text = event.inner("delta", "message", "content", "text") or ""
        if not isinstance(text, str):
            raise _unusable(event, "The provider's answer is not text.", None)
        if text:
            answered = True
            yield ChatChunk(delta=text, provider_request_id=request_id, model=facts.model)
    if closing is None:
        raise ProviderInterruptedError("The stream ended before the answer did.", provider_request_id=request_id)
    yield closing


def _closing(event: Answer, request_id: str, facts: ModelSpec, *, answered: bool) -> ChatChunk | None:
    """The closing chunk; None when the event does not say why the answer ended."""
    raw = metering.as_sent(event.inner("delta", "usage"))
    usage = _read(raw, answered=answered, at_most=facts.context_window)
    finish = _finish(event, event.inner("delta", "finish_reason"), usage)
    if not finish:
        return None
    return ChatChunk(
        finish_reason=finish, usage=usage, raw_usage=raw, provider_request_id=request_id, model=facts.model
    )


def _finish(answer: Answer, reason: Any, usage: Usage | None) -> str:
    """Why the answer ended. One that Cohere broke off is an error, with what it counted for it."""
    if reason == "ERROR":
        message = "The provider failed while it was answering. Try again later."
        raise ProviderUnavailableError(message, provider_request_id=answer.call_id, usage=usage)
    if reason == "TIMEOUT":
        message = "The provider did not finish its answer within its own time."
        raise ProviderTimeoutError(message, provider_request_id=answer.call_id, usage=usage)
    return FINISHES.get(str(reason or ""), str(reason or ""))


def _embedding_result(answer: Answer, request: EmbeddingRequest, facts: ModelSpec) -> EmbeddingResult:
    """The vectors, which come in the order of the texts."""
    meta = answer.data.get("meta")
    raw = metering.as_sent({name: meta[name] for name in _USAGE if name in meta} if isinstance(meta, Mapping) else {})
    usage = _read(raw, answered=False, at_most=facts.context_window and facts.context_window * len(request.texts))
    try:
        rows = answer.data["embeddings"]["float"]
        found = vectors.of_unit_length(rows, request.dimensions or facts.dimensions)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        message = "The provider's answer holds no vectors, or some that cannot be."
        raise _unusable(answer, message, usage) from error
    if len(found) != len(request.texts):
        message = f"The provider sent {len(found)} vectors for {len(request.texts)} texts."
        raise _unusable(answer, message, usage)
    return EmbeddingResult(
        vectors=found, usage=usage, raw_usage=raw, provider_request_id=answer.call_id, model=facts.model
    )


def _read(raw: Mapping[str, Any], *, answered: bool, at_most: int | None) -> Usage | None:
    """What is billed; None when it is missing or cannot be. How much of it was cached, or thought, is not told.

    More billed, or more from a cache, than the model saw cannot be: parts that exceed their whole.
    """
    prompt, completion = _number(raw, "billed_units", "input_tokens"), _number(raw, "billed_units", "output_tokens")
    read, written = _number(raw, "tokens", "input_tokens"), _number(raw, "tokens", "output_tokens")
    cached = _number(raw, "cached_tokens")
    told = [number for number in (completion, read, written, cached) if number is not None]
    if not metering.are_counts(prompt, *told):
        return None
    pairs = ((prompt, read), (cached, read), (completion, written))
    if any(part > whole for part, whole in pairs if None not in (part, whole)):
        return None
    usage = Usage(fresh_input_tokens=prompt, plain_output_tokens=completion or 0, raw=raw)
    # Cohere writes its windows in round thousands: only what is far beyond one cannot be.
    return metering.believed(usage, answered=answered, at_most=at_most and 2 * at_most)


def _number(raw: Mapping[str, Any], *names: str) -> Any:
    """A number of the usage. The reference has floating-point numbers: one that is whole is made what it says."""
    number = inner(raw, *names)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _text(message: Any) -> str | None:
    """The text of a message, which comes in blocks, among others of thoughts; None of what is no message."""
    blocks = inner(message, "content") or []
    if not isinstance(message, Mapping) or not isinstance(blocks, list):
        return None
    texts = [inner(block, "text") for block in blocks if inner(block, "type") == "text"]
    return "".join(texts) if all(isinstance(text, str) for text in texts) else None


def _unusable(answer: Answer, message: str, usage: Usage | None) -> ProviderBadResponseError:
    """The error for an answer that came whole and is of no use: the provider counted it all the same."""
    return ProviderBadResponseError(message, provider_request_id=answer.call_id, usage=usage)
