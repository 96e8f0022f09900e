"""The words in which the fake provider takes a request and says its answer: OpenAI's, and Groq's.

What it answers, what it counts and how it fails is the same in every dialect, and made in OpenAI's words
(:mod:`tests.fakes.answers`, :mod:`tests.fakes.faults`). A dialect refuses what its provider would refuse, and says the
rest in its own: Anthropic's is :mod:`tests.fakes.messages`, those of others are modules of their names.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tests.fakes import answers
from tests.fakes.answers import Refusal, Reply

Json = dict[str, Any]

#: What OpenAI takes to be embedded in one call.
MOST_TEXTS = 2048
MOST_TOKENS = 300_000
#: Models of OpenAI's and Groq's that do not think.
PLAIN_MODEL = re.compile(r"^(gpt-[34]|llama)")


class OpenAI:
    """Chat completions and embeddings."""

    #: The header with the provider's id of the call.
    id_header = "X-Request-Id"
    #: The data that end a stream, if any do.
    ending = "[DONE]"
    error_event: Json = {"error": {"message": "The server had an error", "type": "server_error"}}

    def reply(self, kind: str, request: Json, headers: Mapping[str, str], request_id: str) -> Reply:
        """What is answered and counted; raises Refusal."""
        if "reasoning_effort" in request and PLAIN_MODEL.match(request["model"]):
            raise Refusal("`reasoning_effort` is not supported with this model")
        return answers.chat(request, request_id) if kind == "chat" else self._embeddings(request)

    def _embeddings(self, request: Json) -> Reply:
        texts = [request["input"]] if isinstance(request["input"], str) else request["input"]
        if len(texts) > MOST_TEXTS:
            raise Refusal(
                f"Invalid 'input': array too long. Expected at most {MOST_TEXTS}, but got {len(texts)} instead."
            )
        # What its users have found: before it is read, a request is judged by its bytes.
        guessed = sum(len(text.encode(errors="replace")) for text in texts) // 4
        if guessed > MOST_TOKENS:
            raise Refusal(f"Requested {guessed} tokens, max {MOST_TOKENS} tokens per request")
        return answers.embeddings(request)

    def body(self, reply: Reply) -> Json:
        """The answer in one piece."""
        return reply.body

    def moments(self, reply: Reply, request: Json) -> Iterable[list[Json]]:
        """The answer as a stream, by what comes at once: what opens it, the words one by one, what ends it."""
        usage = bool((request.get("stream_options") or {}).get("include_usage"))
        return ([event] for event in answers.events(reply, groq=False, usage=usage))

    def preliminary(self, moment: list[Json]) -> list[Json]:
        """The same moment, with a usage that is not the last."""
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return [{**event, "usage": usage} for event in moment]

    def event(self, data: Json) -> str:
        """What one event is on the wire."""
        return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"

    def failure(self, status: int, message: Any, code: str = "") -> Json:
        """The body of an error; the message is a text, unless a test wants another one."""
        return {"error": {"message": message, "type": "fake", "code": code or str(status)}}


class Groq(OpenAI):
    """Chat completions, with the usage of a stream unasked."""

    def reply(self, kind: str, request: Json, headers: Mapping[str, str], request_id: str) -> Reply:
        if "stream_options" in request:
            raise Refusal("property 'stream_options' is unsupported")
        return super().reply(kind, request, headers, request_id)

    def moments(self, reply: Reply, request: Json) -> Iterable[list[Json]]:
        return ([event] for event in answers.events(reply, groq=True, usage=False))
