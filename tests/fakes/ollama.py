"""Ollama's dialect: OpenAI's as its sources have it (``openai/openai.go``; ``server/prompt.go``, the runners)."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tests.fakes import answers
from tests.fakes.answers import Reply
from tests.fakes.dialects import Json, OpenAI

#: What it holds of a request: its default without a large graphics card.
CONTEXT = 4096


class Ollama(OpenAI):
    """Chat completions and embeddings. It passes over what it does not know and cuts what does not fit, unsaid."""

    def reply(self, kind: str, request: Json, headers: Mapping[str, str], request_id: str) -> Reply:
        if kind == "embeddings":
            return answers.embeddings({**request, "input": [text or " " for text in request["input"]]})
        known = {name: value for name, value in request.items() if name != "max_completion_tokens"}
        return _plainly_counted(answers.chat(known, request_id))

    def body(self, reply: Reply) -> Json:
        thoughts = _thoughts(reply)
        if not thoughts:
            return reply.body
        choices = [{**each, "message": {**each["message"], **thoughts}} for each in reply.body["choices"]]
        return {**reply.body, "choices": choices}

    def moments(self, reply: Reply, request: Json) -> Iterator[list[Json]]:
        first, *moments = super().moments(reply, request)
        first[0]["choices"][0]["delta"] |= _thoughts(reply)
        yield from (first, *moments)

    def failure(self, status: int, message: Any, code: str = "") -> Json:
        if status in (401, 403, 404):  # its cloud, a proxy, and what its own interface says
            return {"error": message}
        return {"error": {"message": message, "type": "api_error", "param": None, "code": None}}


def _plainly_counted(reply: Reply) -> Reply:
    """Without a breakdown; a prompt that is too long counts for the half of the context that is left of it."""
    fits = reply.prompt_tokens <= CONTEXT
    prompt, completion = reply.prompt_tokens if fits else CONTEXT // 2 + 2, reply.completion_tokens
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return replace(reply, prompt_tokens=prompt, body={**reply.body, "usage": usage})


def _thoughts(reply: Reply) -> Json:
    """What the model thought, where it does, beside the answer's content."""
    return {"reasoning": answers.THOUGHT} if answers.THINKING_MODEL.match(reply.body["model"]) else {}
