"""One shape for every error: RFC 9457 problem documents with a stable code."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.core.exceptions import (
    BadRequest,
    DisallowedHost,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    TooManyFieldsSent,
    TooManyFilesSent,
)
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from rest_framework import exceptions, status
from rest_framework.views import set_rollback

from apps.core import errors

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"


class MethodNotAllowedError(errors.NoobleError):
    """This address does not take that method."""

    code = "method_not_allowed"
    status = 405


class NotAcceptableError(errors.NoobleError):
    """The answer cannot be given in the format asked for."""

    code = "not_acceptable"
    status = 406


_BY_STATUS: Mapping[int, type[errors.NoobleError]] = {
    400: errors.InvalidRequestError,
    401: errors.NotAuthenticatedError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    405: MethodNotAllowedError,
    406: NotAcceptableError,
    413: errors.TooLargeError,
    415: errors.UnsupportedMediaTypeError,
    429: errors.RateLimitedError,
}
#: Django's exceptions, the error of ours that each stands for, and its detail; the general one comes last.
_DJANGO: Sequence[tuple[type[Exception] | tuple[type[Exception], ...], type[errors.NoobleError], str]] = (
    (Http404, errors.NotFoundError, ""),
    (PermissionDenied, errors.PermissionDeniedError, ""),
    (
        (RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent),
        errors.TooLargeError,
        "The body is larger, or has more fields or files, than is taken here. Send less.",
    ),
    (
        DisallowedHost,
        errors.InvalidRequestError,
        "This deployment does not answer to that host name. Its operator sets ALLOWED_HOSTS.",
    ),
    ((SuspiciousOperation, BadRequest), errors.InvalidRequestError, ""),
)


def handle(error: Exception, context: Mapping[str, Any]) -> HttpResponse:
    """DRF's exception handler: whatever a view raises becomes a problem document, and its transaction is undone."""
    set_rollback()
    problem = translate(error)
    if problem.status >= status.HTTP_500_INTERNAL_SERVER_ERROR:
        logger.error("request failed", exc_info=error, extra={"code": problem.code})
    return answer(problem, context.get("request"), _headers(error, problem))


def translate(error: Exception) -> errors.NoobleError:
    """The error of ours that a foreign one stands for; what nobody expected is an internal error without details."""
    if isinstance(error, errors.NoobleError):
        return error
    if isinstance(error, exceptions.ValidationError):
        return errors.InvalidRequestError(
            "See `errors` for what is wrong with which field.", errors=tuple(_fields(error.get_full_details()))
        )
    if isinstance(error, exceptions.APIException):
        return _BY_STATUS.get(error.status_code, errors.NoobleError)(str(error.detail))
    for foreign, ours, detail in _DJANGO:
        if isinstance(error, foreign):
            return ours(detail)
    return errors.NoobleError("Try again; if it stays, tell the operator the request id.")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's ``handler400``: what is refused before a view of the API sees it is answered as the API answers."""
    if not request.path.startswith("/api/"):
        return defaults.bad_request(request, exception)
    return answer(translate(exception), request)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's ``handler404``: an address of the API that no view has is answered as the API answers."""
    if not request.path.startswith("/api/"):
        return defaults.page_not_found(request, exception)
    return answer(errors.NotFoundError("There is nothing at this address. See /api/docs for what there is."), request)


def document(problem: errors.NoobleError, request: str) -> dict[str, Any]:
    """The problem document of an error."""
    return {
        "type": f"{settings.ERROR_TYPE_BASE}/{problem.code}",
        "title": problem.title(),
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "request_id": request,
        "errors": [{"field": e.field, "code": e.code, "detail": e.detail} for e in problem.errors],
        **problem.extra,
    }


def request_id(request: Any) -> str:
    return str(getattr(request, "request_id", ""))


def answer(problem: errors.NoobleError, request: Any, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """A problem document as it is sent: JSON, also where a view's own renderer writes YAML or a page."""
    body = document(problem, request_id(request))
    return JsonResponse(body, status=problem.status, content_type=CONTENT_TYPE, headers=headers)


def _fields(detail: Any, path: str = "") -> Iterator[errors.FieldError]:
    if isinstance(detail, Mapping) and set(detail) == {"message", "code"}:
        yield errors.FieldError(field=path, code=str(detail["code"]), detail=str(detail["message"]))
    elif isinstance(detail, Mapping):
        for name, inner in detail.items():
            yield from _fields(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(detail, list):
        for inner in detail:
            yield from _fields(inner, path)


def _headers(error: Exception, problem: errors.NoobleError) -> dict[str, str]:
    headers: dict[str, str] = {}
    if problem.status == status.HTTP_401_UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="nooble"'
    wait = getattr(error, "wait", None) or problem.retry_after
    if wait:
        headers["Retry-After"] = str(math.ceil(wait))
    return headers
