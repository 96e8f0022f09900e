"""From a provider's name to an adapter that is ready to be called.

Adapters are imported when they are first asked for (an SDK costs up to two seconds) and built once per configuration,
so that their connections are reused by every thread.
"""

import json
import os
import re
import threading
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from apps.providers import catalog
from apps.providers.base import Askable, ChatProvider, EmbeddingProvider, ProviderConfig
from apps.providers.catalog import ModelSpec, ProviderSpec, model, models, provider, provider_names
from apps.providers.errors import ProviderNotConfiguredError, UnknownProviderError, UnsupportedOperationError

__all__ = [
    "ModelSpec",
    "ProviderSpec",
    "askable",
    "chat",
    "embedding",
    "model",
    "models",
    "provider",
    "provider_names",
]

#: A key travels in a header: anything but visible ASCII is a mistake in the environment.
_KEY = re.compile(r"[!-~]*")

_adapters: dict[tuple[Any, ...], Any] = {}
_building = threading.Lock()


def chat(provider: str) -> ChatProvider:
    """The adapter that answers with that provider.

    Raises :class:`UnknownProviderError`, :class:`ProviderNotConfiguredError` or, when the provider only embeds,
    :class:`UnsupportedOperationError`.
    """
    spec = catalog.provider(provider)
    adapter = _adapter(spec)
    if "chat" not in spec.does or not isinstance(adapter, ChatProvider):
        raise UnsupportedOperationError(f"The provider {provider!r} does not answer chats. Choose another one.")
    return adapter


def embedding(provider: str) -> EmbeddingProvider:
    """The adapter that embeds with that provider; raises as :func:`chat` does."""
    spec = catalog.provider(provider)
    adapter = _adapter(spec)
    # An adapter may do more than the service behind it: OpenAI's wire format has vectors, whoever speaks it.
    if "embed" not in spec.does or not isinstance(adapter, EmbeddingProvider):
        raise UnsupportedOperationError(f"The provider {provider!r} does not embed. Choose another one.")
    return adapter


def askable(provider: str) -> Askable | None:
    """The adapter, if that provider can be asked what became of a request; None as well if it is not set up here."""
    try:
        adapter = _adapter(catalog.provider(provider))
    except (UnknownProviderError, ProviderNotConfiguredError):
        return None
    return adapter if isinstance(adapter, Askable) else None


def _adapter(spec: ProviderSpec) -> Any:
    config = _config(spec)
    options = json.dumps(dict(config.options), sort_keys=True, default=str)
    # The process is part of the key: a forked child must not share its parent's connections.
    key = (os.getpid(), spec.name, spec.adapter, config.api_key, config.base_url, options)
    with _building:
        if key not in _adapters:
            _adapters[key] = import_string(spec.adapter)(config)
        return _adapters[key]


def _config(spec: ProviderSpec) -> ProviderConfig:
    entry = settings.NOOBLE_PROVIDERS.get(spec.name, {})
    api_key = entry.get("api_key", "")
    if spec.key_variable and not api_key:
        raise ProviderNotConfiguredError(f"The provider {spec.name!r} needs a key. Set {spec.key_variable}.")
    if not _KEY.fullmatch(api_key):
        raise ProviderNotConfiguredError(
            f"The key of {spec.name!r} holds spaces or other characters that no key has. "
            f"Correct {spec.key_variable or 'its api_key'}."
        )
    return ProviderConfig(
        name=spec.name, api_key=api_key, base_url=entry.get("base_url", ""), options=entry.get("options", {})
    )
