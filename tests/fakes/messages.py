"""Anthropic's dialect: the Messages API, version 2026-10-21."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.fakes import answers
from tests.fakes.answers import Refusal, Reply
from tests.fakes.dialects import Json, OpenAI

#: A text is about 30 % more tokens to the newer models than to the older ones: their overviews.
DENSITY = 1.3

TAKEN = frozenset(
    {"model", "messages", "max_tokens", "system", "stream", "stop_sequences", "thinking", "output_config"}
)
EFFORTS = (None, "low", "medium", "high", "xhigh", "max")
NEEDED = ("model", "messages", "max_tokens")
STOP_REASONS = {"stop": "end_turn", "length": "max_tokens"}
THOUGHT = {"type": "thinking", "thinking": "", "signature": "c2lnbmVk"}


class Anthropic(OpenAI):
    """Messages. Content comes in blocks: what was thought, where the model thinks, the answer, and its last word."""

    id_header = "request-id"
    ending = ""
    error_event: Json = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}

    def reply(self, kind: str, request: Json, headers: Mapping[str, str], request_id: str) -> Reply:
        _refuse(request, headers)
        system = [{"role": "system", "content": request["system"]}] if "system" in request else []
        return answers.chat({**request, "messages": system + request["messages"]}, request_id, density=DENSITY)

    def body(self, reply: Reply) -> Json:
        told = {"stop_reason": _stop_reason(reply), **_usage(reply)}
        for choice in reply.body["choices"]:
            *words, last = answers.words(choice["message"]["content"]) or [""]
            told["content"] = [*_thoughts(reply), *(_said(text) for text in ("".join(words), last) if text != "")]
        return {**_head(reply), **told}

    def moments(self, reply: Reply, request: Json) -> Iterator[list[Json]]:
        message = {**_head(reply), "content": [], "stop_reason": None, **_usage(reply, of="input")}
        thoughts = [event for thought in _thoughts(reply) for event in _block(0, thought)]
        index = len(_thoughts(reply))
        *words, last = answers.words(reply.text) or [""]
        first, second = _block(index, _said("")), _block(index + 1, _said(last))
        yield [{"type": "message_start", "message": message}, *thoughts, first[0], {"type": "ping"}]
        for word in words:
            yield [{"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": word}}]
        yield [first[1], second[0]]
        closing = {"delta": {"stop_reason": _stop_reason(reply)}, **_usage(reply, of="output")}
        yield [second[1], {"type": "message_delta", **closing}]
        yield [{"type": "message_stop"}]

    def preliminary(self, moment: list[Json]) -> list[Json]:
        return [*moment, {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 1}}]

    def event(self, data: Json) -> str:
        return f"event: {data['type']}\n{super().event(data)}"

    def failure(self, status: int, message: Any, code: str = "") -> Json:
        return {"type": "error", "error": {"type": f"fake_{status}_error", "message": message}}


def usage(told: Mapping[str, Any]) -> Json:
    """OpenAI's numbers in Anthropic's words: what was cached stands beside the input, and there is no total."""
    said = dict(told)
    said.pop("total_tokens", None)
    cached = said.pop("prompt_tokens_details", {}).get("cached_tokens", 0)
    thinking = said.pop("completion_tokens_details", {}).get("reasoning_tokens", 0)
    if "prompt_tokens" in said:
        prompt = said.pop("prompt_tokens")
        said |= {"input_tokens": prompt - cached if cached else prompt, "cache_read_input_tokens": cached}
    if "completion_tokens" in said:
        said["output_tokens"] = said.pop("completion_tokens")
        said["output_tokens_details"] = {"thinking_tokens": thinking}
    return said


def _usage(reply: Reply, of: str = "") -> Json:
    """The usage to tell, if any: the whole, or in a stream what its first event or its last but one tells of it."""
    if "usage" not in reply.body:
        return {}
    whole = usage(reply.body["usage"])
    output = {name: value for name, value in whole.items() if name.startswith("output")}
    if of == "input":
        return {"usage": {name: value for name, value in whole.items() if name not in output} | {"output_tokens": 1}}
    return {"usage": {"input_tokens": None, **output} if of == "output" else whole}


def _refuse(request: Json, headers: Mapping[str, str]) -> None:
    """What Anthropic refuses; raises Refusal."""
    if not headers.get("authorization", "").startswith("Bearer ") and "x-api-key" not in headers:
        raise Refusal("authentication is required", status=401)
    if "anthropic-version" not in headers:
        raise Refusal("anthropic-version: header is required")
    for name in NEEDED:
        if name not in request:
            raise Refusal(f"{name}: Field required")
    for name in sorted(request.keys() - TAKEN):
        raise Refusal(f"{name}: Extra inputs are not permitted")
    if request.get("output_config", {}).get("effort") not in EFFORTS:
        raise Refusal("output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'")
    roles = [message["role"] for message in request["messages"]]
    # Newer models take a system's turn between others, and older ones an assistant's at the end: we send neither.
    if set(roles) - {"user", "assistant"} or roles[:1] != ["user"] or roles[-1:] != ["user"]:
        raise Refusal("messages: the turns are a user's and an assistant's, the first and the last a user's")
    texts = [request.get("system", "none"), *(message["content"] for message in request["messages"])]
    if not all(text.strip() for text in texts):
        raise Refusal("text content blocks must contain non-whitespace text")


def _head(reply: Reply) -> Json:
    return {"id": f"msg_{reply.body['id']}", "type": "message", "role": "assistant", "model": reply.body["model"]}


def _stop_reason(reply: Reply) -> str | None:
    reasons = [STOP_REASONS.get(choice["finish_reason"], choice["finish_reason"]) for choice in reply.body["choices"]]
    return reasons[0] if reasons else None


def _thoughts(reply: Reply) -> list[Json]:
    return [THOUGHT] if answers.THINKING_MODEL.match(reply.body["model"]) else []


def _said(text: Any) -> Json:
    return {"type": "text", "text": text}


def _block(index: int, block: Json) -> tuple[Json, Json]:
    """The beginning and the end of a block of content."""
    return (
        {"type": "content_block_start", "index": index, "content_block": block},
        {"type": "content_block_stop", "index": index},
    )
