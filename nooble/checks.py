"""System checks of the environment: values that only the applications can judge.

What a variable says by itself is read and refused by ``settings.env``. These need the catalogue of providers, or
classes that settings cannot import. Commands of ``manage.py`` run them unasked; whatever else serves asks for them by
:func:`require_environment`, because neither ASGI servers nor Celery run Django's checks and heed them.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register, run_checks
from django.core.files.storage import Storage
from django.utils.module_loading import import_string

from apps.core import configuration
from apps.core.configuration import InvalidSettingError, Level
from apps.core.errors import NoobleError
from apps.providers import catalog, choices
from apps.providers.catalog import Work
from apps.providers.errors import (
    UnknownModelError,
    UnknownProviderError,
    UnsupportedDimensionsError,
    UnsupportedOperationError,
)
from settings.env import InvalidEnvironmentError, report
from settings.variables import VARIABLES

ENVIRONMENT = "environment"

#: The beginning of the names of the variables that say who does the work.
_DEFAULTS: dict[Work, str] = {"chat": "DEFAULT_CHAT", "embed": "DEFAULT_EMBEDDING"}
#: By what is wrong with them: the number of the error, and the variable that says it.
_FAULTS: dict[type[NoobleError], tuple[str, str]] = {
    UnknownProviderError: ("E020", "{}_PROVIDER"),
    UnsupportedOperationError: ("E021", "{}_PROVIDER"),
    UnknownModelError: ("E022", "{}_MODEL"),
    InvalidSettingError: ("E023", "WORK_SETTINGS_FILE"),
    UnsupportedDimensionsError: ("E024", "{}_DIMENSIONS"),
}
_EXAMPLES = {variable.name: variable.example for variable in VARIABLES}


def require_environment() -> None:
    """Called by what serves, before it does; raises InvalidEnvironmentError, which ends the process with a message."""
    found = run_checks(tags=[ENVIRONMENT], include_deployment_checks=True)
    serious = [message for message in found if message.is_serious() and not message.is_silenced()]
    if serious:
        raise InvalidEnvironmentError(report(f"{each.obj}: {each.msg}\n    {each.hint}" for each in serious))


@register(ENVIRONMENT)
def storage(**_: Any) -> list[CheckMessage]:
    """``STORAGE_BACKEND`` is a storage class, and takes ``STORAGE_OPTIONS``. Nothing is read or written."""
    given = settings.STORAGES["default"]
    try:
        backend = import_string(given["BACKEND"])
    except Exception as error:  # noqa: BLE001 - a module may fail as it likes: django-storages' is not configured
        return [_error("E010", "STORAGE_BACKEND", f"{given['BACKEND']!r} cannot be imported: {error}")]
    if not (isinstance(backend, type) and issubclass(backend, Storage)):
        return [_error("E011", "STORAGE_BACKEND", f"{given['BACKEND']!r} is not a Django storage class.")]
    try:
        backend(**given["OPTIONS"])
    except Exception as error:  # noqa: BLE001 - the same; its words may repeat a secret, those of a call only names
        why = f": {error}" if isinstance(error, TypeError) else f" ({type(error).__name__})."
        return [_error("E012", "STORAGE_OPTIONS", f"{given['BACKEND']} does not take them{why}")]
    return []


@register(ENVIRONMENT)
def default_models(**_: Any) -> list[CheckMessage]:
    """The defaults name providers and models that are there, and are for this work."""
    return [message for work in _DEFAULTS for message in _of_default(work)]


@register(ENVIRONMENT)
def azure_deployments(**_: Any) -> list[CheckMessage]:
    """Each deployment of Azure OpenAI stands for a model of which something is known."""
    named = catalog.deployments("azure_openai")
    unknown = {name: model for name, model in named.items() if not catalog.model("azure_openai", name).is_known}
    return [
        _error("E026", "AZURE_OPENAI_DEPLOYMENTS", f"OpenAI has no {model!r} that nooble knows of, which {name!r} is.")
        for name, model in unknown.items()
    ]


@register(ENVIRONMENT, deploy=True)
def default_keys(**_: Any) -> list[CheckMessage]:
    """The default providers have keys and addresses. Migrations and other commands, which call none, need neither."""
    return list(_missing_keys())


def _of_default(work: Work) -> Iterator[CheckMessage]:
    """What is wrong with the defaults for one kind of work: the rules are those that everybody's choices have."""
    prefix, resolved = _DEFAULTS[work], configuration.resolve({})
    try:
        if work == "embed":
            choices.require_embedding(resolved)
        else:
            choices.require_chat(resolved)
            choices.require_fallbacks(resolved.values["fallback_models"])
            choices.require_extras(resolved, saved_at=Level.DEPLOYMENT)
            # Only what the deployment itself sets is held against the model: nooble's own default is brought down.
            if "llm_config.max_tokens" in settings.WORK_SETTINGS:
                choices.require_length(resolved, saved_at=Level.DEPLOYMENT)
    except NoobleError as error:
        number, variable = _FAULTS[type(error)]
        yield _error(number, variable.format(prefix), error.detail, _examples(work, type(error)))


def _examples(work: Work, fault: type[NoobleError]) -> list[str]:
    """Values that would do in place of the one that does not; none, where that cannot be said."""
    provider, model = (getattr(settings, f"{_DEFAULTS[work]}_{part}") for part in ("PROVIDER", "MODEL"))
    if fault is UnsupportedOperationError:
        return [name for name in catalog.provider_names() if work in catalog.provider(name).does]
    if fault is UnknownModelError:
        return [spec.model for spec in catalog.models(provider, work)]
    return [str(catalog.model(provider, model).dimensions)] if fault is UnsupportedDimensionsError else []


def _missing_keys() -> Iterator[CheckMessage]:
    for prefix in _DEFAULTS.values():
        spec = catalog.PROVIDERS.get(name := getattr(settings, f"{prefix}_PROVIDER"))
        needed = {"api_key": spec.key_variable, "base_url": spec.url_variable} if spec else {}
        for setting, variable in needed.items():
            if variable and not settings.NOOBLE_PROVIDERS.get(name, {}).get(setting):
                yield _error("E025", variable, f"Not set, and {prefix}_PROVIDER is {name}, which needs it.")


def _error(number: str, variable: str, text: str, examples: Iterable[str] = ()) -> Error:
    """An error of a variable, with an example that would do: the first of these, or the one of the documentation."""
    example = next(iter(examples), _EXAMPLES[variable])
    return Error(text, hint=f"Example: {variable}={example}", obj=variable, id=f"nooble.{number}")
