"""From a provider's name to an adapter that is ready to be called.

Adapters are imported when they are first asked for (an SDK costs up to two seconds) and built once per configuration,
so that their connections are reused by every thread. A key that was changed is another configuration.
"""

import json
import os
import threading
from collections import OrderedDict
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from apps.core import addresses
from apps.core.secrets import KEY
from apps.providers import catalog
from apps.providers.base import Askable, ChatProvider, Credential, EmbeddingProvider, ProviderConfig
from apps.providers.catalog import ProviderSpec
from apps.providers.errors import (
    ProviderNotConfiguredError,
    ProviderUnreachableError,
    UnknownProviderError,
    UnsupportedOperationError,
)

#: So many are kept, those that were used last. One that is let go closes its client when its last call is over.
MAX_ADAPTERS = 256

_adapters: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
_building = threading.Lock()


def chat(provider: str, credential: Credential | None = None) -> ChatProvider:
    """The adapter that answers with that provider; with a tenant's ``credential`` in the deployment's place.

    Raises :class:`UnknownProviderError`, :class:`ProviderNotConfiguredError`, where the credential's address cannot be
    resolved :class:`ProviderUnreachableError`, or, when the provider only embeds, :class:`UnsupportedOperationError`.
    """
    spec = catalog.provider(provider)
    adapter = _adapter(spec, credential)
    if "chat" not in spec.does or not isinstance(adapter, ChatProvider):
        raise UnsupportedOperationError(f"The provider {provider!r} does not answer chats. Choose another one.")
    return adapter


def embedding(provider: str, credential: Credential | None = None) -> EmbeddingProvider:
    """The adapter that embeds with that provider; ``credential`` and what is raised as :func:`chat` has it."""
    spec = catalog.provider(provider)
    adapter = _adapter(spec, credential)
    # An adapter may do more than the service behind it: OpenAI's wire format has vectors, whoever speaks it.
    if "embed" not in spec.does or not isinstance(adapter, EmbeddingProvider):
        raise UnsupportedOperationError(f"The provider {provider!r} does not embed. Choose another one.")
    return adapter


def is_askable(provider: str) -> bool:
    """Whether that provider can be asked what became of a request, with whatever key it was sent."""
    try:
        return issubclass(import_string(catalog.provider(provider).adapter), Askable)
    except UnknownProviderError:
        return False


def askable(provider: str, credential: Credential | None = None) -> Askable | None:
    """The adapter, if that provider can be asked what became of a request; None as well if it is not set up here."""
    try:
        adapter = _adapter(catalog.provider(provider), credential)
    except (UnknownProviderError, ProviderNotConfiguredError):
        return None
    return adapter if isinstance(adapter, Askable) else None


def _adapter(spec: ProviderSpec, credential: Credential | None = None) -> Any:
    config = _config(spec, credential or _of_deployment(spec))
    options = json.dumps(dict(config.options), sort_keys=True, default=str)
    # The process is part of the key: a forked child must not share its parent's connections.
    key = (os.getpid(), spec.name, spec.adapter, config.api_key, config.base_url, options)
    if credential and credential.base_url and key not in _adapters:
        # Before the lock, which everybody would wait for while a name server takes its time.
        _check_address(spec, credential)
    with _building:
        if key not in _adapters:
            _adapters[key] = import_string(spec.adapter)(config)
        _adapters.move_to_end(key)
        while len(_adapters) > MAX_ADAPTERS:
            _adapters.popitem(last=False)
        return _adapters[key]


def _of_deployment(spec: ProviderSpec) -> Credential:
    api_key = settings.NOOBLE_PROVIDERS.get(spec.name, {}).get("api_key", "")
    if spec.key_variable and not api_key:
        raise ProviderNotConfiguredError(
            f"The provider {spec.name!r} needs a key: the paying tenant's own (PUT /credentials/{spec.name}) "
            f"or the deployment's. Set {spec.key_variable}."
        )
    if api_key and not KEY.match(api_key):
        raise ProviderNotConfiguredError(
            f"The key of {spec.name!r} holds spaces or other characters that no key has. "
            f"Correct {spec.key_variable or 'its api_key'}."
        )
    return Credential(api_key=api_key)


def _config(spec: ProviderSpec, credential: Credential) -> ProviderConfig:
    entry = settings.NOOBLE_PROVIDERS.get(spec.name, {})
    base_url = credential.base_url or entry.get("base_url", "")
    if spec.url_variable and not base_url:
        raise ProviderNotConfiguredError(f"The provider {spec.name!r} needs an address. Set {spec.url_variable}.")
    return ProviderConfig(
        name=spec.name,
        api_key=credential.api_key,
        base_url=base_url,
        options=entry.get("options", {}),
    )


def _check_address(spec: ProviderSpec, credential: Credential) -> None:
    try:
        addresses.check(credential.base_url)
    except addresses.AddressRefusedError as error:
        raise ProviderNotConfiguredError(
            f"The address that was set for this tenant at {spec.name!r} may not be called. Ask the operator to mend it."
        ) from error
    except OSError as error:
        raise ProviderUnreachableError(
            f"The address that was set for this tenant at {spec.name!r} cannot be resolved. Try again later."
        ) from error
