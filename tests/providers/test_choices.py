"""What can be chosen where the deployment names models itself, or says how much of a request its server holds."""

from typing import Any

import pytest

from apps.core import configuration
from apps.core.configuration import InvalidSettingError, Level, Resolved
from apps.providers import choices
from apps.providers.errors import ModelNotAllowedError, UnknownModelError, UnsupportedDimensionsError
from tests.providers.conftest import Deploy


@pytest.fixture(autouse=True)
def named(deploy: Deploy) -> None:
    models = {"support-eu": "gpt-4.1-mini", "vectors-eu": "text-embedding-3-small", "older": "text-embedding-ada-002"}
    azure = {"base_url": "https://acme.openai.azure.com", "models": models}
    deploy({"azure_openai": azure, "ollama": {"base_url": "http://localhost:11434/v1", "context_window": 4096}})


def chosen(section: str, **values: Any) -> Resolved:
    return configuration.resolve({Level.AGENT: {f"{section}.{name}": value for name, value in values.items()}})


def chat(model: str, **values: Any) -> Resolved:
    return chosen("llm_config", provider="azure_openai", model=model, **values)


def embedding(model: str, dimensions: int) -> Resolved:
    return chosen("embedding_config", provider="azure_openai", model=model, dimensions=dimensions)


@pytest.mark.parametrize("model", ["support-eu", "gpt-4o", "nobody-heard-of-it"])
def test_a_name_of_the_deployments_answers_as_one_of_the_catalogues_does(model: str) -> None:
    choices.require_chat(chat(model))


def test_a_name_is_refused_for_what_its_model_does_not_do() -> None:
    with pytest.raises(UnknownModelError, match=r"no model 'vectors-eu' for answers.*: support-eu, "):
        choices.require_chat(chat("vectors-eu"))
    with pytest.raises(UnknownModelError, match=r"no model 'support-eu' for vectors.*: vectors-eu, older, "):
        choices.require_embedding(embedding("support-eu", 1536))


def test_a_name_has_the_limits_of_its_model() -> None:
    choices.require_embedding(embedding("vectors-eu", 512))
    with pytest.raises(UnsupportedDimensionsError, match="older makes vectors of 1536 dimensions, not of 512"):
        choices.require_embedding(embedding("older", 512))
    with pytest.raises(InvalidSettingError, match="at most 32768 for support-eu"):
        choices.require_chat(chat("support-eu", max_tokens=32_769), saved_at=Level.AGENT)


def test_a_plan_allows_names_and_not_what_they_stand_for() -> None:
    choices.require_chat(chat("support-eu"), allowed=["azure_openai/support-*"])
    with pytest.raises(ModelNotAllowedError, match="does not have azure_openai's support-eu"):
        choices.require_chat(chat("support-eu"), allowed=["azure_openai/gpt-4.1-mini"])


@pytest.mark.parametrize("model", ["qwen3:8b", "acme/tuned-llama:8b-q4_K_M"])
def test_an_answer_may_be_half_of_what_the_server_holds(model: str) -> None:
    ollama = {"provider": "ollama", "model": model}
    choices.require_chat(chosen("llm_config", **ollama, max_tokens=2048), saved_at=Level.AGENT)
    with pytest.raises(InvalidSettingError, match=f"at most 2048 for {model}"):
        choices.require_chat(chosen("llm_config", **ollama, max_tokens=2049), saved_at=Level.AGENT)


def test_a_tag_of_ollamas_is_for_the_work_that_its_model_does() -> None:
    ollama = {"provider": "ollama", "model": "qwen3-embedding:0.6b"}
    choices.require_embedding(chosen("embedding_config", **ollama, dimensions=512))
    with pytest.raises(UnsupportedDimensionsError, match="up to 1024 dimensions, not of 2048"):
        choices.require_embedding(chosen("embedding_config", **ollama, dimensions=2048))
    with pytest.raises(UnknownModelError, match=r"no model 'qwen3-embedding:0\.6b' for answers"):
        choices.require_chat(chosen("llm_config", **ollama))
