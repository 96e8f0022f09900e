"""The SDKs' clients, as every adapter has them: closed with it, only what it gave in them, no error without end."""

import contextlib
import functools
import time
import weakref
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, Protocol, TypeVar

#: Of an error's body no more is read. Its reason is short; what is long repeats what was sent, or is a page.
LONGEST_ERROR = 64 * 1024
#: Under this name a request carries when its call is to be over, by the monotonic clock.
_DEADLINE = "nooble.deadline"


class _Closable(Protocol):
    def close(self) -> None: ...


Client = TypeVar("Client", bound=_Closable)


def http_client(make: Callable[..., Client], http: ModuleType, *, owner: object) -> Client:
    """A client of ``http``, httpx or httpx2, for the calls of an adapter, its owner.

    It hands over errors whole, in time and bounded: the SDKs read their bodies to the end, however long that takes. A
    redirect is one of them: followed, as the SDKs do, it takes what is asked, and some of the keys, to whatever address
    it names.
    """
    hooks = {"request": [_note_deadline], "response": [functools.partial(_read_error, http=http)]}
    client = make(event_hooks=hooks, follow_redirects=False)
    # With the adapter goes its client, and not before its last call.
    weakref.finalize(owner, client.close)
    return client


def forget_environment(client: Any) -> None:
    """Take from a new client of an SDK's the headers that the SDK's own environment variables put there.

    ``OPENAI_CUSTOM_HEADERS`` and its like win over everything, the key included: a tenant's call would go out with
    whatever stands there of the deployment's. The SDKs have no argument that keeps them out.
    """
    client._custom_headers = {}  # noqa: SLF001 - see above


def _note_deadline(request: Any) -> None:
    request.extensions[_DEADLINE] = time.monotonic() + request.extensions["timeout"]["read"]


def _read_error(response: Any, *, http: ModuleType) -> None:
    """Read the body of what is no success. The status says what happened: a reason that does not come whole is none."""
    if response.is_success:
        return
    body = b""
    with contextlib.closing(response.stream) as stream, contextlib.suppress(http.HTTPError):
        body = _whole(stream, response.request.extensions[_DEADLINE])
    response.stream = http.ByteStream(body)


def _whole(parts: Iterable[bytes], deadline: float) -> bytes:
    """What the parts are together; nothing when they are too much, or not over in time."""
    body = b""
    for part in parts:
        body += part
        if len(body) > LONGEST_ERROR or time.monotonic() > deadline:
            return b""
    return body
