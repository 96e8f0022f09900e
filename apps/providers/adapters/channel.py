"""One call through an SDK of the OpenAI kind, its answer read as plain JSON, its failures translated.

The SDKs of OpenAI, Groq and Anthropic are generated from one template: the same methods, the same exceptions, over
httpx or httpx2. They build the request, authenticate and keep connections; the answer is read here, because their
models accept anything and would hide what a provider really sent.
"""

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from apps.providers.adapters import failures
from apps.providers.errors import (
    ProviderBadResponseError,
    ProviderTimeoutError,
    RequestNotSentError,
)
from apps.providers.lines import Line

#: A provider that cannot be reached is known sooner than the answer's own time is up.
CONNECT_SECONDS = 5.0

#: How JSON writes a null character or half of a surrogate pair.
_UNSTORABLE_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")

#: A ``with_streaming_response.create`` of an SDK.
Create = Callable[..., contextlib.AbstractContextManager[Any]]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A JSON object that the provider sent, or one event of a stream."""

    data: Mapping[str, Any]
    #: The provider's id of the call, from its header.
    request_id: str

    @property
    def call_id(self) -> str:
        """That id; without such a header the answer's own, which not every event of a stream tells."""
        return self.request_id or str(self.data.get("id") or "")

    def inner(self, *names: str) -> Any:
        """What lies so deep in the data; None when nothing does."""
        return inner(self.data, *names)


def inner(data: Any, *names: str) -> Any:
    """What lies so deep in JSON; None when nothing does."""
    for name in names:
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


@dataclass(frozen=True, kw_only=True)
class Channel:
    """How to call one provider: its SDK, the httpx that the SDK is built on, its name for people.

    ``secret`` is the key, so that it can be kept out of errors.
    """

    sdk: ModuleType
    http: ModuleType
    name: str
    secret: str = field(repr=False)
    #: The header of its answers that holds its id of the call.
    id_header: str = "x-request-id"
    #: The ``type`` of the event that ends a stream, where ``[DONE]`` does not.
    last_event: str = ""
    #: Codes of refusals for which it may charge ("": those without one): they are no proof that it counted nothing.
    charged_refusals: frozenset[str] = frozenset()

    def answer(self, create: Create, body: Mapping[str, Any], *, request_id: str, timeout: float) -> Answer:
        """The one JSON object that answers the request."""
        with self._response(create, body, request_id, timeout) as (response, parts):
            return Answer(data=self._parsed(b"".join(parts)), request_id=self._id_of(response))

    @contextlib.contextmanager
    def events(
        self, create: Create, body: Mapping[str, Any], *, request_id: str, timeout: float, line: Line | None = None
    ) -> Iterator[Iterator[Answer]]:
        """The events of a stream, up to its end. Whether it was whole is for the reader to say.

        Who leaves hangs up there and then. Left to the garbage collector it would happen in the middle of anything, and
        wait for good for a lock of the connections that its own thread holds.
        """
        with self._response(create, body, request_id, timeout) as (response, parts):
            if line:
                line.lend(response.http_response, self.http)
            yield self._events(parts, request_id=self._id_of(response))

    def _events(self, parts: Iterator[bytes], *, request_id: str) -> Iterator[Answer]:
        for text in _lines(parts):
            kind, _, value = text.partition(b":")
            if kind != b"data":
                continue
            if value.strip() == b"[DONE]":
                break
            data = self._parsed(value)
            yield Answer(data=data, request_id=request_id)
            if self.last_event and data.get("type") == self.last_event:
                break
        self._drain(parts)

    @contextlib.contextmanager
    def _response(
        self, create: Create, body: Mapping[str, Any], request_id: str, timeout: float
    ) -> Iterator[tuple[Any, Iterator[bytes]]]:
        deadline = time.monotonic() + timeout
        limits = self.http.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS))
        # The first is OpenAI's own header for the caller's id; the second is what gateways know. No provider documents
        # idempotency: neither header makes it safe to send a request twice.
        headers = {"X-Client-Request-Id": request_id, "Idempotency-Key": request_id}
        with self._translated(), create(**body, extra_headers=headers, timeout=limits) as response:
            yield response, self._parts(response, deadline)

    def _parts(self, response: Any, deadline: float) -> Iterator[bytes]:
        """The body as it comes. httpx limits only the wait for each part: a body that drips ends here."""
        for part in response.iter_bytes():
            if time.monotonic() > deadline:
                raise ProviderTimeoutError(f"{self.name} did not finish its answer in time.")
            yield part

    def _drain(self, parts: Iterator[bytes]) -> None:
        """Read what follows the end: a connection is used again only when its answer was read to the last byte."""
        with contextlib.suppress(self.http.HTTPError, ProviderTimeoutError):
            for _ in parts:
                pass

    def _parsed(self, text: bytes) -> Mapping[str, Any]:
        try:
            data = json.loads(text)
            if _UNSTORABLE_ESCAPE.search(text):
                data = _storable(data)
        except (ValueError, RecursionError) as error:  # the second: arrays in arrays without an end
            raise ProviderBadResponseError(f"{self.name} sent an answer that is not JSON.") from error
        if not isinstance(data, dict):
            raise ProviderBadResponseError(f"{self.name} sent JSON that is no object.")
        return data

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Foreign exceptions become ours where they enter."""
        try:
            yield
        except self.sdk.APIStatusError as error:
            told = failures.of_status(
                error,
                self.name,
                self.secret,
                request_id=self._id_of(error.response),
                charged=self.charged_refusals,
            )
            raise told from failures.bare(error)
        except self.sdk.APIConnectionError as error:
            raise failures.of_transport(error.__cause__, self.http, self.name) from error
        except self.http.HTTPError as error:
            raise failures.of_transport(error, self.http, self.name) from error
        except UnicodeEncodeError as error:
            raise RequestNotSentError(f"The request for {self.name} holds characters that UTF-8 cannot.") from error

    def _id_of(self, response: Any) -> str:
        return str(response.headers.get(self.id_header, ""))


def _storable(value: Any) -> Any:
    """What was read from JSON, without characters that no text in PostgreSQL can have."""
    if isinstance(value, str):
        return failures.storable(value)
    if isinstance(value, dict):
        return {failures.storable(name): _storable(inner) for name, inner in value.items()}
    return [_storable(inner) for inner in value] if isinstance(value, list) else value


def _lines(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines. Only a line feed ends one: the text may hold other characters that Unicode calls line breaks."""
    rest = b""
    for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        yield from lines
