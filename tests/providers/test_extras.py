"""What only one provider takes: which is whose, and what becomes of it at another's."""

from typing import Any

import pytest

from apps.core import configuration
from apps.core.configuration import InvalidSettingError, Level, Resolved
from apps.providers import catalog, choices, extras
from tests.providers.conftest import Deploy

GIVEN = {"top_p": 0.5, "presence_penalty": -1.0, "random_seed": 7, "reasoning_effort": "high", "effort": "max"}


@pytest.mark.parametrize(
    ("provider", "model", "taken"),
    [
        ("openai", "gpt-4o", {"top_p", "presence_penalty"}),
        ("openai", "gpt-5", {"reasoning_effort"}),
        ("openai", "gpt-99", {"top_p", "presence_penalty", "reasoning_effort"}),
        ("azure_openai", "gpt-4o", {"top_p", "presence_penalty"}),
        ("azure_openai", "thinking-eu", {"reasoning_effort"}),
        ("groq", "llama-3.3-70b-versatile", {"top_p"}),
        ("groq", "openai/gpt-oss-20b", {"top_p", "reasoning_effort"}),
        ("anthropic", "claude-sonnet-5-5", {"effort"}),
        ("mistral", "mistral-small-2603", {"top_p", "presence_penalty", "random_seed", "reasoning_effort"}),
        # Cohere's begin at 0, and its top_p has another name.
        ("cohere", "command-a-03-2025", set()),
        ("local", "extractive", set()),
        ("vllm", "acme-7b", {"top_p", "presence_penalty", "reasoning_effort"}),
        ("vllm", "o4-mini", {"reasoning_effort"}),
        ("acme", "acme-7b", set()),
    ],
)
def test_a_model_is_sent_what_it_takes(deploy: Deploy, provider: str, model: str, taken: set[str]) -> None:
    openai, acme = "apps.providers.adapters.openai.OpenAIProvider", "acme.nooble.AcmeProvider"
    azure = {"base_url": "https://acme.openai.azure.com", "models": {"thinking-eu": "gpt-5"}}
    deploy({"azure_openai": azure, "vllm": {"adapter": openai}, "acme": {"adapter": acme}})
    found = extras.taken_of(GIVEN, provider=provider, model=model)
    assert found == {name: GIVEN[name] for name in taken}


def chosen(level: Level = Level.AGENT, *, model: str = "gpt-4o", given: Any) -> Resolved:
    values = {"llm_config.provider": "openai", "llm_config.model": model, "llm_config.extras": given}
    return configuration.resolve({level: values})


@pytest.mark.parametrize(
    ("model", "given", "field", "why"),
    [
        ("gpt-4o", {"n": 2}, "n", "openai's gpt-4o takes seed, top_p, "),
        ("gpt-4o", {"service_tier": "priority"}, "service_tier", "openai's gpt-4o takes"),
        ("gpt-4o", {"reasoning_effort": "high"}, "reasoning_effort", "openai's gpt-4o takes"),
        ("gpt-5", {"top_p": 0.5}, "top_p", "openai's gpt-5 takes reasoning_effort, seed"),
        ("gpt-4o", {"top_p": 1.5}, "top_p", "must be between 0 and 1"),
        ("gpt-4o", {"top_p": "much"}, "top_p", "must be float"),
        ("gpt-4o", {"seed": True}, "seed", "must be int"),
        ("gpt-4o", {"seed": {"of": []}}, "seed", "must be int"),
        ("gpt-5", {"reasoning_effort": "deep"}, "reasoning_effort", "must be one of none, minimal,"),
    ],
)
def test_what_the_model_does_not_take_is_refused_at_its_field(
    model: str, given: dict[str, Any], field: str, why: str
) -> None:
    with pytest.raises(InvalidSettingError, match=why) as refusal:
        choices.require_chat(chosen(model=model, given=given), saved_at=Level.AGENT)
    assert [problem.field for problem in refusal.value.errors] == [f"llm_config.extras.{field}"]


def test_a_level_is_not_refused_for_what_another_has_set() -> None:
    choices.require_chat(chosen(Level.TIER, given={"effort": "high"}), saved_at=Level.AGENT)
    with pytest.raises(InvalidSettingError):
        choices.require_chat(chosen(Level.TIER, given={"effort": "high"}), saved_at=Level.TIER)


def test_nothing_is_offered_that_the_books_could_not_be_held_against() -> None:
    price = {"service_tier", "speed", "inference_geo", "prompt_cache_retention"}
    shape = {"n", "tools", "tool_choice", "response_format", "logprobs", "stream", "stream_options", "modalities"}
    own = {"model", "messages", "temperature", "max_tokens", "max_completion_tokens", "system"}
    prompt = {"safe_prompt", "prompt_mode", "documents"}
    offered = {name for of_one in extras.table().values() for name in of_one}
    assert not offered & (price | shape | own | prompt)


def test_every_extra_is_of_a_provider_that_answers_and_of_some_model() -> None:
    for provider, offered in extras.table().items():
        models = catalog.models(provider, "chat")
        assert set(offered) == {name for spec in models for name in extras.of(provider, spec.model)}
