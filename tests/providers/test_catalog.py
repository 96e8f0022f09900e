"""Providers and models as data."""

import pytest

from apps.providers import catalog, encodings
from apps.providers.adapters.local import LocalProvider
from apps.providers.base import EmbeddingRequest, ProviderConfig
from apps.providers.errors import UnknownProviderError, UnsupportedDimensionsError
from tests.providers.conftest import Deploy

ALL_MODELS = [spec for rows in catalog._table().values() for spec in rows.values()]


@pytest.mark.parametrize("spec", ALL_MODELS, ids=lambda spec: f"{spec.provider}:{spec.model}")
def test_every_known_model_is_told_consistently(spec: catalog.ModelSpec) -> None:
    assert spec.family
    assert spec.tokenizer is None or encodings.tokenizer(spec.tokenizer).count("one two") > 0
    assert (spec.dimensions is None) == (spec.matryoshka is None)
    assert not spec.lengths or (spec.matryoshka and max(spec.lengths) == spec.dimensions)
    window, longest = spec.context_window, spec.max_output_tokens
    assert window is None or longest is None or longest <= window


def test_a_dated_model_has_the_facts_of_the_model_it_is_dated_from() -> None:
    dated, model = catalog.model("openai", "gpt-4.1-mini-2025-04-14"), catalog.model("openai", "gpt-4.1-mini")
    assert dated.model == "gpt-4.1-mini-2025-04-14"
    assert (
        (dated.context_window, dated.tokenizer) == (model.context_window, model.tokenizer) == (1_047_576, "o200k_base")
    )


def test_a_date_may_be_written_without_hyphens() -> None:
    dated, model = (catalog.model("anthropic", name) for name in ("claude-haiku-4-5-20251001", "claude-haiku-4-5"))
    assert dated.context_window == model.context_window == 200_000


def test_a_dated_model_with_facts_of_its_own_keeps_them() -> None:
    assert catalog.model("openai", "gpt-4o-2024-05-13").max_output_tokens == 4_096
    assert catalog.model("openai", "gpt-4o-2024-08-06").max_output_tokens == 16_384


def test_a_tuned_model_has_the_facts_of_the_model_it_was_tuned_from() -> None:
    tuned = catalog.model("openai", "ft:gpt-4o-mini-2024-07-18:acme:support:9xyz")
    assert (tuned.family, tuned.context_window) == ("gpt-4o", 128_000)


def test_a_tag_has_the_facts_of_the_name_unless_it_has_its_own() -> None:
    assert catalog.model("ollama", "qwen2.5:14b").context_window == 32_768
    assert catalog.model("ollama", "qwen3-embedding:0.6b").dimensions == 1_024
    assert catalog.model("ollama", "qwen3-embedding:8b").dimensions == 4_096


@pytest.mark.parametrize(("model", "window"), [("qwen3:8b", 16_384), ("phi4:14b", 16_384), ("acme-7b:q4", 16_384)])
def test_no_window_is_longer_than_what_the_server_holds(deploy: Deploy, model: str, window: int) -> None:
    deploy({"ollama": {"context_window": 16_384}})
    assert catalog.model("ollama", model).context_window == window
    assert {spec.context_window for spec in catalog.models("ollama", "chat")} == {8_192, 16_384}
    assert catalog.model("ollama", "llama3").context_window == 8_192


def test_a_deployment_has_the_facts_of_the_model_it_stands_for(deploy: Deploy) -> None:
    deploy({"azure_openai": {"models": {"support-eu": "gpt-4.1-mini-2025-04-14"}}})
    named, model = catalog.model("azure_openai", "support-eu"), catalog.model("openai", "gpt-4.1-mini")
    assert (named.provider, named.model) == ("azure_openai", "support-eu")
    assert (named.context_window, named.tokenizer) == (model.context_window, model.tokenizer)
    assert catalog.model("azure_openai", "gpt-4o").tokenizer == "o200k_base"
    assert not catalog.model("azure_openai", "another").is_known


def test_a_deployments_models_are_those_it_has_named_and_those_it_need_not_name(deploy: Deploy) -> None:
    deploy({"azure_openai": {"models": {"support-eu": "gpt-4.1-mini", "gpt-4o": "gpt-4.1", "another": "acme-7b"}}})
    named, renamed, *others = catalog.models("azure_openai")
    assert {spec.provider for spec in (named, renamed, *others)} == {"azure_openai"}
    assert (named.model, renamed.model, renamed.family) == ("support-eu", "gpt-4o", "gpt-4.1")
    assert {spec.model for spec in others} == {spec.model for spec in catalog.models("openai")} - {"gpt-4o"}


def test_of_an_unknown_model_of_a_known_provider_nothing_is_known() -> None:
    assert catalog.model("openai", "acme-7b") == catalog.ModelSpec(provider="openai", model="acme-7b")
    assert catalog.model("openai", "acme-7b").context_window is None


def test_an_unknown_provider_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(UnknownProviderError, match=f"'acme'.*{', .*'.join(sorted(catalog.PROVIDERS))}"):
        catalog.model("acme", "gpt-4o")


def test_a_deployment_adds_a_provider_by_its_adapter(deploy: Deploy) -> None:
    deploy({"acme": {"adapter": "acme.nooble.AcmeProvider"}})
    assert catalog.provider("acme").adapter == "acme.nooble.AcmeProvider"
    assert catalog.provider_names() == sorted(["acme", *catalog.PROVIDERS])
    assert catalog.model("acme", "any") == catalog.ModelSpec(provider="acme", model="any")


@pytest.mark.parametrize("name", ["all-mpnet-base-v2", "sentence-transformers/all-mpnet-base-v2"])
def test_a_provider_of_the_deployments_own_may_serve_what_anybody_may(deploy: Deploy, name: str) -> None:
    deploy({"tei": {"adapter": "apps.providers.adapters.openai.OpenAIProvider"}})
    facts = catalog.model("tei", name)
    assert (facts.provider, facts.model, facts.does) == ("tei", name, "embed")
    assert (facts.dimensions, facts.makes(768), facts.makes(512)) == (768, True, False)
    assert name in [spec.model for spec in catalog.models("tei", "embed")]
    assert catalog.is_known_not_to("chat", "tei", name)
    assert catalog.is_known_not_to("embed", "openai", name)


def test_a_deployment_replaces_the_adapter_of_a_known_provider(deploy: Deploy) -> None:
    deploy({"openai": {"adapter": "acme.nooble.Wrapped"}})
    assert catalog.provider("openai").adapter == "acme.nooble.Wrapped"
    assert catalog.provider("openai").key_variable == "OPENAI_API_KEY"


def test_of_each_model_family_the_registry_tells_whether_it_takes_a_temperature() -> None:
    reasoning = {spec.model for spec in catalog.models("openai") if spec.reasoning}
    assert {"o1", "o3", "o4-mini", "gpt-5", "gpt-5.5"} <= reasoning
    assert not {"gpt-4o", "gpt-4.1", "gpt-5-chat-latest"} & reasoning


@pytest.mark.parametrize(
    ("provider", "model", "made", "not_made"),
    [
        ("openai", "text-embedding-3-small", (8, 700, 1535, 1536), (1537, 3072)),
        ("openai", "text-embedding-ada-002", (1536,), (512, 1535, 1537)),
        ("cohere", "embed-v4.0", (256, 512, 1024, 1536), (128, 768, 2048)),
        ("cohere", "embed-multilingual-v3.0", (1024,), (256, 512, 1536)),
        ("local", "wordllama-256", (64, 128, 256), (8, 63, 100, 255, 257)),
        ("openai", "acme-embedding", (8, 4000), ()),
    ],
)
def test_of_each_model_it_is_known_which_lengths_its_vectors_can_have(
    provider: str, model: str, made: tuple[int, ...], not_made: tuple[int, ...]
) -> None:
    facts = catalog.model(provider, model)
    assert [length for length in made if not facts.makes(length)] == []
    assert [length for length in not_made if facts.makes(length)] == []


@pytest.mark.parametrize(
    ("work", "provider", "model", "certain"),
    [
        ("chat", "local", "extractive", False),
        ("chat", "local", "wordllama-256", True),
        ("embed", "local", "extractive", True),
        ("chat", "local", "acme-7b", True),
        ("chat", "openai", "gpt-4o-2024-11-20", False),
        ("chat", "openai", "gpt-99", False),
        *[("chat", provider, model, True) for provider in ("openai", "ollama", "vllm") for model in ("", " ")],
        ("chat", "openai", "llama-3.3-70b-versatile", True),
        ("embed", "openai", "gpt-4o", True),
        ("embed", "groq", "anything", True),
        # Whoever stands behind another address or adapter may have any model.
        ("chat", "vllm", "llama-3.3-70b-versatile", False),
        ("chat", "groq", "gpt-4o", False),
    ],
)
def test_what_a_provider_is_known_not_to_do(
    deploy: Deploy, work: catalog.Work, provider: str, model: str, certain: bool
) -> None:
    deploy({"vllm": {"adapter": "acme.nooble.Any"}, "groq": {"base_url": "https://groq.example.com"}})
    assert catalog.is_known_not_to(work, provider, model) is certain


@pytest.mark.parametrize("length", [8, 63, 64, 65, 100, 128, 192, 255, 256])
def test_the_local_model_makes_what_the_catalogue_says_and_nothing_else(length: int) -> None:
    request = EmbeddingRequest(model="wordllama-256", texts=("words",), dimensions=length)
    provider = LocalProvider(ProviderConfig())
    if catalog.model("local", "wordllama-256").makes(length):
        assert provider.embed(request, request_id="id", timeout=1).vectors.shape == (1, length)
    else:
        with pytest.raises(UnsupportedDimensionsError):
            provider.embed(request, request_id="id", timeout=1)
