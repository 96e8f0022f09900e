"""Reading a provider's stream: looking up while it is silent, and leaving it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from apps.gateway.errors import CallCancelledError
from apps.gateway.upstream import Upstream
from apps.providers.adapters.openai import OpenAIProvider
from apps.providers.base import ChatChunk, ChatMessage, ChatRequest, ProviderConfig
from apps.providers.errors import ProviderTimeoutError

REQUEST = ChatRequest(model="m", messages=(ChatMessage(role="user", content="Hello?"),), max_tokens=50)


def never() -> bool:
    return False


class Talker(BaseHTTPRequestHandler):
    """Streams word after word until the caller has gone."""

    server: "TalkingServer"

    def do_POST(self) -> None:
        event = {"choices": [{"index": 0, "delta": {"content": "and "}, "finish_reason": None}]}
        self.send_response(200)
        self.end_headers()
        try:
            while not self.server.over.wait(0.01):
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        except ConnectionError:
            self.server.caller_gone.set()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Silent."""


class TalkingServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Talker)
        self.caller_gone, self.over = threading.Event(), threading.Event()


@pytest.fixture
def talking_server() -> Iterator[TalkingServer]:
    with TalkingServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.over.set()
        server.shutdown()


def test_a_provider_that_still_talks_sees_its_caller_go(talking_server: TalkingServer) -> None:
    adapter = OpenAIProvider(ProviderConfig(base_url=f"http://127.0.0.1:{talking_server.server_port}/v1"))
    with Upstream(adapter.stream(REQUEST, request_id="r", timeout=30)) as upstream:
        assert next(upstream.chunks(timeout=30, cancelled=never)).delta == "and "
        assert not talking_server.caller_gone.is_set()
    assert talking_server.caller_gone.wait(10)


def test_leaving_early_closes_the_upstream_call_with_its_next_chunk() -> None:
    left, ended = threading.Event(), threading.Event()
    ends: list[str] = []

    def chunks() -> Iterator[ChatChunk]:
        try:
            yield ChatChunk(delta="one")
            left.wait()
            yield ChatChunk(delta="two")
            ends.append("read on")
        except GeneratorExit:
            ends.append("closed")
        finally:
            ended.set()

    with Upstream(chunks()) as upstream:
        assert next(upstream.chunks(timeout=10, cancelled=never)).delta == "one"
    left.set()
    assert ended.wait(10)
    assert ends == ["closed"]


def test_what_arrived_in_time_is_not_lost_to_a_slow_reader() -> None:
    read = threading.Event()

    def chunks() -> Iterator[ChatChunk]:
        yield ChatChunk(delta="one")
        yield ChatChunk(finish_reason="stop")
        read.set()

    with Upstream(chunks()) as upstream:
        assert read.wait(10)
        assert [chunk.delta for chunk in upstream.chunks(timeout=0, cancelled=never)] == ["one", ""]


def test_it_looks_up_from_a_stream_that_is_silent() -> None:
    over = threading.Event()

    def chunks() -> Iterator[ChatChunk]:
        over.wait()
        yield ChatChunk(finish_reason="stop")

    with Upstream(chunks()) as upstream:
        looks = iter([False, False, True])
        with pytest.raises(CallCancelledError):
            next(upstream.chunks(timeout=10, cancelled=lambda: next(looks)))
        with pytest.raises(ProviderTimeoutError):
            next(upstream.chunks(timeout=0, cancelled=never))
    over.set()


def test_whatever_ends_the_reading_is_raised_where_the_chunks_are_taken() -> None:
    def chunks() -> Iterator[ChatChunk]:
        yield ChatChunk(delta="one")
        raise KeyboardInterrupt

    with Upstream(chunks()) as upstream, pytest.raises(KeyboardInterrupt):
        list(upstream.chunks(timeout=10, cancelled=never))
