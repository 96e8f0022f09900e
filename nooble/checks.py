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

from apps.providers import catalog
from apps.providers.catalog import ModelSpec, Work
from apps.providers.errors import UnknownProviderError
from settings.env import InvalidEnvironmentError, report
from settings.variables import VARIABLES

ENVIRONMENT = "environment"

#: The beginning of the names of the variables that say who does the work.
_DEFAULTS: dict[Work, str] = {"chat": "DEFAULT_CHAT", "embed": "DEFAULT_EMBEDDING"}
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
    prefix = _DEFAULTS[work]
    provider, model = getattr(settings, f"{prefix}_PROVIDER"), getattr(settings, f"{prefix}_MODEL")
    try:
        does = catalog.provider(provider).does
    except UnknownProviderError as error:
        yield _error("E020", f"{prefix}_PROVIDER", error.detail)
        return
    if work not in does:
        yield _error("E021", f"{prefix}_PROVIDER", f"{provider} does not {work}.", _providers_for(work))
    elif catalog.is_known_not_to(work, provider, model):
        names = [spec.model for spec in catalog.models(provider, work)]
        text = f"{provider} has no model {model!r} to {work} with. Known are: {', '.join(names)}."
        yield _error("E022", f"{prefix}_MODEL", text, names)
    elif work == "embed":
        yield from _of_length(catalog.model(provider, model), settings.DEFAULT_EMBEDDING_DIMENSIONS)


def _of_length(facts: ModelSpec, length: int) -> Iterator[CheckMessage]:
    if not facts.makes(length):
        text = f"{facts.model} makes vectors of {facts.lengths_made} dimensions, not of {length}."
        yield _error("E024", "DEFAULT_EMBEDDING_DIMENSIONS", text, [str(facts.dimensions)])


def _missing_keys() -> Iterator[CheckMessage]:
    for prefix in _DEFAULTS.values():
        spec = catalog.PROVIDERS.get(name := getattr(settings, f"{prefix}_PROVIDER"))
        needed = {"api_key": spec.key_variable, "base_url": spec.url_variable} if spec else {}
        for setting, variable in needed.items():
            if variable and not settings.NOOBLE_PROVIDERS.get(name, {}).get(setting):
                yield _error("E025", variable, f"Not set, and {prefix}_PROVIDER is {name}, which needs it.")


def _providers_for(work: Work) -> list[str]:
    return [name for name in catalog.provider_names() if work in catalog.provider(name).does]


def _error(number: str, variable: str, text: str, examples: Iterable[str] = ()) -> Error:
    """An error of a variable, with an example that would do: the first of these, or the one of the documentation."""
    example = next(iter(examples), _EXAMPLES[variable])
    return Error(text, hint=f"Example: {variable}={example}", obj=variable, id=f"nooble.{number}")
