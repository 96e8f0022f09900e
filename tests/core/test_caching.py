"""What is remembered for a while: read once, and never from before it was forgotten."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
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


def ask_at_once(key: str, reader: Reader) -> set[str]:
    """What many are told who all ask before the first has its answer."""
    reader.may_answer.clear()
    with ThreadPoolExecutor(THREADS) as pool:
        told = [pool.submit(remembered, key, reader) for _ in range(THREADS)]
        assert reader.begun.wait(timeout=30)
        reader.may_answer.set()
        return {future.result() for future in told}


@contextmanager
def reading(key: str, reader: Reader) -> Iterator[Future[Any]]:
    """Somebody asks and is reading until the end of the block, or until ``reader`` may answer; what it is told."""
    reader.may_answer.clear()
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(remembered, key, reader)
        assert reader.begun.wait(timeout=30)
        try:
            yield told
        finally:
            reader.may_answer.set()


@pytest.mark.parametrize("value", [{"a": [1, None, "é"]}, [], None])
def test_what_was_read_is_not_read_again(key: str, value: Any) -> None:
    reader = Reader(value)
    assert [remembered(key, reader) for _ in range(3)] == [value] * 3
    assert reader.asked == 1


def test_of_many_that_ask_at_once_one_reads_and_all_are_told(key: str) -> None:
    reader = Reader()
    assert ask_at_once(key, reader) == {"read"}
    assert reader.asked == 1


def test_of_many_that_ask_right_after_a_change_one_reads_and_all_are_told(key: str) -> None:
    remembered(key, Reader("before"))
    caching.forget(key)
    reader = Reader("after")
    assert ask_at_once(key, reader) == {"after"}
    assert remembered(key, reader) == "after"
    assert reader.asked == 1


def test_what_is_forgotten_is_read_anew_once_the_transaction_has_committed(key: str) -> None:
    remembered(key, Reader("before"))
    with transaction.atomic():
        caching.forget(key)
        assert remembered(key, Reader("too early")) == "before"
    assert remembered(key, Reader("after")) == "after"


def test_what_was_read_before_it_was_forgotten_is_not_remembered(key: str) -> None:
    with reading(key, Reader("from before the change")) as told:
        caching.forget(key)
    # It was asked before, and is told what was so then.
    assert told.result() == "from before the change"
    assert remembered(key, Reader("after")) == "after"


def test_after_a_change_nobody_waits_for_who_reads_from_before_it_nor_is_told_that_later(key: str) -> None:
    after = Reader("after")
    with reading(key, Reader("from before the change")):
        caching.forget(key)
        assert [remembered(key, after) for _ in range(2)] == ["after"] * 2
        assert after.asked == 1
    assert remembered(key, after) == "after"


def test_who_read_from_before_a_change_does_not_end_the_turn_of_who_reads_after_it(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after, late = Reader("before"), Reader("after"), Reader("late")
    sleep = time.sleep

    def wait(seconds: float) -> None:
        # Set as well when it reads instead of waiting.
        late.begun.set()
        sleep(seconds)

    with reading(key, before) as told:
        caching.forget(key)
        with reading(key, after), ThreadPoolExecutor(1) as pool:
            before.may_answer.set()
            assert told.result() == "before"
            monkeypatch.setattr(time, "sleep", wait)
            told_late = pool.submit(remembered, key, late)
            assert late.begun.wait(timeout=30)
            after.may_answer.set()
            assert told_late.result() == "after"
    assert late.asked == 0


def test_who_reads_for_too_long_is_not_waited_for(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "READ_SECONDS", 3600)
    with reading(key, Reader("slow")):
        monkeypatch.setattr(caching, "READ_SECONDS", 1)
        assert remembered(key, Reader("own")) == "own"


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
