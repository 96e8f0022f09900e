"""Writing while the database comes and goes: what counts as away, and how a keyed write is repeated until it is back.

Only for writes that have a key: the reply to a COMMIT may be lost after it took effect, and the repetition must then
find what the first one wrote.
"""

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import stamina
from django.db import Error, InterfaceError, InternalError, OperationalError, connection

logger = logging.getLogger(__name__)

#: How long a write that records what a provider did is tried.
WRITE_SECONDS = 30.0

#: ``program_limit_exceeded`` is among PostgreSQL's operational errors, and is the statement's own fault.
_TOO_COMPLEX = "54"
#: The server that answers has become a standby: the one that takes writes is away.
_READ_ONLY = "25006"

P = ParamSpec("P")
R = TypeVar("R")


def is_away(error: BaseException) -> bool:
    """Whether the database could not be reached, or cannot take writes for now, so that the same write may succeed."""
    state = getattr(error.__cause__, "sqlstate", None) or ""
    if isinstance(error, InternalError):
        return state == _READ_ONLY
    return isinstance(error, OperationalError | InterfaceError) and not state.startswith(_TOO_COMPLEX)


def repeated(write: Callable[[], R], *, seconds: float) -> R:
    """Do a keyed write, again and again for so long while the database is away; then its error goes through.

    Inside a transaction it is done once: what went before it is lost with the connection, and only the caller can
    repeat that.
    """
    for attempt in stamina.retry_context(on=_again, attempts=None, timeout=seconds):
        with attempt:
            return write()
    raise AssertionError("stamina lets the last error through")


def written(write: Callable[P, R]) -> Callable[P, R]:
    """Repeat a keyed write while the database is away: its reply may be lost after it took effect."""

    @functools.wraps(write)
    def kept(*args: P.args, **kwargs: P.kwargs) -> R:
        return repeated(functools.partial(write, *args, **kwargs), seconds=WRITE_SECONDS)

    return kept


def _again(error: Exception) -> bool:
    if not isinstance(error, Error) or not is_away(error) or connection.in_atomic_block:
        return False
    logger.warning("database away while recording; trying again", extra={"error": str(error)})
    connection.close_if_unusable_or_obsolete()
    return True
