"""What services do otherwise that speak OpenAI's protocol; the fake refuses what each of them refuses."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from apps.providers import registry, tokens
from apps.providers.base import ChatChunk, ChatMessage, ChatRequest, ChatResult, EmbeddingRequest, EmbeddingResult
from apps.providers.errors import (
    PromptCutError,
    ProviderAuthenticationError,
    ProviderBadResponseError,
    ProviderReadRefusalError,
    ProviderRefusedError,
    ProviderUnavailableError,
    UnsupportedDimensionsError,
)
from tests.conformance.conftest import API_KEY
from tests.fakes.answers import THOUGHT
from tests.fakes.ollama import CONTEXT
from tests.fakes.process import FakeProvider

MODELS = {"mistral": "mistral-small-2603", "ollama": "qwen2.5:14b", "azure_openai": "gpt-4o-mini"}
EACH = pytest.mark.parametrize("provider", MODELS)


@pytest.fixture(autouse=True)
def deployment(fake: FakeProvider) -> Iterator[None]:
    providers: dict[str, dict[str, Any]] = {
        "openai": {"api_key": API_KEY, "base_url": f"{fake.url}/v1"},
        "mistral": {"api_key": API_KEY, "base_url": f"{fake.url}/mistral/v1"},
        "ollama": {"base_url": f"{fake.url}/ollama", "context_window": CONTEXT},
        "azure_openai": {
            "api_key": API_KEY,
            "base_url": f"{fake.url}/azure",
            "models": {"support-eu": "o4-mini", "vectors-eu": "text-embedding-ada-002"},
        },
    }
    with override_settings(NOOBLE_PROVIDERS=providers):
        yield


def question(provider: str, model: str = "", text: str = "How heavy is the pump?") -> ChatRequest:
    messages = (ChatMessage(role="user", content=text),)
    return ChatRequest(model=model or MODELS[provider], messages=messages, max_tokens=100, temperature=0.5)


def ask(provider: str, model: str = "", text: str = "How heavy is the pump?") -> ChatResult:
    return registry.chat(provider).complete(question(provider, model, text), request_id="nbl-1", timeout=30)


def stream(provider: str, model: str = "", text: str = "How heavy is the pump?") -> list[ChatChunk]:
    asked = question(provider, model, text)
    return list(registry.chat(provider).stream(asked, request_id="nbl-2", timeout=30))


def embed(provider: str, model: str, *texts: str, dimensions: int | None = None) -> EmbeddingResult:
    request = EmbeddingRequest(model=model, texts=texts or ("a pump",), dimensions=dimensions)
    return registry.embedding(provider).embed(request, request_id="nbl-3", timeout=30)


@pytest.mark.parametrize(("provider", "model"), [("mistral", "magistral-medium-2509"), ("ollama", "qwen3:8b")])
def test_what_a_model_thinks_is_counted_and_is_no_part_of_its_answer(
    fake: FakeProvider, provider: str, model: str
) -> None:
    whole, chunks = ask(provider, model), stream(provider, model)
    assert whole.text.startswith("According to the documents")
    assert "".join(chunk.delta for chunk in chunks) == whole.text
    assert THOUGHT not in whole.text
    ends: list[ChatResult | ChatChunk] = [whole, chunks[-1]]
    for told, line in zip(ends, fake.tally(), strict=True):
        assert told.usage is not None
        assert told.usage.plain_output_tokens == line["completion_tokens"]


@pytest.mark.parametrize(
    "content", [[42], [{"type": "text", "text": 42}], {"type": "text", "text": "no list"}], ids=["part", "text", "map"]
)
def test_parts_that_cannot_be_read_are_a_bad_response(fake: FakeProvider, content: Any) -> None:
    fake.fail("no_text", content=content)
    with pytest.raises(ProviderBadResponseError, match="is not text"):
        ask("mistral")


@EACH
def test_an_answer_that_ends_by_a_failure_is_a_failure_and_keeps_its_usage(fake: FakeProvider, provider: str) -> None:
    fake.fail("finish", reason="error", times=2)
    for call in (ask, stream):
        with pytest.raises(ProviderUnavailableError) as caught:
            call(provider)
        assert not caught.value.uncounted
        # Mistral tells the usage with the end, others after it, when nobody listens any more.
        assert (caught.value.usage is not None) == (call is ask or provider == "mistral")


@EACH
def test_an_answer_that_the_window_ends_says_what_one_says_that_reached_its_limit(
    fake: FakeProvider, provider: str
) -> None:
    fake.fail("finish", reason="model_length", times=2)
    assert ask(provider).finish_reason == "length"
    assert stream(provider)[-1].finish_reason == "length"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            {"detail": [{"loc": ["body", "top_k"], "msg": "Extra inputs are not permitted", "input": "the question"}]},
            "(422): body.top_k: Extra inputs are not permitted.",
        ),
        ("Prompt contains 300000 tokens", "(422): Prompt contains 300000 tokens"),
        ([], "(422): it gave no reason."),
    ],
)
def test_mistrals_reasons_are_told_and_never_what_was_sent(fake: FakeProvider, message: Any, expected: str) -> None:
    fake.fail("422", message=message)
    with pytest.raises(ProviderRefusedError) as caught:
        ask("mistral")
    assert caught.value.detail == f"Mistral refused the request {expected}"


def test_a_word_that_mistral_does_not_know_would_be_refused(fake: FakeProvider) -> None:
    # What keeps the other tests honest: the adapter of OpenAI sends such words.
    entry = {"adapter": "apps.providers.adapters.openai.OpenAIProvider", "base_url": f"{fake.url}/mistral/v1"}
    with override_settings(NOOBLE_PROVIDERS={"mistral": {**entry, "api_key": API_KEY}}):
        with pytest.raises(ProviderRefusedError, match=r"body\.stream_options: Extra inputs"):
            stream("mistral")
        with pytest.raises(ProviderRefusedError, match=r"body\.dimensions: Extra inputs"):
            embed("mistral", "codestral-embed", dimensions=256)


def test_mistral_is_told_the_length_of_vectors_where_it_makes_several(fake: FakeProvider) -> None:
    assert embed("mistral", "codestral-embed").vectors.shape == (1, 3072)
    assert embed("mistral", "codestral-embed", dimensions=512).vectors.shape == (1, 512)
    assert embed("mistral", "mistral-embed").vectors.shape == (1, 1024)
    sent = [arrival["body"].get("output_dimension") for arrival in fake.arrivals()]
    assert sent == [3072, 512, None]


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_ollama_needs_no_key_and_its_address_no_path(fake: FakeProvider, suffix: str) -> None:
    with override_settings(NOOBLE_PROVIDERS={"ollama": {"base_url": f"{fake.url}/ollama{suffix}"}}):
        assert ask("ollama", "acme/tuned-llama:8b-q4_K_M").text
    [arrival] = fake.arrivals()
    assert arrival["path"] == "/ollama/v1/chat/completions"
    assert arrival["body"]["model"] == "acme/tuned-llama:8b-q4_K_M"


def test_a_prompt_that_ollama_cut_has_no_answer_and_keeps_its_usage(fake: FakeProvider) -> None:
    long = "The pump weighs forty kilograms. " * 800
    for call in (ask, stream):
        with pytest.raises(PromptCutError, match=r"read 2,050 of about \d,\d{3} tokens") as caught:
            call("ollama", text=long)
        assert not caught.value.uncounted
        assert not caught.value.retryable
        assert caught.value.usage is not None
        assert caught.value.usage.total_tokens == fake.tally()[-1]["total"]


def test_more_than_ollama_holds_is_believed_when_it_says_that_it_counted_it(fake: FakeProvider) -> None:
    usage = {"prompt_tokens": 4000, "completion_tokens": 1000, "total_tokens": 5000}
    fake.fail("usage", usage=usage)
    result = ask("ollama")
    assert result.usage is not None
    assert result.usage.total_tokens == 5000


@pytest.mark.parametrize(("text", "reason"), [("a pump " * 300, "has about 6"), ("", "is empty")])
def test_a_text_that_ollama_would_cut_or_has_nothing_of_is_not_sent(fake: FakeProvider, text: str, reason: str) -> None:
    with pytest.raises(ProviderRefusedError, match=f"at index 1 {reason}|nothing to embed in the text at index 1"):
        embed("ollama", "all-minilm", "a pump", text)
    assert fake.arrivals() == []


def test_ollamas_reason_may_be_no_more_than_a_text(fake: FakeProvider) -> None:
    fake.fail("404", message="no such model here")
    with pytest.raises(ProviderRefusedError, match="no such model here"):
        ask("ollama")
    fake.fail("401", message="unauthorized")
    with pytest.raises(ProviderAuthenticationError, match="Ollama did not accept the key"):
        ask("ollama")


@pytest.mark.parametrize("code", ["content_filter", "context_length_exceeded"])
def test_a_refusal_that_azure_charges_for_is_no_proof_that_nothing_was_counted(fake: FakeProvider, code: str) -> None:
    fake.fail("400", code=code, counted=True, message="The response was filtered", times=3)
    for call in (ask, stream):
        with pytest.raises(ProviderReadRefusalError, match="The response was filtered") as caught:
            call("azure_openai")
        assert not caught.value.uncounted
        assert not caught.value.retryable
    # OpenAI charges for no refusal.
    with pytest.raises(ProviderRefusedError) as refused:
        ask("openai", "gpt-4o-mini")
    assert refused.value.uncounted


def test_an_answer_that_azure_filtered_says_so(fake: FakeProvider) -> None:
    fake.fail("finish", reason="content_filter", times=2)
    assert ask("azure_openai").finish_reason == "content_filter"
    assert stream("azure_openai")[-1].finish_reason == "content_filter"


@pytest.mark.parametrize("suffix", ["", "/", "/openai/v1", "/openai/v1/"])
def test_azure_is_called_by_its_v1_interface(fake: FakeProvider, suffix: str) -> None:
    entry = {"api_key": API_KEY, "base_url": f"{fake.url}/azure{suffix}"}
    with override_settings(NOOBLE_PROVIDERS={"azure_openai": entry}):
        ask("azure_openai")
    [arrival] = fake.arrivals()
    assert arrival["path"] == "/azure/openai/v1/chat/completions"
    assert arrival["headers"]["authorization"] == f"Bearer {API_KEY}"


def test_a_deployment_is_asked_as_the_model_is_that_it_stands_for(fake: FakeProvider) -> None:
    ask("azure_openai", "support-eu")
    body = fake.arrivals()[0]["body"]
    assert body["model"] == "support-eu"
    assert body["max_completion_tokens"] == 100
    assert not {"max_tokens", "temperature"} & body.keys()
    with pytest.raises(UnsupportedDimensionsError, match="vectors-eu makes vectors of 1536"):
        embed("azure_openai", "vectors-eu", dimensions=256)


def test_a_deployment_is_counted_by_its_models_tokenizer() -> None:
    request = question("azure_openai", "support-eu")
    exact = tokens.count_chat(question("openai", "o4-mini"), provider="openai")
    assert tokens.count_chat(request, provider="azure_openai") == exact
    assert not exact.estimated
    assert tokens.count_chat(question("azure_openai", "unknown"), provider="azure_openai").estimated
