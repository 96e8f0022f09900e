"""OpenAI's wire format, which Groq and many others speak: our requests as its JSON, its JSON as our results."""

import base64
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from apps.providers import passages
from apps.providers.adapters import metering, vectors
from apps.providers.adapters.channel import Answer, inner
from apps.providers.base import ChatChunk, ChatRequest, ChatResult, EmbeddingRequest, EmbeddingResult, Vectors
from apps.providers.catalog import ModelSpec
from apps.providers.errors import (
    ProviderBadResponseError,
    ProviderInterruptedError,
    ProviderUnavailableError,
)


def messages(request: ChatRequest) -> list[dict[str, str]]:
    """The messages, passages included."""
    return [{"role": message.role, "content": message.content} for message in passages.render(request)]


def chat_result(answer: Answer, facts: ModelSpec) -> ChatResult:
    """The answer in one piece."""
    _refuse_error(answer, at_most=facts.context_window)
    choice = _choice(answer.data)
    if choice is None:
        raise _unusable(answer, "The provider's answer holds no choice.", at_most=facts.context_window)
    text = _text(choice.get("message"))
    if text is None:
        raise _unusable(answer, "The provider's answer is not text.", at_most=facts.context_window)
    raw = _usage(answer.data)
    return ChatResult(
        text=text,
        finish_reason=_finish(choice),
        usage=metering.read(raw, answered=bool(text), at_most=facts.context_window),
        raw_usage=raw,
        provider_request_id=answer.call_id,
        model=str(answer.data.get("model") or ""),
    )


def chat_chunks(events: Iterable[Answer], facts: ModelSpec) -> Iterator[ChatChunk]:
    """The pieces of a streamed answer and its closing chunk."""
    raw: Mapping[str, Any] = {}
    finish, answered, request_id, model = "", False, "", ""
    for event in events:
        _refuse_error(event, at_most=facts.context_window)
        request_id, model = event.call_id, str(event.data.get("model") or model)
        raw = _usage(event.data) or raw
        choice = _choice(event.data) or {}
        finish = _finish(choice) or finish
        text = _text(choice.get("delta"))
        if text is None:
            raise _unusable(event, "The provider's answer is not text.", at_most=facts.context_window)
        if text:
            answered = True
            yield ChatChunk(delta=text, provider_request_id=request_id, model=model)
    if not finish:
        raise ProviderInterruptedError("The stream ended before the answer did.", provider_request_id=request_id)
    yield ChatChunk(
        finish_reason=finish,
        usage=metering.read(raw, answered=answered, at_most=facts.context_window),
        raw_usage=raw,
        provider_request_id=request_id,
        model=model,
    )


def dimensions(request: EmbeddingRequest, facts: ModelSpec) -> dict[str, int]:
    """The request's ``dimensions``, if they are to be sent."""
    wanted = vectors.asked_for(request, facts)
    return {} if wanted is None else {"dimensions": wanted}


def embedding_result(answer: Answer, request: EmbeddingRequest, facts: ModelSpec) -> EmbeddingResult:
    """The vectors, in the order of the texts."""
    raw = _usage(answer.data)
    at_most = facts.context_window and facts.context_window * len(request.texts)
    try:
        found = _vectors(answer.data["data"], request.dimensions or facts.dimensions)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        message = "The provider's answer holds no vectors, or some that cannot be."
        raise _unusable(answer, message, at_most=at_most) from error
    if len(found) != len(request.texts):
        message = f"The provider sent {len(found)} vectors for {len(request.texts)} texts."
        raise _unusable(answer, message, at_most=at_most)
    return EmbeddingResult(
        vectors=found,
        usage=metering.read(raw, answered=False, at_most=at_most),
        raw_usage=raw,
        provider_request_id=answer.call_id,
        model=str(answer.data.get("model") or ""),
    )


def _unusable(answer: Answer, message: str, *, at_most: int | None) -> ProviderBadResponseError:
    """The error for an answer that came whole and is of no use: the provider counted it all the same."""
    usage = metering.read(_usage(answer.data), answered=False, at_most=at_most)
    return ProviderBadResponseError(message, provider_request_id=answer.call_id, usage=usage)


def _vectors(items: Any, size: int | None) -> Vectors:
    """Rows sorted by ``index``.

    Of anything that is no set of vectors a KeyError, TypeError, ValueError or OverflowError.
    """
    rows = {item["index"]: _vector(item["embedding"]) for item in items}
    if len(rows) != len(items):
        raise ValueError("an index is there twice")
    return vectors.of_unit_length([rows[index] for index in range(len(rows))], size)


def _vector(value: Any) -> Any:
    """Base64 of little-endian float32, as asked for; servers that only speak lists of numbers send those."""
    return np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4") if isinstance(value, str) else value


def _choice(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, Mapping) else None


def _finish(choice: Mapping[str, Any]) -> str:
    """Why the answer ended, in OpenAI's words; "" while it goes on."""
    reason = str(choice.get("finish_reason") or "")
    return "length" if reason == "model_length" else reason  # Mistral: the window ended it, not our limit


def _text(part: Any) -> str | None:
    """The text of a message or of a delta, where a refusal is an answer too; None for anything else."""
    content = inner(part, "content") or inner(part, "refusal") or ""
    if isinstance(content, list):
        # Models of Mistral's that think answer in parts. What they thought is none of the answer.
        texts = [_text_of_part(inner) for inner in content]
        return None if None in texts else "".join(filter(None, texts))
    return content if isinstance(content, str) else None


def _text_of_part(part: Any) -> str | None:
    """The text of a part; "" where it is of another type, None where it cannot be read."""
    if not isinstance(part, Mapping):
        return None
    text = part.get("text") if part.get("type") == "text" else ""
    return text if isinstance(text, str) else None


def _usage(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The usage as sent, where it can be kept so. In a stream Groq tells it under a name of its own."""
    return metering.as_sent(inner(data, "x_groq", "usage") or data.get("usage"))


def _refuse_error(answer: Answer, *, at_most: int | None) -> None:
    """With a 200, an error is an event of the stream, or (Mistral) the reason for which the answer ended."""
    told = answer.data.get("error") or answer.inner("x_groq", "error")
    if told or inner(_choice(answer.data), "finish_reason") == "error":
        message = "The provider failed while it was answering. Try again later."
        usage = metering.read(_usage(answer.data), answered=False, at_most=at_most)
        raise ProviderUnavailableError(message, provider_request_id=answer.call_id, usage=usage)
