"""Redis for what a request can do without: it answers at once, or this process leaves it out for a while.

Whoever asks here goes on without an answer. So an absent Redis costs one short wait in each pause, not one in each
request. A Redis that refuses one question is there for the others, and is asked on.
"""

import functools
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from django.conf import settings
from redis import ConnectionError as RedisConnectionError
from redis import Redis, RedisError
from redis import TimeoutError as RedisTimeoutError

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 10.0
TIMEOUT_SECONDS = 0.25
#: Redis is away, or begins and reads its data, or lets nobody in.
AWAY = (RedisConnectionError, RedisTimeoutError)

T = TypeVar("T")

_silent_until = 0.0


def ask(question: Callable[[Redis], T]) -> T | None:
    """What Redis answers; None where it refuses to.

    None, too, where it is away, and then without asking it for :data:`PAUSE_SECONDS` afterwards.
    """
    global _silent_until  # noqa: PLW0603 - of this process: whether Redis was there a moment ago
    if time.monotonic() < _silent_until:
        return None
    try:
        return question(client())
    except AWAY as error:
        _silent_until = time.monotonic() + PAUSE_SECONDS
        logger.warning("Redis does not answer: left out for a while", extra={"error": type(error).__name__})
    except RedisError as error:
        logger.warning("Redis refuses what it is asked", extra={"error": type(error).__name__, "reason": str(error)})
    return None


def client() -> Redis:
    """The client behind :func:`ask`; who uses it directly has its errors."""
    return _client(settings.REDIS_URL)


@functools.cache
def _client(url: str) -> Redis:
    # Its pool knows when the process has been forked.
    return Redis.from_url(url, socket_connect_timeout=TIMEOUT_SECONDS, socket_timeout=TIMEOUT_SECONDS)
