"""The SDKs' clients, as every adapter has them: closed with it, and with nothing in them but what it gave."""

import weakref
from collections.abc import Callable
from typing import Any, Protocol, TypeVar


class _Closable(Protocol):
    def close(self) -> None: ...


Client = TypeVar("Client", bound=_Closable)


def http_client(make: Callable[..., Client], *, owner: object, **options: Any) -> Client:
    """A client of httpx or httpx2 for the calls of an adapter, its owner.

    With the adapter goes its client, and not before its last call.
    """
    client = make(**options)
    weakref.finalize(owner, client.close)
    return client


def forget_environment(client: Any) -> None:
    """Take from a new client of an SDK's the headers that the SDK's own environment variables put there.

    ``OPENAI_CUSTOM_HEADERS`` and its like win over everything, the key included: a tenant's call would go out with
    whatever stands there of the deployment's. The SDKs have no argument that keeps them out.
    """
    client._custom_headers = {}  # noqa: SLF001 - see above
