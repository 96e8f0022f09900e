"""What one family of models needs, as the registry tells it."""

from collections.abc import Iterator

import pytest
from django.test import override_settings

from apps.providers import registry
from apps.providers.base import ChatMessage, ChatRequest
from apps.providers.errors import ProviderUnavailableError
from tests.conformance.conftest import API_KEY
from tests.fakes.process import FakeProvider


@pytest.fixture(autouse=True)
def deployment(fake: FakeProvider) -> Iterator[None]:
    providers = {
        "openai": {"api_key": API_KEY, "base_url": f"{fake.url}/v1"},
        "groq": {"api_key": API_KEY, "base_url": fake.url},
    }
    with override_settings(NOOBLE_PROVIDERS=providers):
        yield


def ask(provider: str, model: str) -> ChatRequest:
    messages = (ChatMessage(role="user", content="How heavy is the pump?"),)
    request = ChatRequest(model=model, messages=messages, max_tokens=100, temperature=0.5)
    result = registry.chat(provider).complete(request, request_id=f"nbl-{model}", timeout=30)
    assert result.usage is not None
    assert (result.usage.reasoning_tokens > 0) == (provider == "openai")
    return request


@pytest.mark.parametrize("model", ["o3", "o4-mini-2025-04-16", "gpt-5", "gpt-5-mini"])
def test_a_reasoning_model_gets_its_own_limit_and_no_temperature(fake: FakeProvider, model: str) -> None:
    # The fake refuses anything else, as OpenAI does.
    ask("openai", model)
    body = fake.arrivals()[0]["body"]
    assert body["max_completion_tokens"] == 100
    assert not {"max_tokens", "temperature"} & body.keys()


def test_groq_is_told_to_keep_its_reasoning_out_of_the_answer(fake: FakeProvider) -> None:
    ask("groq", "qwen/qwen3-32b")
    body = fake.arrivals()[0]["body"]
    assert body["reasoning_format"] == "hidden"
    assert (body["max_completion_tokens"], body["temperature"]) == (100, 0.5)


@pytest.mark.parametrize("suffix", ["", "/", "/openai/v1", "/openai/v1/"])
def test_groqs_base_url_may_be_the_one_that_openais_sdk_takes(fake: FakeProvider, suffix: str) -> None:
    with override_settings(NOOBLE_PROVIDERS={"groq": {"api_key": API_KEY, "base_url": fake.url + suffix}}):
        ask("groq", "llama-3.1-8b-instant")
    assert fake.arrivals()[0]["path"] == "/openai/v1/chat/completions"


def test_a_service_of_another_name_is_called_by_it(fake: FakeProvider) -> None:
    entry = {"adapter": "apps.providers.adapters.openai.OpenAIProvider", "base_url": f"{fake.url}/v1"}
    fake.fail("503")
    with override_settings(NOOBLE_PROVIDERS={"vllm": entry}), pytest.raises(ProviderUnavailableError, match=r"^vllm "):
        ask("vllm", "acme-7b")


def test_a_service_of_another_name_passes_openais_models_on(fake: FakeProvider) -> None:
    # The fake refuses what OpenAI's reasoning models refuse.
    entry = {"adapter": "apps.providers.adapters.openai.OpenAIProvider", "base_url": f"{fake.url}/v1"}
    with override_settings(NOOBLE_PROVIDERS={"passing-on": entry}):
        messages = (ChatMessage(role="user", content="Hello?"),)
        request = ChatRequest(model="o4-mini", messages=messages, max_tokens=100, temperature=0.5)
        assert registry.chat("passing-on").complete(request, request_id="nbl-on", timeout=30).text


def test_a_service_without_keys_is_an_entry_with_openais_adapter(fake: FakeProvider) -> None:
    entry = {"adapter": "apps.providers.adapters.openai.OpenAIProvider", "base_url": f"{fake.url}/v1"}
    with override_settings(NOOBLE_PROVIDERS={"vllm": entry}):
        messages = (ChatMessage(role="user", content="Hello?"),)
        request = ChatRequest(model="acme-7b", messages=messages, max_tokens=50)
        assert registry.chat("vllm").complete(request, request_id="nbl-vllm", timeout=30).text
