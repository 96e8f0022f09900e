"""Whether what somebody chose can work: refused where it is said, not where it would first be called.

Of a provider that may have models which nobody here has heard of, an unknown name is taken at its word.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from apps.core.configuration import InvalidSettingError, Level, Resolved
from apps.core.errors import FieldError, NoobleError
from apps.providers import catalog, extras
from apps.providers.catalog import ModelSpec, Work
from apps.providers.errors import (
    ModelNotAllowedError,
    UnknownModelError,
    UnknownProviderError,
    UnsupportedDimensionsError,
    UnsupportedOperationError,
)

#: What somebody who chooses models may be answered.
REFUSALS: tuple[type[NoobleError], ...] = (
    InvalidSettingError,
    ModelNotAllowedError,
    UnknownModelError,
    UnknownProviderError,
    UnsupportedOperationError,
)

#: What a configuration can or cannot answer by: see :func:`require_chat`.
CHAT_SETTINGS = frozenset({"llm_config.provider", "llm_config.model", "llm_config.max_tokens", extras.SETTING})

MAX_FALLBACKS = 5

_NOUNS: dict[Work, str] = {"chat": "answers", "embed": "vectors"}


def require_chat(resolved: Resolved, *, allowed: Sequence[str] = (), saved_at: Level | None = None) -> None:
    """Refuse a configuration that cannot answer: its provider, its model, or what is saved together with them.

    ``allowed``: the models of the tenant's plan, see :func:`is_allowed`. ``saved_at``: the level whose settings are
    being saved; what the others set for another model is brought down, or left out, when the model is asked. Raises
    UnknownProviderError, UnsupportedOperationError, UnknownModelError, ModelNotAllowedError or InvalidSettingError.
    """
    llm = resolved.section("llm_config")
    _require("chat", llm["provider"], llm["model"], allowed)
    require_length(resolved, saved_at=saved_at)
    require_extras(resolved, saved_at=saved_at)


def require_length(resolved: Resolved, *, saved_at: Level | None) -> None:
    """Refuse a longest answer that the level being saved sets beyond its model's; raises InvalidSettingError."""
    llm = resolved.section("llm_config")
    longest = catalog.model(llm["provider"], llm["model"]).longest_answer
    if longest and llm["max_tokens"] > longest and resolved.sources["llm_config.max_tokens"] == saved_at:
        why = f"must be at most {longest} for {llm['model']}"
        problem = FieldError(field="llm_config.max_tokens", code="invalid", detail=f"It {why}.")
        raise InvalidSettingError(f"llm_config.max_tokens {why}.", errors=[problem])


def require_extras(resolved: Resolved, *, saved_at: Level | None) -> None:
    """Refuse extras that the level being saved sets and the model does not take; raises InvalidSettingError."""
    llm = resolved.section("llm_config")
    if resolved.sources[extras.SETTING] == saved_at:
        extras.require(llm["provider"], llm["model"], llm["extras"])


def require_embedding(resolved: Resolved, *, allowed: Sequence[str] = ()) -> None:
    """Refuse a configuration that makes no vectors, or none of that length; ``allowed`` as for answers.

    Raises UnknownProviderError, UnsupportedOperationError, UnknownModelError, ModelNotAllowedError or
    UnsupportedDimensionsError.
    """
    embedding = resolved.section("embedding_config")
    model, dimensions = embedding["model"], embedding["dimensions"]
    facts = _require("embed", embedding["provider"], model, allowed)
    if not facts.makes(dimensions):
        raise UnsupportedDimensionsError(
            f"{model} makes vectors of {facts.lengths_made} dimensions, not of {dimensions}."
        )


def named(choice: str) -> tuple[str, str]:
    """Provider and model of a choice in one word, ``provider/model``; a model's name may have strokes of its own."""
    provider, _, model = choice.partition("/")
    return provider, model


def require_fallbacks(models: Sequence[str], *, allowed: Sequence[str] = ()) -> None:
    """Refuse fallback models that cannot answer, that are too many or are named twice.

    ``allowed`` as in :func:`require_chat`. Raises InvalidSettingError, at the field, for whatever is wrong with one.
    """
    if len(models) > MAX_FALLBACKS:
        raise _not_a_fallback(f"must be at most {MAX_FALLBACKS}")
    if len(set(models)) < len(models):
        raise _not_a_fallback("must name each model once")
    for model in models:
        try:
            _require("chat", *named(model), allowed)
        except NoobleError as error:
            raise _not_a_fallback(f"cannot have {model!r}: {error.detail} Write it as provider/model") from error


def fallbacks(resolved: Resolved, *, allowed: Sequence[str] = ()) -> list[str]:
    """The fallback models that a plan has, without the model that is asked first."""
    first = f"{resolved.values['llm_config.provider']}/{resolved.values['llm_config.model']}"
    return [each for each in resolved.values["fallback_models"] if each != first and is_allowed(*named(each), allowed)]


def is_allowed(provider: str, model: str, allowed: Sequence[str]) -> bool:
    """Whether a plan has the model: by one of its patterns, such as ``openai/gpt-4o*``. A plan without any has all."""
    return not allowed or any(fnmatchcase(f"{provider}/{model}", pattern) for pattern in allowed)


def not_allowed(resolved: Resolved, allowed: Sequence[str]) -> list[str]:
    """What the configuration answers and embeds with and a plan does not have, as ``provider/model``."""
    chosen = [resolved.section(name) for name in ("llm_config", "embedding_config")]
    lacking = [each for each in chosen if not is_allowed(each["provider"], each["model"], allowed)]
    return [f"{each['provider']}/{each['model']}" for each in lacking]


def _not_a_fallback(why: str) -> InvalidSettingError:
    problem = FieldError(field="fallback_models", code="invalid", detail=f"It {why}.")
    return InvalidSettingError(f"fallback_models {why}.", errors=[problem])


def _require(work: Work, provider: str, model: str, allowed: Sequence[str]) -> ModelSpec:
    if work not in catalog.provider(provider).does:
        able = [name for name in catalog.provider_names() if work in catalog.provider(name).does]
        raise UnsupportedOperationError(f"{provider} makes no {_NOUNS[work]}. Choose one of: {', '.join(able)}.")
    if catalog.is_known_not_to(work, provider, model):
        names = ", ".join(spec.model for spec in catalog.models(provider, work))
        raise UnknownModelError(f"{provider} has no model {model!r} for {_NOUNS[work]}. Name the model, too: {names}.")
    if not is_allowed(provider, model, allowed):
        raise ModelNotAllowedError(f"Your plan does not have {provider}'s {model}. It has: {', '.join(allowed)}.")
    return catalog.model(provider, model)
