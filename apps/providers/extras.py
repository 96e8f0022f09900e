"""What one provider can be asked for and not every one (``llm_config.extras``): an allow-list, as data."""

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.core.configuration import InvalidSettingError, Setting
from apps.core.errors import FieldError
from apps.providers import catalog
from apps.providers.catalog import ModelSpec, ProviderSpec

SETTING = "llm_config.extras"
#: By name of the provider, then by its own name for the extra.
Table = Mapping[str, Mapping[str, "Extra"]]

_EXTRAS = Path(__file__).with_name("extras.toml")
_TYPES: Mapping[str, type] = {kind.__name__: kind for kind in (str, int, float)}


@dataclass(frozen=True, kw_only=True)
class Extra(Setting):
    """One of them: what it can be, and which models take it."""

    help: str = ""
    #: True: only models that think, False: only those that do not, None: all. Of an unknown model nothing is known.
    thinking: bool | None = None

    def is_for(self, model: ModelSpec) -> bool:
        return self.thinking is None or not model.is_known or self.thinking == model.reasoning


def of(provider: str, model: str) -> dict[str, Extra]:
    """What the provider's model takes. A service of the deployment's own takes what is asked in its adapter's words.

    Raises UnknownProviderError.
    """
    spec = _spoken(catalog.provider(provider))
    facts = catalog.model(provider, model)
    facts = facts if facts.is_known else catalog.model(spec.name, model)
    offered = table().get(spec.models_of or spec.name, {})
    return {name: extra for name, extra in offered.items() if extra.is_for(facts)}


def require(provider: str, model: str, given: Mapping[str, Any]) -> None:
    """Refuse what the provider's model does not take; raises InvalidSettingError and UnknownProviderError."""
    taken = of(provider, model)
    for name, value in given.items():
        if name not in taken:
            why = f"{provider}'s {model} takes {', '.join(taken) or 'none'}"
            problem = FieldError(field=f"{SETTING}.{name}", code="unknown_setting", detail=f"Leave it out: {why}.")
            raise InvalidSettingError(f"{SETTING} cannot have {name!r}: {why}.", errors=[problem])
        taken[name].accept(value)


def taken_of(given: Mapping[str, Any], *, provider: str, model: str) -> dict[str, Any]:
    """What the provider's model takes of them. They were chosen for another one, where a request names its own."""
    taken = of(provider, model)
    return {name: value for name, value in given.items() if name in taken and _is_accepted(taken[name], value)}


@functools.cache
def table() -> Table:
    """All of them."""
    rows: dict[str, dict[str, dict[str, Any]]] = tomllib.loads(_EXTRAS.read_text(encoding="utf-8"))
    return {
        provider: {name: _extra(name, **facts) for name, facts in extras.items()} for provider, extras in rows.items()
    }


def _extra(name: str, *, type: str, choices: tuple[str, ...] = (), **facts: Any) -> Extra:  # noqa: A002 - the column's
    return Extra(name=f"{SETTING}.{name}", type=_TYPES[type], choices=tuple(choices), **facts)


def _spoken(spec: ProviderSpec) -> ProviderSpec:
    """The provider of nooble's own whose words are spoken: itself, or whose adapter it has."""
    known = (each for each in catalog.PROVIDERS.values() if each.adapter == spec.adapter)
    return spec if spec.name in catalog.PROVIDERS else next(known, spec)


def _is_accepted(extra: Extra, value: Any) -> bool:
    try:
        extra.accept(value)
    except InvalidSettingError:
        return False
    return True
