"""From a provider's name to an adapter."""

import threading
from collections.abc import Iterator

import pytest

from apps.providers import registry
from apps.providers.base import (
    ChatChunk,
    ChatProvider,
    ChatRequest,
    ChatResult,
    EmbeddingProvider,
    ProviderConfig,
)
from apps.providers.catalog import PROVIDERS, ProviderSpec
from apps.providers.errors import ProviderNotConfiguredError, UnknownProviderError, UnsupportedOperationError
from apps.providers.lines import Line
from tests.providers.conftest import Deploy


class Custom:
    """A deployment's own provider: it answers and does not embed, and counts how often it is built."""

    built: list[ProviderConfig] = []

    def __init__(self, config: ProviderConfig) -> None:
        sum(range(10**6))  # long enough for another thread to come by
        self.built.append(config)

    def complete(self, request: ChatRequest, *, request_id: str, timeout: float) -> ChatResult:
        raise NotImplementedError

    def stream(
        self, request: ChatRequest, *, request_id: str, timeout: float, line: Line | None = None
    ) -> Iterator[ChatChunk]:
        raise NotImplementedError


CUSTOM = f"{__name__}.Custom"


def test_an_adapter_is_built_once_and_shared(deploy: Deploy) -> None:
    deploy({"openai": {"api_key": "sk-1"}})
    assert registry.chat("openai") is registry.chat("openai")
    assert id(registry.chat("openai")) == id(registry.embedding("openai"))


def test_another_key_makes_another_adapter(deploy: Deploy) -> None:
    deploy({"openai": {"api_key": "sk-1"}})
    first = registry.chat("openai")
    deploy({"openai": {"api_key": "sk-2"}})
    assert registry.chat("openai") is not first


def test_threads_that_ask_at_once_get_one_adapter(deploy: Deploy) -> None:
    deploy({"custom": {"adapter": CUSTOM, "api_key": "of-this-test"}})
    together = threading.Barrier(8)
    found: list[ChatProvider] = []

    def ask() -> None:
        together.wait()
        found.append(registry.chat("custom"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert [config.api_key for config in Custom.built].count("of-this-test") == 1


@pytest.mark.parametrize("spec", [spec for spec in PROVIDERS.values() if spec.key_variable], ids=lambda spec: spec.name)
def test_a_missing_key_is_told_with_the_variable_to_set(deploy: Deploy, spec: ProviderSpec) -> None:
    deploy({spec.name: {}})
    with pytest.raises(ProviderNotConfiguredError, match=spec.key_variable):
        registry._adapter(spec)


def test_a_key_with_a_line_break_is_told_without_showing_it(deploy: Deploy) -> None:
    deploy({"openai": {"api_key": "sk-secret\n"}})
    with pytest.raises(ProviderNotConfiguredError, match="OPENAI_API_KEY") as caught:
        registry.chat("openai")
    assert "sk-secret" not in caught.value.detail


def test_the_local_provider_needs_no_configuration(deploy: Deploy) -> None:
    deploy({})
    assert isinstance(registry.chat("local"), ChatProvider)
    assert isinstance(registry.embedding("local"), EmbeddingProvider)


def test_a_provider_that_only_answers_does_not_embed(deploy: Deploy) -> None:
    deploy({"groq": {"api_key": "gsk-1"}, "custom": {"adapter": CUSTOM}})
    for provider in ("groq", "custom"):
        with pytest.raises(UnsupportedOperationError, match=provider):
            registry.embedding(provider)


def test_a_provider_does_not_do_all_that_its_adapter_could(deploy: Deploy) -> None:
    deploy({"groq": {"api_key": "gsk-1", "adapter": "apps.providers.adapters.openai.OpenAIProvider"}})
    assert registry.chat("groq")
    with pytest.raises(UnsupportedOperationError, match="groq"):
        registry.embedding("groq")


def test_an_unknown_provider_is_refused(deploy: Deploy) -> None:
    deploy({})
    with pytest.raises(UnknownProviderError):
        registry.chat("acme")


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_does_nothing_that_its_adapter_cannot(deploy: Deploy, name: str) -> None:
    deploy({name: {"api_key": "k"}})
    does = registry.provider(name).does
    assert does
    assert "chat" not in does or registry.chat(name)
    assert "embed" not in does or registry.embedding(name)


def test_options_reach_the_adapter(deploy: Deploy) -> None:
    deploy({"custom": {"adapter": CUSTOM, "base_url": "http://x", "options": {"region": "eu"}}})
    registry.chat("custom")
    assert Custom.built[-1] == ProviderConfig(name="custom", base_url="http://x", options={"region": "eu"})
