"""Azure OpenAI's dialect: OpenAI's, and what its filters think (Microsoft's v1 reference and "Content filtering")."""

from collections.abc import Iterator
from typing import Any

from tests.fakes.answers import Reply
from tests.fakes.dialects import Json, OpenAI

PROMPT = {"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}
OPENING = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": [PROMPT]}


class AzureOpenAI(OpenAI):
    """Chat completions and embeddings. A stream begins with an event about the prompt, which has no choice."""

    def moments(self, reply: Reply, request: Json) -> Iterator[list[Json]]:
        opening: list[Json] = [OPENING]
        for moment in super().moments(reply, request):
            yield [*opening, *map(_filtered, moment)]
            opening = []

    def failure(self, status: int, message: Any, code: str = "") -> Json:
        error = {"message": message, "type": None, "param": "prompt", "code": code or str(status), "status": status}
        if code == "content_filter":
            error["innererror"] = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}}
        return {"error": error}


def _filtered(event: Json) -> Json:
    return {**event, "choices": [{**choice, "content_filter_results": {}} for choice in event["choices"]]}
