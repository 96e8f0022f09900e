"""Reading a provider's stream: looking up while it is silent, and leaving it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from apps.gateway.errors import CallCancelledError
from apps.gateway.upstream import Upstream
from apps.providers.adapters.anthropic import AnthropicProvider
from apps.providers.adapters.cohere import CohereProvider
from apps.providers.adapters.groq import GroqProvider
from apps.providers.adapters.openai import OpenAIProvider
from apps.providers.base import ChatChunk, ChatMessage, ChatRequest, ProviderConfig
from apps.providers.errors import ProviderTimeoutError
from apps.providers.lines import Line

Adapter = OpenAIProvider | GroqProvider | AnthropicProvider | CohereProvider
REQUEST = ChatRequest(model="m", messages=(ChatMessage(role="user", content="Hello?"),), max_tokens=50)
#: A word, as an event of a stream.
OPENAIS = {"choices": [{"index": 0, "delta": {"content": "and "}, "finish_reason": None}]}
ANTHROPICS = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "and "}}
COHERES = {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "and "}}}}
EVENTS = {"/v1/messages": ANTHROPICS, "/v2/chat": COHERES}


def never() -> bool:
    return False


class Talker(BaseHTTPRequestHandler):
    """Streams word after word until the caller has gone, or one word and then listens for it."""

    server: "TalkingServer"

    def do_POST(self) -> None:
        event = EVENTS.get(self.path, OPENAIS)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.set()
        self.server.may_answer.wait()
        self.send_response(200)
        self.end_headers()
        try:
            while not self.server.over.wait(0.01):
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
                if self.server.silent:
                    self.rfile.read(1)
                    self.server.caller_gone.set()
                    return
        except ConnectionError:
            self.server.caller_gone.set()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Silent."""


class TalkingServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Talker)
        self.caller_gone, self.over = threading.Event(), threading.Event()
        self.asked, self.may_answer = threading.Event(), threading.Event()
        self.silent = False


@pytest.fixture
def talking_server() -> Iterator[TalkingServer]:
    with TalkingServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.may_answer.set()
        yield server
        server.over.set()
        server.shutdown()


def test_a_provider_that_still_talks_sees_its_caller_go(talking_server: TalkingServer) -> None:
    with upstream_of(talking_server, OpenAIProvider) as upstream:
        assert next(upstream.chunks(timeout=30, cancelled=never)).delta == "and "
        assert not talking_server.caller_gone.is_set()
    assert talking_server.caller_gone.wait(10)


@pytest.mark.parametrize("adapter", [OpenAIProvider, GroqProvider, AnthropicProvider, CohereProvider])
def test_a_provider_that_is_silent_sees_its_caller_go(talking_server: TalkingServer, adapter: type[Adapter]) -> None:
    talking_server.silent = True
    with upstream_of(talking_server, adapter) as upstream:
        assert next(upstream.chunks(timeout=30, cancelled=never)).delta == "and "
        assert not talking_server.caller_gone.is_set()
    assert talking_server.caller_gone.wait(10)


def test_a_provider_that_has_not_begun_to_answer_sees_its_caller_go_when_it_does(talking_server: TalkingServer) -> None:
    talking_server.silent = True
    talking_server.may_answer.clear()
    with upstream_of(talking_server, OpenAIProvider):
        assert talking_server.asked.wait(10)
    talking_server.may_answer.set()
    assert talking_server.caller_gone.wait(10)


def upstream_of(server: TalkingServer, adapter: type[Adapter]) -> Upstream:
    config = ProviderConfig(api_key="k", base_url=f"http://127.0.0.1:{server.server_port}")
    line = Line()
    return Upstream(adapter(config).stream(REQUEST, request_id="r", timeout=600, line=line), line)


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

    with Upstream(chunks(), Line()) as upstream:
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

    with Upstream(chunks(), Line()) as upstream:
        assert read.wait(10)
        assert [chunk.delta for chunk in upstream.chunks(timeout=0, cancelled=never)] == ["one", ""]


def test_it_looks_up_from_a_stream_that_is_silent() -> None:
    over = threading.Event()

    def chunks() -> Iterator[ChatChunk]:
        over.wait()
        yield ChatChunk(finish_reason="stop")

    with Upstream(chunks(), Line()) as upstream:
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

    with Upstream(chunks(), Line()) as upstream, pytest.raises(KeyboardInterrupt):
        list(upstream.chunks(timeout=10, cancelled=never))
