"""From the exceptions of an SDK and its httpx to ours, by the one question: can the provider have counted the call?"""

import math
import re
from collections.abc import Mapping, Set
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import ModuleType
from typing import Any

from apps.providers.errors import (
    ProviderAuthenticationError,
    ProviderBadResponseError,
    ProviderError,
    ProviderInterruptedError,
    ProviderRateLimitedError,
    ProviderReadRefusalError,
    ProviderRedirectedError,
    ProviderRefusedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnreachableError,
)

#: Of a provider's own message, so much is passed on.
LONGEST_MESSAGE = 300
#: What is asked for is at another address: nobody has worked on it at this one. A 303 is no such word. It may say where
#: to find what has been done, and gateways send it when an answer takes long.
_MOVED = frozenset({301, 302, 307, 308})
#: So deep in the body of an error its reason is looked for.
_REASON_LEVELS = 5
#: What no text in PostgreSQL can hold.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def of_status(error: Any, name: str, secret: str, *, request_id: str, charged: Set[str] = frozenset()) -> ProviderError:
    """From an SDK's ``APIStatusError``: an answer of 3xx, 4xx or 5xx.

    ``request_id`` is the provider's, ``charged`` are the codes of refusals for which it may charge.
    """
    status = int(error.status_code)
    facts: dict[str, Any] = {
        "provider_request_id": request_id,
        "retry_after": retry_after(error.response.headers),
    }
    if status < 400:
        return _of_redirect(status, name, facts)
    if status in (401, 403):
        return ProviderAuthenticationError(f"{name} did not accept the key ({status}). Check it.", **facts)
    if status == 429:
        return ProviderRateLimitedError(f"{name} asks us to slow down. Try again later.", **facts)
    if status in (408, 499):
        # The server, or a proxy before it, gave up waiting, or took us for gone: no word about what was done by then.
        return ProviderTimeoutError(f"{name} gave up on the request ({status}).", **facts)
    if status < 500:
        refusal = ProviderReadRefusalError if _code(error) in charged else ProviderRefusedError
        return refusal(f"{name} refused the request ({status}): {_message(error, secret)}", **facts)
    return ProviderUnavailableError(f"{name} failed ({status}). Try again later.", **facts)


def _of_redirect(status: int, name: str, facts: Mapping[str, Any]) -> ProviderError:
    if status in _MOVED:
        detail = f"{name} sends calls on to another address ({status}). Set the address at which it answers."
        return ProviderRedirectedError(detail, **facts)
    return ProviderBadResponseError(f"{name} sent no answer ({status}). Set the address at which it answers.", **facts)


def of_transport(error: BaseException | None, http: ModuleType, name: str) -> ProviderError:
    """From an exception of ``http``, httpx or httpx2. Only one raised before anything was sent is proof."""
    unsent = (http.ConnectError, http.ConnectTimeout, http.PoolTimeout, http.ProxyError, http.UnsupportedProtocol)
    if isinstance(error, unsent):
        return ProviderUnreachableError(f"No connection to {name} could be opened. Try again later.")
    if isinstance(error, http.TimeoutException):
        return ProviderTimeoutError(f"{name} did not answer in time.")
    if isinstance(error, http.DecodingError):
        return ProviderBadResponseError(f"{name} sent an answer that could not be decoded.")
    return ProviderInterruptedError(f"The connection to {name} broke after the request was sent.")


def bare(error: Any) -> Any:
    """The SDK's error without what the provider said, which may repeat the key or what was sent. Logs print it."""
    error.args = (f"Error code: {error.status_code}",)
    return error


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds a provider asks us to wait: ``Retry-After-Ms``, or ``Retry-After`` as seconds or as an HTTP date."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    return seconds if seconds is not None or value is None else _until(value)


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _until(date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _message(error: Any, secret: str) -> str:
    """What the provider said, short and without the key."""
    text = _said(error.body) or "it gave no reason."
    return storable(_without(text, secret)[:LONGEST_MESSAGE])


def _said(body: Any, levels: int = _REASON_LEVELS) -> str:
    """The reason in a body: a sentence, OpenAI's ``error`` and ``message``, or FastAPI's ``detail``, one in the other.

    Of a list of what is wrong with a request, only where and why: what was sent is repeated there, too.
    """
    if isinstance(body, str):
        return "" if body.lstrip().startswith("<") else body  # a page of some proxy's
    if isinstance(body, list) and levels:
        return " ".join(filter(None, (_said(each, levels - 1) for each in body)))
    if not isinstance(body, Mapping) or not levels:
        return ""
    if isinstance(body.get("msg"), str):
        place = body.get("loc")
        return f"{'.'.join(map(str, place))}: {body['msg']}." if isinstance(place, list) else body["msg"]
    return next(filter(None, (_said(body.get(name), levels - 1) for name in ("error", "message", "detail"))), "")


def _code(error: Any) -> str:
    """The provider's own code of what went wrong; "" where it gave none."""
    body = error.body if isinstance(error.body, Mapping) else {}
    inner = body.get("error", body)
    return str(inner.get("code") or "") if isinstance(inner, Mapping) else ""


def storable(text: str) -> str:
    """The text with a replacement character for each null character and each half of a surrogate pair."""
    return _UNSTORABLE.sub("\ufffd", text)


def _without(text: str, secret: str) -> str:
    return text.replace(secret, "[key]") if secret else text
