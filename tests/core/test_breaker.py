"""Redis that does not answer is left out for a while; one that refuses a question is not."""

import socket
from collections.abc import Iterator

import pytest
from pytest_django import Settings

from apps.core import breaker


class SilentServer:
    """Takes connections and answers nothing."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.url = f"redis://127.0.0.1:{self._socket.getsockname()[1]}/0"

    def connections(self) -> int:
        """How many have been opened since this was last asked."""
        found = 0
        while True:
            try:
                self._socket.accept()[0].close()
            except BlockingIOError:
                return found
            found += 1

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[SilentServer]:
    monkeypatch.setattr(breaker, "_silent_until", 0.0)
    silent = SilentServer()
    settings.REDIS_URL = silent.url
    yield silent
    breaker.client().close()
    silent.close()


def answers(number: int) -> list[object]:
    return [breaker.ask(lambda redis: redis.ping()) for _ in range(number)]


def test_nobody_waits_again_and_again_for_a_redis_that_is_silent(server: SilentServer) -> None:
    assert answers(5) == [None] * 5
    assert server.connections() == 1


@pytest.mark.parametrize("wait", ["socket_connect_timeout", "socket_timeout"])
def test_a_request_that_has_to_wait_for_it_waits_less_than_a_second(server: SilentServer, wait: str) -> None:
    assert breaker.client().connection_pool.connection_kwargs[wait] < 1


def test_after_a_pause_it_is_asked_again(server: SilentServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "PAUSE_SECONDS", 0.0)
    assert answers(2) == [None] * 2
    assert server.connections() == 2


def test_it_is_said_once_in_each_pause(server: SilentServer, caplog: pytest.LogCaptureFixture) -> None:
    answers(5)
    assert [record.getMessage() for record in caplog.records] == ["Redis does not answer: left out for a while"]


def test_a_question_that_redis_refuses_silences_no_other(
    engines: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(breaker, "_silent_until", 0.0)
    assert breaker.ask(lambda redis: redis.eval("return redis.error_reply('NO not this one')", 0)) is None
    assert answers(1) == [True]
    [record] = caplog.records
    assert (record.getMessage(), record.__dict__["error"]) == ("Redis refuses what it is asked", "ResponseError")
