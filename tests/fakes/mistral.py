"""Mistral's dialect: OpenAI's, of which it refuses every word that is not in its own reference (docs.mistral.ai/api).

The shapes of its errors are those that its users report.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from apps.providers import encodings
from tests.fakes import answers
from tests.fakes.answers import Refusal, Reply
from tests.fakes.dialects import Json, OpenAI

TAKEN = {
    "chat": frozenset(
        {"model", "messages", "temperature", "top_p", "max_tokens", "stream", "stop", "random_seed", "metadata"}
        | {"response_format", "tools", "tool_choice", "presence_penalty", "frequency_penalty", "n", "prediction"}
        | {"parallel_tool_calls", "reasoning_effort", "prompt_mode", "guardrails", "prompt_cache_key", "safe_prompt"}
    ),
    "embeddings": frozenset({"model", "input", "metadata", "output_dimension", "output_dtype", "encoding_format"}),
}
#: What it takes to be embedded in one call, and how many tokens of its own are one of ours.
MOST_TEXTS = 256
MOST_TOKENS = 16_384
DENSITY = 1.3


class Mistral(OpenAI):
    """Chat completions and embeddings. The usage of a stream comes unasked, with its last piece."""

    def reply(self, kind: str, request: Json, headers: Mapping[str, str], request_id: str) -> Reply:
        unknown = sorted(request.keys() - TAKEN[kind])
        if unknown:
            wrong = [{"type": "extra_forbidden", "loc": ["body", name], "input": request[name]} for name in unknown]
            detail = [{**each, "msg": "Extra inputs are not permitted"} for each in wrong]
            raise Refusal({"detail": detail}, status=422)
        return self._chat(request, request_id) if kind == "chat" else self._embeddings(request)

    def _chat(self, request: Json, request_id: str) -> Reply:
        if request["messages"][-1]["role"] != "user":
            raise Refusal("Expected last role User or Tool (or Assistant with prefix True) for serving")
        reply = answers.chat(request, request_id)
        # How much of it was thought is not told.
        usage = {name: value for name, value in reply.body["usage"].items() if name != "completion_tokens_details"}
        return replace(reply, body={**reply.body, "usage": usage})

    def _embeddings(self, request: Json) -> Reply:
        sizes, model = dict(request), request["model"]
        size = sizes.pop("output_dimension", None)
        if size and model != "codestral-embed":
            raise Refusal("This model does not support output_dimension.")
        _require_fitting(request["input"])
        own = answers.OWN_DIMENSIONS.get(model, 256)
        # The default of the model that makes several lengths is not its greatest.
        return answers.embeddings({**sizes, "dimensions": size or (own // 2 if model == "codestral-embed" else own)})

    def body(self, reply: Reply) -> Json:
        thoughts = _thoughts(reply)
        if not thoughts:
            return reply.body
        choices = []
        for choice in reply.body["choices"]:
            parts = [*thoughts, {"type": "text", "text": choice["message"]["content"]}]
            choices.append({**choice, "message": {"role": "assistant", "content": parts}})
        return {**reply.body, "choices": choices}

    def moments(self, reply: Reply, request: Json) -> Iterator[list[Json]]:
        first, *pieces, last = answers.events(reply, groq=False, usage=False)
        first["choices"][0]["delta"]["content"] = _thoughts(reply) or ""
        yield from ([piece] for piece in (first, *pieces))
        yield [{**last, "usage": reply.body["usage"]} if "usage" in reply.body else last]

    def failure(self, status: int, message: Any, code: str = "") -> Json:
        if status in (401, 403):
            return {"detail": message}
        told = {"message": message, "type": "invalid_request_error", "param": None, "code": code or None}
        return {"object": "error", **told}


def _require_fitting(texts: list[str]) -> None:
    if len(texts) > MOST_TEXTS:
        raise Refusal("Too many inputs in request, split into more batches.")
    read = math.ceil(DENSITY * sum(map(encodings.tokenizer("cl100k_base").count, texts)))
    if read > MOST_TOKENS:
        raise Refusal(f"Too many tokens in batch. Max is {MOST_TOKENS} got {read}")


def _thoughts(reply: Reply) -> list[Json]:
    """What the model thought, where it does, as a part of the answer's content."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": answers.THOUGHT}]}
    return [thought] if answers.THINKING_MODEL.match(reply.body["model"]) else []
