"""What is remembered in Redis for a while. Never a fact: without it everything is only slower, and a key expires.

Beside a value stands the *generation* of its key: a random token that the first reader makes, and that ``forget``
deletes once the change has committed. A reader notes the generation before it reads, and what it remembers counts only
while that one stands. So

- what was read before a change never counts after it. A reader that writes late writes under a generation that is gone:
  at worst over a newer value, which is then read once more;
- of many that ask at once, right after a change too, one reads and the others wait for it. The lock is the
  generation's: nobody waits for what was so before the change;
- a generation that expired, or that Redis has lost, does not come again, nor does what was remembered under it. It
  begins before whatever is read under it and ends after ``seconds``: nothing counts for longer;
- where Redis is away everybody reads. A change that is made meanwhile shows when the generation expires.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

from django.core.cache import cache
from django.db import transaction
from redis import RedisError

#: Longer than a query of one row takes. Whoever takes longer than that is not waited for any more.
READ_SECONDS = 5
POLL_SECONDS = 0.01


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
    deadline = time.monotonic() + READ_SECONDS
    while time.monotonic() < deadline:
        generation, values = _look(key, seconds)
        if values:
            return values[0]
        if generation is None:
            break
        with _turn(key, generation) as ours:
            if ours:
                return _read(key, generation, read, seconds)
        time.sleep(POLL_SECONDS)
    # Redis is away, or whoever reads has been at it for too long.
    return read()


def forget(key: str) -> None:
    """Have it read anew once the open transaction has committed; at once when there is none."""
    # Robust: where Redis is away, what it had is forgotten when its time is up.
    transaction.on_commit(lambda: cache.delete(_generation(key)), robust=True)


def _look(key: str, seconds: int) -> tuple[str | None, list[Any]]:
    """The generation that stands, and the value of it, if there is one; no generation where Redis is away."""
    try:
        found = cache.get_many([key, _generation(key)])
        generation = found.get(_generation(key)) or cache.get_or_set(_generation(key), uuid4().hex, timeout=seconds)
    except RedisError:
        return None, []
    of, *values = found.get(key, [None])
    return generation, values if of == generation else []


def _read(key: str, generation: str, read: Callable[[], Any], seconds: int) -> Any:
    # Between our look and our turn somebody else may have read and gone.
    _, values = _look(key, seconds)
    if values:
        return values[0]
    value = read()
    with contextlib.suppress(RedisError):
        cache.set(key, [generation, value], timeout=seconds)
    return value


@contextlib.contextmanager
def _turn(key: str, generation: str) -> Iterator[bool]:
    """Whether it is our turn to read. It is nobody else's meanwhile, for :data:`READ_SECONDS` at most."""
    lock = f"{key}:reading:{generation}"
    ends = time.monotonic() + READ_SECONDS
    ours = False
    with contextlib.suppress(RedisError):
        ours = cache.add(lock, True, timeout=READ_SECONDS)
    try:
        yield ours
    finally:
        # Later than that it may be somebody else's.
        if ours and time.monotonic() < ends:
            with contextlib.suppress(RedisError):
                cache.delete(lock)


def _generation(key: str) -> str:
    return f"{key}:generation"
