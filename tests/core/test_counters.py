"""What processes count together, and what becomes of it when Redis is not there."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from pytest_django import Settings

from apps.core import breaker, counters


@pytest.fixture
def counter(engines: None, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(breaker, "_silent_until", 0.0)
    return f"test-{uuid4().hex}"


def test_everything_is_counted_however_many_count(counter: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        for _ in range(200):
            pool.submit(counters.count, counter, ("a", "x"), ("b", "x"))
    counters.count(counter, ("a", "y"))
    assert counters.read(counter) == {("a", "x"): 200, ("b", "x"): 200, ("a", "y"): 1}


def test_words_of_clients_do_not_fill_the_memory(counter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "MAX_LABELS", 3)
    for client in ("one", "two", "three", "four", "five", "one"):
        counters.count(counter, ("header", client))
    told = counters.read(counter)
    assert told == {
        ("header", "one"): 2,
        ("header", "two"): 1,
        ("header", "three"): 1,
        ("header", counters.OTHER): 2,
    }


def test_labels_that_filled_a_counter_make_room_a_week_after_the_first_of_them(
    counter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "MAX_LABELS", 1)
    redis, key = breaker.client(), counters._key(counter)
    counters.count(counter, ("header", "old"))
    assert counters.KEPT_SECONDS - 60 < redis.ttl(key) <= counters.KEPT_SECONDS
    # The end of the week.
    redis.expire(key, 60)
    counters.count(counter, ("header", "new"))
    assert 0 < redis.ttl(key) <= 60
    redis.expire(key, 0)
    counters.count(counter, ("header", "new"))
    assert counters.read(counter) == {("header", "new"): 1}


def test_a_value_is_counted_where_it_fits_in_first(counter: str) -> None:
    for value in (10, 11, 100, 101):
        counters.observe(counter, value, buckets=(10, 100))
    assert counters.read(counter) == {("10",): 1, ("100",): 2, ("+Inf",): 1, ("sum",): 222}


def test_while_redis_is_away_nothing_is_counted_and_nothing_fails(
    counter: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = settings.REDIS_URL
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    counters.count(counter, ("a",))
    settings.REDIS_URL = there
    monkeypatch.setattr(breaker, "_silent_until", 0.0)
    counters.count(counter, ("a",))
    assert counters.read(counter) == {("a",): 1}
