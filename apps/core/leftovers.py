"""What nobody would take out of Redis again: keys of ours that have neither an end nor an owner.

All that nooble keeps there ends by itself, and the broker's own keys are read by its workers. What is left are the
answers to a question to workers (``celery inspect``) whose asker died before it had them, which stay for good
(celery/celery#6089), and the messages of a queue that a later release no longer reads. They are given an hour. No fact
is lost by it: work is published again from the database.
"""

import logging
import re

from django.conf import settings
from redis import Redis

from apps.core import breaker

logger = logging.getLogger(__name__)

LEFT_SECONDS = 3600
#: What Redis says of a key that does not expire.
FOR_GOOD = -1


def sweep() -> int:
    """Give each such key its hour; returns how many there were, or 0 where Redis does not answer."""
    found = breaker.ask(_find) or []
    for key in found:
        logger.info("Left in Redis: expires in an hour", extra={"key": key.decode(errors="replace")})
    return len(found)


def _find(redis: Redis) -> list[bytes]:
    """The keys, each with its hour. One that begins to expire meanwhile gets the hour too, which does no harm."""
    owned = _owned()
    keys = redis.scan_iter(match=f"{_prefix()}*", count=1000)
    found = [key for key in keys if not owned.match(key) and redis.ttl(key) == FOR_GOOD]
    for key in found:
        redis.expire(key, LEFT_SECONDS)
    return found


def _owned() -> re.Pattern[bytes]:
    """The broker's: its tables, what workers have taken, and the queues, whose priorities have a list each."""
    queues = "|".join(re.escape(queue.name) for queue in settings.CELERY_TASK_QUEUES)
    return re.compile(rf"{re.escape(_prefix())}(_kombu\.|unacked|({queues})(\x06\x16|$))".encode())


def _prefix() -> str:
    return str(settings.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"])
