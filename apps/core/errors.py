"""Every error that nooble answers with, and the root they share.

An error is three class attributes and a docstring. The docstring's first line is the title a client reads and
what ``docs/errors.md`` lists; ``detail`` says what happened this time and what to do next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True)
class FieldError:
    """What is wrong with one field of a request: its path, a stable code, and a sentence."""

    field: str
    code: str
    detail: str


class NoobleError(Exception):
    """Something went wrong on our side."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    #: Whether the same call, made again later, can succeed.
    retryable: ClassVar[bool] = False
    #: Seconds to wait before that, when somebody said so.
    retry_after: float | None = None

    def __init__(self, detail: str = "", *, errors: Sequence[FieldError] = (), **extra: Any) -> None:
        """``detail`` is shown to the client, so it never holds a secret; ``extra`` are further problem members."""
        self.detail = detail or self.title()
        self.errors = tuple(errors)
        self.extra = extra
        super().__init__(self.detail)

    @property
    def reason(self) -> str:
        """The code that is written down of work that failed with this."""
        return self.code

    @classmethod
    def title(cls) -> str:
        """The first line of the class's docstring."""
        return (cls.__doc__ or cls.__name__).strip().splitlines()[0]


class InvalidRequestError(NoobleError):
    """The request is not valid."""

    code = "invalid_request"
    status = 400


class NotAuthenticatedError(NoobleError):
    """No valid API key came with the request."""

    code = "not_authenticated"
    status = 401


class PermissionDeniedError(NoobleError):
    """The key may not do this."""

    code = "permission_denied"
    status = 403


class NotFoundError(NoobleError):
    """There is no such thing, or it is not yours."""

    code = "not_found"
    status = 404


class PreferenceConflictError(InvalidRequestError):
    """A header and the rest of the request ask for different things."""

    code = "preference_conflict"


class ConflictError(NoobleError):
    """The request contradicts what is already there."""

    code = "conflict"
    status = 409


class SlugTakenError(ConflictError):
    """The slug is in use."""

    code = "slug_taken"


class BusyError(ConflictError):
    """Somebody else is at it; come back later."""

    code = "busy"
    retryable = True


class TooLargeError(NoobleError):
    """What was sent is larger than the limit."""

    code = "too_large"
    status = 413


class RateLimitedError(NoobleError):
    """Too many requests; wait as long as Retry-After says."""

    code = "rate_limited"
    status = 429
    retryable = True


class UnsupportedMediaTypeError(NoobleError):
    """The format of what was sent is not one that is understood here."""

    code = "unsupported_media_type"
    status = 415
