"""When a call that failed is made again, and how a write that must not be lost is repeated."""

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import stamina
from django.db import InterfaceError, OperationalError, connection

from apps.providers.errors import ProviderError

logger = logging.getLogger(__name__)

#: A provider that asks for a longer pause than this gets it from the work list, not from a sleeping worker.
MAX_PAUSE_SECONDS = 20.0
#: How long a write that records what a provider did is tried, when the database is away.
WRITE_SECONDS = 30.0

P = ParamSpec("P")
R = TypeVar("R")


def backoff(error: Exception) -> bool | float:
    """stamina's hook: whether to call again, and after how many seconds when the provider said so."""
    if not isinstance(error, ProviderError) or not error.retryable:
        return False
    if error.retry_after is None:
        return True
    return error.retry_after if error.retry_after <= MAX_PAUSE_SECONDS else False


def written(write: Callable[P, R]) -> Callable[P, R]:
    """Repeat a keyed write while the database is away: its reply may be lost after it took effect."""

    @functools.wraps(write)
    def repeated(*args: P.args, **kwargs: P.kwargs) -> R:
        for attempt in stamina.retry_context(on=_lost_database, attempts=None, timeout=WRITE_SECONDS):
            with attempt:
                return write(*args, **kwargs)
        raise AssertionError("stamina lets the last error through")

    return repeated


def _lost_database(error: Exception) -> bool:
    if not isinstance(error, OperationalError | InterfaceError) or connection.in_atomic_block:
        return False
    logger.warning("database unreachable while recording a call; trying again", exc_info=error)
    connection.close_if_unusable_or_obsolete()
    return True
