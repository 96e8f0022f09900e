"""Mistral: OpenAI's wire format, of which it refuses every word that is not in its own reference."""

from typing import Any

from apps.providers.adapters import wire
from apps.providers.adapters.openai import OpenAIProvider
from apps.providers.base import EmbeddingRequest
from apps.providers.catalog import ModelSpec


class MistralProvider(OpenAIProvider):
    """Chat completions and embeddings.

    It knows ``max_tokens`` only, for models that think as well; none of the catalogue's is therefore marked so. What
    they thought is a part of the answer's content, is left out of its text and counted as plain output.
    """

    name = "mistral"
    title = "Mistral"
    base_url = "https://api.mistral.ai/v1"

    def _streamed(self, body: dict[str, Any]) -> dict[str, Any]:
        # The usage comes unasked, with the last piece; ``stream_options`` are refused.
        return {**body, "stream": True}

    def _texts(self, request: EmbeddingRequest, facts: ModelSpec) -> dict[str, Any]:
        # Its base64 is documented by a name only. The SDK asks for it unless it is told otherwise.
        body = {"model": request.model, "input": list(request.texts), "encoding_format": "float"}
        return {**body, "extra_body": _output_dimension(request, facts)}


def _output_dimension(request: EmbeddingRequest, facts: ModelSpec) -> dict[str, int]:
    """What Mistral calls ``dimensions``. The default of a model that makes several lengths is not its greatest."""
    wanted = wire.dimensions(request, facts).get("dimensions")
    length = wanted or (facts.dimensions if facts.matryoshka else None)
    return {"output_dimension": length} if length else {}
