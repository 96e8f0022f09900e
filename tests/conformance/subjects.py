"""The adapters that keep the contract. To add one: a line here, and what the fake provider must know of its wire."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from apps.providers.catalog import PROVIDERS
from tests.fakes import cohere, messages


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One adapter, the models that it is tried with, and how a deployment configures it."""

    name: str
    chat_model: str
    embedding_model: str = ""
    #: Sizes of vectors: the model's own, and a smaller one.
    dimensions: int = 0
    smaller: int = 0
    #: Speaks HTTP to a provider; the fake plays it.
    is_remote: bool = True
    is_askable: bool = False
    #: Whether the provider takes one; none is sent to one that does not.
    takes_temperature: bool = True
    #: Where in a request its extras stand; empty: among the other words.
    extras_in: str = ""
    #: A usage of OpenAI's as the provider tells it.
    usage: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    #: Whether it is told how much of the input was cached, and of the output thought, of what is billed.
    tells_parts: bool = True
    #: An embedding model of one size.
    one_size: str = ""
    #: Under this path of the fake.
    base_path: str = ""
    adapter: str = ""

    def settings(self, fake_url: str, api_key: str) -> dict[str, Any]:
        """Its entry in ``NOOBLE_PROVIDERS``."""
        if not self.is_remote:
            return {}
        entry = {"api_key": api_key, "base_url": fake_url + self.base_path}
        return {**entry, "adapter": self.adapter} if self.adapter else entry


SUBJECTS = (
    Subject(
        name="openai",
        chat_model="gpt-4o-mini",
        embedding_model="text-embedding-3-small",
        dimensions=1536,
        smaller=256,
        one_size="text-embedding-ada-002",
        base_path="/v1",
    ),
    Subject(name="groq", chat_model="llama-3.3-70b-versatile", base_path="/openai/v1"),
    Subject(
        name="anthropic",
        chat_model="claude-sonnet-5-5",
        takes_temperature=False,
        extras_in="output_config",
        usage=messages.usage,
    ),
    Subject(
        name="cohere",
        chat_model="command-a-03-2025",
        embedding_model="embed-v4.0",
        dimensions=1536,
        smaller=256,
        usage=cohere.usage,
        tells_parts=False,
        one_size="embed-english-v3.0",
    ),
    Subject(
        name="mistral",
        chat_model="mistral-small-2603",
        embedding_model="codestral-embed",
        dimensions=3072,
        smaller=256,
        one_size="mistral-embed",
        base_path="/mistral/v1",
    ),
    Subject(
        name="ollama",
        chat_model="qwen2.5",
        embedding_model="embeddinggemma",
        dimensions=768,
        smaller=256,
        one_size="nomic-embed-text",
        base_path="/ollama/v1",
    ),
    Subject(
        name="azure_openai",
        chat_model="gpt-4o-mini",
        embedding_model="text-embedding-3-small",
        dimensions=1536,
        smaller=256,
        one_size="text-embedding-ada-002",
        base_path="/azure/openai/v1",
    ),
    Subject(
        name="local",
        chat_model="extractive",
        embedding_model="wordllama-256",
        dimensions=256,
        smaller=64,
        is_remote=False,
    ),
    Subject(
        name="askable",
        chat_model="gpt-4o-mini",
        embedding_model="text-embedding-3-small",
        dimensions=1536,
        smaller=256,
        one_size="text-embedding-ada-002",
        is_askable=True,
        base_path="/v1",
        adapter="tests.fakes.adapter.AskableProvider",
    ),
)
EMBEDDING = tuple(subject for subject in SUBJECTS if subject.embedding_model)
LIMITED = tuple(subject for subject in EMBEDDING if subject.name in PROVIDERS and PROVIDERS[subject.name].max_texts)
REMOTE = tuple(subject for subject in SUBJECTS if subject.is_remote)
ASKABLE = tuple(subject for subject in SUBJECTS if subject.is_askable)
