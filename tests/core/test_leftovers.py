"""What stays in Redis without an end and without an owner gets an hour, and nothing else is touched."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from pytest_django import Settings
from redis import Redis

from apps.core import breaker, leftovers

#: As Kombu names them: the answers to who asked, and a queue's list for a priority.
ANSWERS = f"nooble:{uuid4()}.reply.celery.pidbox"
#: A queue that is no more, although its name begins as that of one that is.
GONE = "nooble:query.free2"
LISTS = ("nooble:query.free", "nooble:query.free\x06\x163", "nooble:maintenance")
TABLES = ("nooble:_kombu.binding.celery", "nooble:unacked", "nooble:unacked_index")


@pytest.fixture
def redis(engines: None, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    """A database of Redis that no worker reads."""
    settings.REDIS_URL = settings.REDIS_URL.replace("db=0", "db=1")
    monkeypatch.setattr(breaker, "_silent_until", 0.0)
    client = breaker.client()
    yield client
    client.flushdb()


def test_answers_that_nobody_fetches_get_an_hour(redis: Redis) -> None:
    redis.lpush(ANSWERS, "{}")
    redis.lpush(GONE, "{}")
    assert leftovers.sweep() == 2
    assert 0 < redis.ttl(ANSWERS) <= leftovers.LEFT_SECONDS
    assert 0 < redis.ttl(GONE) <= leftovers.LEFT_SECONDS
    assert leftovers.sweep() == 0


@pytest.mark.parametrize("key", [*LISTS, *TABLES, "other:1"])
def test_what_somebody_reads_stays(redis: Redis, key: str) -> None:
    redis.lpush(key, "{}")
    assert leftovers.sweep() == 0
    assert redis.ttl(key) == leftovers.FOR_GOOD


def test_what_ends_sooner_is_left_as_it_is(redis: Redis) -> None:
    redis.set("nooble:soon", 1, ex=60)
    assert leftovers.sweep() == 0
    assert 0 < redis.ttl("nooble:soon") <= 60


def test_without_redis_nothing_is_swept(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    monkeypatch.setattr(breaker, "_silent_until", 0.0)
    assert leftovers.sweep() == 0
