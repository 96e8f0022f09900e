"""An adapter that nobody has any more leaves no connection behind, and one that somebody calls is not cut off."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.test import override_settings

from apps.providers import registry
from apps.providers.base import ChatMessage, ChatRequest, ChatResult, Credential
from apps.providers.errors import ProviderUnavailableError
from tests.conformance.subjects import REMOTE, Subject
from tests.fakes.provider import Handler, Server

#: A connection that is not closed would be noticed after this many seconds.
PATIENCE = 30


class NotingHandler(Handler):
    """Says when the other side has closed the connection."""

    closed = threading.Semaphore(0)

    def finish(self) -> None:
        super().finish()
        self.closed.release()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """The fake provider in this process, so that its side of a connection can be seen."""
    NotingHandler.closed = threading.Semaphore(0)
    server = Server(0, tmp_path / "tally.jsonl")
    server.RequestHandlerClass = NotingHandler
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(params=REMOTE, ids=lambda subject: subject.name)
def subject(request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subject]:
    found: Subject = request.param
    monkeypatch.setattr(registry, "MAX_ADAPTERS", 2)
    entry = found.settings(f"http://127.0.0.1:{server.server_address[1]}", "sk-of-the-deployment")
    with override_settings(NOOBLE_PROVIDERS={found.name: entry}):
        yield found


def answer(subject: Subject, key: str, request_id: str) -> ChatResult:
    request = ChatRequest(
        model=subject.chat_model, messages=(ChatMessage(role="user", content=request_id),), max_tokens=50
    )
    adapter = registry.chat(subject.name, Credential(api_key=key))
    return adapter.complete(request, request_id=request_id, timeout=PATIENCE)


def let_go(subject: Subject) -> None:
    """Ask for as many other adapters as are kept."""
    for number in range(registry.MAX_ADAPTERS):
        registry.chat(subject.name, Credential(api_key=f"sk-another-{number}"))


def test_an_adapter_that_was_let_go_closes_its_connections(subject: Subject) -> None:
    assert answer(subject, "sk-first", "1").text
    assert not NotingHandler.closed.acquire(blocking=False)
    let_go(subject)
    assert NotingHandler.closed.acquire(timeout=PATIENCE)


def test_one_that_is_let_go_while_it_is_called_answers_first(subject: Subject, server: Server) -> None:
    server.script.add([{"kind": "hold"}])
    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(answer, subject, "sk-first", "2")
        server.book.await_arrival("2")
        let_go(subject)
        assert not NotingHandler.closed.acquire(blocking=False)
        server.released.set()
        assert calling.result().text
    assert NotingHandler.closed.acquire(timeout=PATIENCE)


def test_a_stream_that_fails_is_hung_up_although_its_error_is_kept(subject: Subject, server: Server) -> None:
    server.script.add([{"kind": "stream_error"}])
    messages = (ChatMessage(role="user", content="Hello?"),)
    request = ChatRequest(model=subject.chat_model, messages=messages, max_tokens=50)
    adapter = registry.chat(subject.name)
    with pytest.raises(ProviderUnavailableError) as caught:
        list(adapter.stream(request, request_id="3", timeout=PATIENCE))
    assert NotingHandler.closed.acquire(timeout=PATIENCE)
    assert caught.value.__traceback__


def test_one_that_is_used_is_not_let_go(subject: Subject) -> None:
    first = registry.chat(subject.name, Credential(api_key="sk-first"))
    for number in range(3):
        registry.chat(subject.name, Credential(api_key=f"sk-another-{number}"))
        assert registry.chat(subject.name, Credential(api_key="sk-first")) is first
