"""A provider that can be asked: OpenAI's adapter, and what became of a request by the fake's own endpoint."""

from dataclasses import replace
from typing import Any

import httpx

from apps.providers import catalog
from apps.providers.adapters import wire
from apps.providers.adapters.channel import Answer
from apps.providers.adapters.openai import OpenAIProvider
from apps.providers.base import ChatResult, EmbeddingRequest, EmbeddingResult, Fate, ProviderConfig
from apps.providers.errors import ProviderUnreachableError

LOOKUP_SECONDS = 10


class AskableProvider(OpenAIProvider):
    """``base_url`` is that of the fake, with its ``/v1``."""

    def __init__(self, config: ProviderConfig) -> None:
        super().__init__(config)
        self._config = config

    def lookup(self, request_id: str) -> ChatResult | EmbeddingResult | Fate:
        try:
            url = f"{self._config.base_url.removesuffix('/v1')}/requests/{request_id}"
            headers = {"Authorization": f"Bearer {self._config.api_key}"}
            response = httpx.get(url, headers=headers, timeout=LOOKUP_SECONDS)
            found = response.raise_for_status().json()
        except httpx.HTTPError as error:
            raise ProviderUnreachableError("The provider could not be asked. Ask again later.") from error
        if found["state"] != "done":
            return Fate(found["state"])
        return _result(found["kind"], Answer(data=found["response"], request_id=""))


def _result(kind: str, answer: Answer) -> ChatResult | EmbeddingResult:
    facts = catalog.model("openai", answer.data["model"])
    if kind == "chat":
        return wire.chat_result(answer, facts)
    items: list[Any] = answer.data["data"]
    # Of the request only the number of texts is known here, and no size that was asked for.
    request = EmbeddingRequest(model=facts.model, texts=("",) * len(items))
    return wire.embedding_result(answer, request, replace(facts, dimensions=None))
