"""What happens to every request, whichever application answers it."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from structlog.contextvars import bound_contextvars

from apps.core.ids import new_id

HEADER = "X-Request-ID"
_ACCEPTED = re.compile(r"[\w.:@/+-]{1,128}", re.ASCII)


@sync_and_async_middleware
def request_id(
    get_response: Callable[[HttpRequest], Any],
) -> Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]:
    """Give every request an id: the caller's if it is well-formed, in the answer and on every line that is logged."""

    async def asynchronous(request: HttpRequest) -> HttpResponseBase:
        with bound_contextvars(request_id=_identify(request)):
            return _answered(request, await get_response(request))

    def synchronous(request: HttpRequest) -> HttpResponseBase:
        with bound_contextvars(request_id=_identify(request)):
            return _answered(request, get_response(request))

    return asynchronous if iscoroutinefunction(get_response) else synchronous


def _identify(request: HttpRequest) -> str:
    given = request.headers.get(HEADER, "")
    request.request_id = given if _ACCEPTED.fullmatch(given) else str(new_id())  # type: ignore[attr-defined]
    return str(request.request_id)  # type: ignore[attr-defined]


def _answered(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    response.headers[HEADER] = request.request_id  # type: ignore[attr-defined]
    return response
