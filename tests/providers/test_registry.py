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
    Credential,
    EmbeddingProvider,
    ProviderConfig,
)
from apps.providers.catalog import PROVIDERS, ProviderSpec
from apps.providers.errors import (
    ProviderNotConfiguredError,
    ProviderUnreachableError,
    UnknownProviderError,
    UnsupportedOperationError,
)
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
    with pytest.raises(ProviderNotConfiguredError, match=rf"PUT /credentials/{spec.name}.* Set {spec.key_variable}\."):
        registry._adapter(spec)


def test_a_missing_address_is_told_with_the_variable_to_set(deploy: Deploy) -> None:
    deploy({"azure_openai": {"api_key": "k"}})
    with pytest.raises(ProviderNotConfiguredError, match="AZURE_OPENAI_ENDPOINT"):
        registry.chat("azure_openai")


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
    deploy({name: {"api_key": "k", "base_url": "https://models.example.com"}})
    does = PROVIDERS[name].does
    assert does
    assert "chat" not in does or registry.chat(name)
    assert "embed" not in does or registry.embedding(name)


def test_options_reach_the_adapter(deploy: Deploy) -> None:
    deploy({"custom": {"adapter": CUSTOM, "base_url": "http://x", "options": {"region": "eu"}}})
    registry.chat("custom")
    assert Custom.built[-1] == ProviderConfig(name="custom", base_url="http://x", options={"region": "eu"})


TENANTS = Credential(api_key="sk-of-the-tenant")


def test_a_tenants_key_stands_in_for_the_deployments(deploy: Deploy) -> None:
    deploy({"custom": {"adapter": CUSTOM, "api_key": "sk-1", "base_url": "http://x", "options": {"region": "eu"}}})
    registry.chat("custom", TENANTS)
    expected = ProviderConfig(name="custom", api_key=TENANTS.api_key, base_url="http://x", options={"region": "eu"})
    assert Custom.built[-1] == expected


def test_a_tenants_key_is_enough(deploy: Deploy) -> None:
    deploy({"openai": {}})
    assert registry.chat("openai", TENANTS) is registry.chat("openai", TENANTS)
    with pytest.raises(ProviderNotConfiguredError):
        registry.chat("openai")


def test_tenants_with_different_keys_share_no_adapter(deploy: Deploy) -> None:
    deploy({"openai": {"api_key": "sk-1"}})
    found = {id(registry.chat("openai", each)) for each in (None, TENANTS, Credential(api_key="sk-of-another"))}
    assert len(found) == 3


def test_a_tenants_address_goes_before_the_deployments(deploy: Deploy) -> None:
    deploy({"custom": {"adapter": CUSTOM, "base_url": "http://x"}})
    registry.chat("custom", Credential(api_key="sk-1", base_url="https://8.8.8.8/v1"))
    assert Custom.built[-1].base_url == "https://8.8.8.8/v1"


def test_a_tenants_address_that_is_private_is_not_called(deploy: Deploy) -> None:
    deploy({"custom": {"adapter": CUSTOM}})
    built = len(Custom.built)
    with pytest.raises(ProviderNotConfiguredError, match="Ask the operator") as caught:
        registry.chat("custom", Credential(api_key="sk-1", base_url="https://10.0.0.7/v1"))
    assert "10.0.0.7" not in caught.value.detail
    assert len(Custom.built) == built


def test_a_tenants_address_that_cannot_be_resolved_is_tried_again_later(deploy: Deploy) -> None:
    deploy({"custom": {"adapter": CUSTOM}})
    with pytest.raises(ProviderUnreachableError) as caught:
        registry.chat("custom", Credential(api_key="sk-1", base_url="https://no-such-host.invalid/v1"))
    assert caught.value.retryable
    assert caught.value.uncounted


def test_a_key_is_in_no_text_of_what_holds_it() -> None:
    assert TENANTS.api_key not in repr(TENANTS)
