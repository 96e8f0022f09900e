"""What is remembered in Redis for a while. Never a fact: without it everything is only slower, and a key expires.

``remembered`` and ``forget`` keep two promises to each other. Of many that ask at once for what is not there, one reads
and the others wait for it. And what is forgotten after a commit is not remembered again from before it: forgetting
leaves a mark for longer than a reading takes, under which a reader that began before the commit cannot write.
"""

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

from django.core.cache import cache
from django.db import transaction
from redis import RedisError

#: Longer than a query of one row takes, however slow the database is: it has a time limit of its own.
READ_SECONDS = 5
MARK_SECONDS = 60
POLL_SECONDS = 0.01

_MARK = "forgotten"


class JSONSerializer:
    """For Django's Redis cache instead of pickle, which runs whatever somebody has put into Redis."""

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data)


def remembered(key: str, read: Callable[[], Any], *, seconds: int) -> Any:
    """What ``read`` gives, as JSON knows it, or gave within so many seconds.

    The caller is outside transactions, as it may wait. What ``read`` raises is raised, and not remembered.
    """
    try:
        found = cache.get(key)
        if found is None and not cache.add(_reading(key), True, timeout=READ_SECONDS):
            found = _waited_for(key)
    except RedisError:
        return read()
    return _read(key, read, seconds) if found is None or found == _MARK else found


def forget(key: str) -> None:
    """Have it read anew once the open transaction has committed; at once when there is none."""
    # Robust: where Redis is away nothing is remembered, and what it had is forgotten when its time is up.
    transaction.on_commit(lambda: cache.set(key, _MARK, timeout=MARK_SECONDS), robust=True)


def _read(key: str, read: Callable[[], Any], seconds: int) -> Any:
    try:
        # Between our look and our turn to read somebody else may have read and gone.
        found = _looked_up(key)
        return _remember(key, read(), seconds) if found is None or found == _MARK else found
    finally:
        _done(key)


def _looked_up(key: str) -> Any:
    with contextlib.suppress(RedisError):
        return cache.get(key)
    return None


def _remember(key: str, value: Any, seconds: int) -> Any:
    with contextlib.suppress(RedisError):
        # Not over a mark, nor over what somebody read later.
        cache.add(key, value, timeout=seconds)
    return value


def _done(key: str) -> None:
    with contextlib.suppress(RedisError):
        cache.delete(_reading(key))


def _waited_for(key: str) -> Any:
    """What somebody else reads just now; None when it did not come, or its reader has gone."""
    deadline = time.monotonic() + READ_SECONDS
    while time.monotonic() < deadline:
        found = cache.get_many([key, _reading(key)])
        if key in found or _reading(key) not in found:
            return found.get(key)
        time.sleep(POLL_SECONDS)
    return None


def _reading(key: str) -> str:
    return f"{key}:reading"
