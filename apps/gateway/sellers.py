"""Who is called, and with whose key: the payer's own, or the deployment's.

It is resolved in the process that calls, for each purchase anew, and stands in nothing that is stored or sent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from apps.core.db import Scope
from apps.gateway import circuits
from apps.gateway.circuits import Circuit
from apps.providers import registry
from apps.providers.base import (
    Askable,
    ChatProvider,
    ChatResult,
    Credential,
    EmbeddingProvider,
    EmbeddingResult,
    Fate,
)
from apps.tenants import credentials

A = TypeVar("A", ChatProvider, EmbeddingProvider)


@dataclass(frozen=True, kw_only=True)
class Seller(Generic[A]):
    """A provider's adapter with the key that its calls are made with."""

    provider: str
    adapter: A
    #: What an entry says of that key; nothing, where none is needed.
    facts: Mapping[str, Any]

    def circuit(self, model: str) -> Circuit:
        """Says whether that model is to be called now, and wants to know how its calls end."""
        return circuits.of(self.adapter, self.provider, model)

    @property
    def lookup(self) -> Callable[[str], ChatResult | EmbeddingResult | Fate] | None:
        """Asks what became of a request; None when this provider cannot be asked."""
        return self.adapter.lookup if isinstance(self.adapter, Askable) else None


def chat(scope: Scope, provider: str) -> Seller[ChatProvider]:
    """Who answers; raises CredentialUnreadableError and what ``registry.chat`` raises."""
    credential = _of_payer(scope, provider)
    return _seller(registry.chat(provider, credential), provider, credential)


def embedding(scope: Scope, provider: str) -> Seller[EmbeddingProvider]:
    """Who embeds; raises CredentialUnreadableError and what ``registry.embedding`` raises."""
    credential = _of_payer(scope, provider)
    return _seller(registry.embedding(provider, credential), provider, credential)


def askable(scope: Scope, provider: str) -> Askable | None:
    """Whom to ask what became of a request; None: it cannot be asked. Raises CredentialUnreadableError."""
    return registry.askable(provider, _of_payer(scope, provider))


def _seller(adapter: A, provider: str, credential: Credential | None) -> Seller[A]:
    return Seller(provider=provider, adapter=adapter, facts=_facts(provider, credential))


def _of_payer(scope: Scope, provider: str) -> Credential | None:
    """The payer's own key; None: the deployment's, if it has one."""
    key = credentials.of_payer(scope, provider)
    return Credential(api_key=key.secret, base_url=key.base_url) if key else None


def _facts(provider: str, credential: Credential | None) -> dict[str, Any]:
    if not credentials.takes_key(provider):
        return {}
    return {"credential": "tenant" if credential else "deployment"}
