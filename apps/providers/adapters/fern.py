"""An SDK that Fern has generated, in the shape of those that the channel knows.

Only its client of HTTP is used: it knows the address, the key and the headers. Its methods read an answer to its end
however long that takes, call again when it failed, and put it into models that accept anything. The client's ``stream``
does none of this: it hands over the response as it comes, whatever its status.
"""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Protocol

import httpx

from apps.providers.adapters.channel import Create


class APIStatusError(Exception):
    """An answer that is no success; the channel translates it."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"Error code: {response.status_code}")
        self.response = response
        self.status_code = response.status_code

    @property
    def body(self) -> Any:
        """What was sent, read from JSON; None when it is none."""
        try:
            return self.response.json()
        except (ValueError, RecursionError):
            return None


#: Where there is no answer, httpx's own exceptions come through: no exception stands for them.
APIConnectionError: tuple[()] = ()


class Client(Protocol):
    """A Fern SDK's ``core.http_client.HttpClient``, as far as it is used here."""

    def stream(
        self, path: str, *, method: str, json: Any, request_options: Any
    ) -> contextlib.AbstractContextManager[httpx.Response]:
        """The response to one request, its body not yet read."""


def creating(client: Client, path: str) -> Create:
    """What posts a body to the path, as ``with_streaming_response.create`` of other SDKs does."""

    @contextlib.contextmanager
    def create(*, extra_headers: Any, timeout: httpx.Timeout, **body: Any) -> Iterator[Any]:
        options = {"additional_headers": extra_headers, "timeout": timeout}
        with client.stream(path, method="POST", json=body, request_options=options) as response:
            if not response.is_success:
                response.read()
                raise APIStatusError(response)
            yield SimpleNamespace(http_response=response, headers=response.headers, iter_bytes=response.iter_bytes)

    return create
