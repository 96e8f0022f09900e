"""What the fake provider says: always the same to the same request, and counted as the real one counts."""

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from apps.providers import encodings

#: Models that think: they count reasoning, and refuse, as OpenAI's do, what these are.
REASONING_MODEL = re.compile(r"^(o\d|gpt-5)(?!.*chat)")
REFUSED_BY_REASONING = ("max_tokens", "temperature", "top_p", "frequency_penalty", "presence_penalty")
#: All that think before they answer.
THINKING_MODEL = re.compile(rf"{REASONING_MODEL.pattern}|^claude-fable|^magistral|^qwen3")
#: What they think, where it is told.
THOUGHT = "The passages should say."
REASONING_TOKENS = 16
OWN_DIMENSIONS = {
    "text-embedding-3-large": 3072,
    "text-embedding-3-small": 1536,
    "text-embedding-ada-002": 1536,
    "embed-v4.0": 1536,
    "embed-english-v3.0": 1024,
    "codestral-embed": 3072,
    "mistral-embed": 1024,
    "embeddinggemma": 768,
    "nomic-embed-text": 768,
}


class Refusal(Exception):  # noqa: N818 - an answer of the provider, no failure of the fake
    """The request is not one that the real provider would take."""

    def __init__(self, message: Any, *, status: int = 400) -> None:
        super().__init__(message)
        self.message, self.status = message, status


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The body of an answer and what was counted for it."""

    body: dict[str, Any]
    prompt_tokens: int
    completion_tokens: int
    text: str = ""

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


def chat(request: Mapping[str, Any], request_id: str, *, density: float = 1) -> Reply:
    """The end of the last user message, cited as if from the first passage, within the limit of the answer.

    ``density`` is how many tokens of the provider's are one of ours, in what it is sent.
    """
    model, messages = request["model"], request["messages"]
    limit = _limit(request)
    tokenizer = encodings.tokenizer("o200k_base")
    prompt = math.ceil(density * (sum(4 + tokenizer.count(message["content"]) for message in messages) + 3))
    reasoning = REASONING_TOKENS if THINKING_MODEL.match(model) else 0
    full = _answer(messages)
    text = tokenizer.head(full, max(0, limit - reasoning))
    completion = tokenizer.count(text) + reasoning
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": prompt // 4, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
    }
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "finish_reason": "stop" if text == full else "length",
    }
    body = {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [choice],
        "usage": usage,
    }
    return Reply(body=body, prompt_tokens=prompt, completion_tokens=completion, text=text)


def embeddings(request: Mapping[str, Any]) -> Reply:
    """A vector per text, last text first: the ``index`` is what orders them. They are not of unit length."""
    model = request["model"]
    texts = [request["input"]] if isinstance(request["input"], str) else request["input"]
    own = OWN_DIMENSIONS.get(model, 256)
    if "dimensions" in request and model == "text-embedding-ada-002":
        raise Refusal("This model does not support specifying dimensions.")
    if not texts or not all(texts):
        raise Refusal("'$.input' is invalid: a text is empty.")
    size = request.get("dimensions", own)
    tokenizer = encodings.tokenizer("cl100k_base")
    prompt = sum(tokenizer.count(text) for text in texts)
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(2 * vector(text, size), request)}
        for index, text in enumerate(texts)
    ]
    body = {
        "object": "list",
        "data": data[::-1],
        "model": model,
        "usage": {"prompt_tokens": prompt, "total_tokens": prompt},
    }
    return Reply(body=body, prompt_tokens=prompt, completion_tokens=0)


def vector(text: str, size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A hashed bag of words of unit length: texts that share words are near each other."""
    numbers = np.zeros(size, dtype=np.float32)
    for word in re.findall(r"\w+", text.lower()) or [""]:
        digest = hashlib.sha256(word.encode(errors="replace")).digest()
        numbers[int.from_bytes(digest[:4], "big") % size] += 1 if digest[4] % 2 else -1
    if not numbers.any():  # two words can cancel each other
        numbers[0] = 1
    return numbers / np.linalg.norm(numbers)


def events(reply: Reply, *, groq: bool, usage: bool) -> Iterator[dict[str, Any]]:
    """The same answer as the chunks of a stream: the role, the words, the end, the usage."""
    shared = {"id": reply.body["id"], "object": "chat.completion.chunk", "created": 0, "model": reply.body["model"]}
    opening = {"x_groq": {"id": f"req_{reply.body['id']}"}} if groq else {}
    yield {**shared, **_choice({"role": "assistant", "content": ""}), **opening}
    for word in words(reply.text):
        yield {**shared, **_choice({"content": word})}
    closing = {"x_groq": {"id": opening["x_groq"]["id"], "usage": reply.body.get("usage")}} if groq else {}
    ending = [_choice({}, choice["finish_reason"]) for choice in reply.body["choices"]]
    yield from ({**shared, **end, **closing} for end in ending or [{"choices": []}])
    if usage and not groq and "usage" in reply.body:
        yield {**shared, "choices": [], "usage": reply.body["usage"]}


def words(text: Any) -> list[Any]:
    """The pieces that a text is streamed in; what is none comes as it is."""
    return re.findall(r"\S+\s*|\s+", text) if isinstance(text, str) else [text]


def _choice(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def _limit(request: Mapping[str, Any]) -> int:
    if REASONING_MODEL.match(request["model"]):
        for refused in REFUSED_BY_REASONING:
            if refused in request:
                raise Refusal(f"Unsupported parameter: '{refused}' is not supported with this model.")
    return int(request.get("max_completion_tokens", request.get("max_tokens", 4096)))


def _answer(messages: list[dict[str, str]]) -> str:
    asked = [message["content"] for message in messages if message["role"] == "user"]
    words = re.sub(r"<[^>]*>", " ", asked[-1] if asked else "").split()
    digest = hashlib.sha256(json.dumps(messages).encode()).hexdigest()[:8]
    return f"According to the documents [1]: {' '.join(words[-12:])} ({digest})"


def _encoded(numbers: np.ndarray[Any, np.dtype[np.float32]], request: Mapping[str, Any]) -> str | list[float]:
    if request.get("encoding_format") == "base64":
        return base64.b64encode(numbers.astype("<f4").tobytes()).decode()
    return [float(number) for number in numbers]
