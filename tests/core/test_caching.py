"""What is remembered for a while: read once, and never from before it was forgotten."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from django.core.cache import cache
from django.db import transaction
from pytest_django import Settings

from apps.core import caching

THREADS = 20


@pytest.fixture
def key(database: None) -> str:
    return f"test:{uuid4()}"


class Reader:
    """Counts how often it was asked; answers when it may."""

    def __init__(self, value: Any = "read") -> None:
        self.value, self.asked = value, 0
        self.begun, self.may_answer = threading.Event(), threading.Event()
        self.may_answer.set()
        self._counting = threading.Lock()

    def __call__(self) -> Any:
        with self._counting:
            self.asked += 1
        self.begun.set()
        assert self.may_answer.wait(timeout=30)
        return self.value


def remembered(key: str, read: Callable[[], Any]) -> Any:
    return caching.remembered(key, read, seconds=60)


def test_what_was_read_is_not_read_again(key: str) -> None:
    reader = Reader({"a": [1, None, "é"]})
    assert [remembered(key, reader) for _ in range(3)] == [reader.value] * 3
    assert reader.asked == 1


def test_of_many_that_ask_at_once_one_reads_and_all_are_told(key: str) -> None:
    reader = Reader()
    reader.may_answer.clear()
    with ThreadPoolExecutor(THREADS) as pool:
        told = [pool.submit(remembered, key, reader) for _ in range(THREADS)]
        assert reader.begun.wait(timeout=30)
        reader.may_answer.set()
        assert {future.result() for future in told} == {"read"}
    assert reader.asked == 1


def test_what_is_forgotten_is_read_anew_once_the_transaction_has_committed(key: str) -> None:
    remembered(key, Reader("before"))
    with transaction.atomic():
        caching.forget(key)
        assert remembered(key, Reader("too early")) == "before"
    assert remembered(key, Reader("after")) == "after"


def test_what_was_read_before_it_was_forgotten_is_not_remembered(key: str) -> None:
    slow = Reader("from before the commit")
    slow.may_answer.clear()
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(remembered, key, slow)
        assert slow.begun.wait(timeout=30)
        caching.forget(key)
        slow.may_answer.set()
        # It was asked before, and is told what was so then.
        assert told.result() == "from before the commit"
    assert remembered(key, Reader("after")) == "after"


def test_what_could_not_be_read_is_asked_for_again_at_once(key: str) -> None:
    def fail() -> Any:
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            remembered(key, fail)
    assert remembered(key, Reader()) == "read"


def test_without_redis_everything_is_read(key: str, settings: Settings) -> None:
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1/0"}}
    reader = Reader()
    assert [remembered(key, reader) for _ in range(2)] == ["read"] * 2
    assert reader.asked == 2
    caching.forget(key)


def test_nothing_that_redis_holds_is_run(key: str) -> None:
    with pytest.raises(ValueError, match="codec can't decode"):
        caching.JSONSerializer().loads(b"\x80\x04cposix\nsystem\n.")
    cache.set(key, {"a": 1})
    assert cache.get(key) == {"a": 1}
