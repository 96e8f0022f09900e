"""Cohere's dialect: version 2 of its API, in which an answer comes in blocks and vectors in their order."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from apps.providers import encodings
from tests.fakes import answers
from tests.fakes.answers import OWN_DIMENSIONS, Refusal, Reply
from tests.fakes.dialects import Json, OpenAI

FINISHES = {"stop": "COMPLETE", "length": "MAX_TOKENS"}
TAKEN = {
    "chat": frozenset(
        {"model", "messages", "max_tokens", "temperature", "stream", "thinking", "seed", "p", "k"}
        | {"frequency_penalty", "presence_penalty"}
    ),
    "embeddings": frozenset({"model", "texts", "input_type", "embedding_types", "truncate", "output_dimension"}),
}
INPUT_TYPES = frozenset({"search_document", "search_query", "classification", "clustering"})
MOST_TEXTS = 96
#: What the older models take of a text.
LONGEST_TEXT = 512
LENGTHS = frozenset({256, 512, 1024, 1536})
#: What Cohere puts before a conversation; it is seen, and not billed.
PREAMBLE = 66


class Cohere(OpenAI):
    """Chat and embeddings. Nothing that Cohere adds is counted."""

    id_header = "X-Debug-Trace-ID"
    ending = "[DONE]"
    error_event: Json = {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "internal server error"}}

    def reply(self, kind: str, request: Json, headers: Mapping[str, str], request_id: str) -> Reply:
        for name in sorted(request.keys() - TAKEN[kind]):
            raise Refusal(f"unknown field: parameter '{name}' is not a valid field", status=422)
        return self._chat(request, request_id) if kind == "chat" else self._embeddings(request)

    def _chat(self, request: Json, request_id: str) -> Reply:
        if not all(message["content"].strip() for message in request["messages"]):
            raise Refusal("message must not be empty in a turn")
        if not 0 <= request.get("temperature", 0) <= 2:
            raise Refusal("invalid request: temperature must be between 0 and 2.0 inclusive.")
        reply = answers.chat(request, request_id)
        tokenizer = encodings.tokenizer("o200k_base")
        prompt = sum(tokenizer.count(message["content"]) for message in request["messages"])
        counted = {"prompt_tokens": prompt, "completion_tokens": reply.completion_tokens}
        seen = {"input_tokens": prompt + PREAMBLE, "output_tokens": reply.completion_tokens}
        body = {**reply.body, "usage": {**counted, "tokens": seen, "cached_tokens": PREAMBLE}}
        return replace(reply, prompt_tokens=prompt, body=body)

    def _embeddings(self, request: Json) -> Reply:
        texts, model = request["texts"], request["model"]
        if len(texts) > MOST_TEXTS:
            raise Refusal(f"invalid request: total number of texts must be at most 96 - received {len(texts)}")
        if request.get("input_type") not in INPUT_TYPES:
            raise Refusal("invalid request: valid input_type must be provided with the provided model")
        if "output_dimension" in request and (model != "embed-v4.0" or request["output_dimension"] not in LENGTHS):
            raise Refusal("invalid request: output_dimension is not valid for this model")
        longest = max(map(encodings.tokenizer("cl100k_base").count, texts))
        if request.get("truncate") == "NONE" and model != "embed-v4.0" and longest > LONGEST_TEXT:
            raise Refusal("too many tokens: a text is longer than the model takes")
        size = request.get("output_dimension", OWN_DIMENSIONS.get(model, 256))
        return answers.embeddings({"model": model, "input": texts, "dimensions": size})

    def body(self, reply: Reply) -> Json:
        if "data" in reply.body:
            return _vectors(reply)
        told: Json = {name: usage(reply.body[name]) for name in ["usage"] if name in reply.body}
        for choice in reply.body["choices"]:
            blocks = [*_thoughts(reply), {"type": "text", "text": choice["message"]["content"]}]
            told |= {"finish_reason": _finish(reply), "message": {"role": "assistant", "content": blocks}}
        return {"id": reply.body["id"], **told}

    def moments(self, reply: Reply, request: Json) -> Iterator[list[Json]]:
        thoughts = [event for block in _thoughts(reply) for event in _block(0, block)]
        index = len(_thoughts(reply))
        start, stop = _block(index, {"type": "text", "text": ""})
        yield [{"type": "message-start", "id": reply.body["id"], **_said(role="assistant")}, *thoughts, start]
        for word in answers.words(reply.text):
            yield [{"type": "content-delta", "index": index, **_said(content={"text": word})}]
        yield [{"type": "citation-start", "index": 0, **_said(citations={"start": 0, "end": 1})}, stop]
        told = {name: usage(reply.body[name]) for name in ["usage"] if name in reply.body}
        yield [{"type": "message-end", "delta": {"finish_reason": _finish(reply), **told}}]

    def preliminary(self, moment: list[Json]) -> list[Json]:
        return [{**event, "usage": usage({"prompt_tokens": 1, "completion_tokens": 1})} for event in moment]

    def event(self, data: Json) -> str:
        return f"event: {data['type']}\n{super().event(data)}"

    def failure(self, status: int, message: Any, code: str = "") -> Json:
        return {"id": f"fake-{status}", "message": message}


def usage(told: Mapping[str, Any]) -> Json:
    """OpenAI's numbers in Cohere's words: what is billed, what the model saw beside it, no total and no reasoning."""
    said = dict(told)
    said.pop("total_tokens", None)
    said.pop("completion_tokens_details", None)
    if "prompt_tokens_details" in said:
        said["cached_tokens"] = said.pop("prompt_tokens_details")["cached_tokens"]
    names = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
    billed = {names[name]: said.pop(name) for name in names if name in said}
    return {"tokens": billed, **said, "billed_units": billed} if billed else said


def _vectors(reply: Reply) -> Json:
    meta = usage(reply.body["usage"]) if "usage" in reply.body else {}
    return {
        "id": "embd-1",
        "embeddings": {"float": _in_order(reply.body["data"])},
        "meta": {"api_version": {"version": "2"}, **meta},
        "response_type": "embeddings_by_type",
    }


def _in_order(rows: Any) -> Any:
    """Each vector where its index puts it; where none is, there is nothing."""
    placed = {row.get("index"): row["embedding"] for row in rows or []}
    return rows and [placed.get(place) for place in range(len(rows))]


def _finish(reply: Reply) -> str | None:
    reasons = [FINISHES.get(choice["finish_reason"], choice["finish_reason"]) for choice in reply.body["choices"]]
    return reasons[0] if reasons else None


def _thoughts(reply: Reply) -> list[Json]:
    return [{"type": "thinking", "thinking": "Let me see."}] if "reasoning" in reply.body["model"] else []


def _block(index: int, content: Json) -> tuple[Json, Json]:
    """The beginning and the end of a block of content."""
    return {"type": "content-start", "index": index, **_said(content=content)}, {"type": "content-end", "index": index}


def _said(**message: Any) -> Json:
    return {"delta": {"message": message}}
