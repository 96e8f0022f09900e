"""A provider of models on the loopback: seven wire formats, a tally of its own, and every way to fail, on demand.

``python -m tests.fakes.provider --port 0 --tally FILE`` prints its port as its first line. It answers

- ``POST /v1/chat/completions`` and ``POST /v1/embeddings`` as OpenAI does, ``POST /openai/v1/chat/completions`` as Groq
  does, ``POST /v1/messages`` as Anthropic does, ``POST /v2/chat`` and ``POST /v2/embed`` as Cohere does, and OpenAI's
  paths below ``/mistral``, ``/azure/openai`` and ``/ollama`` as Mistral, Azure OpenAI and Ollama do,
- ``GET /requests/{request_id}``: what became of a request (see :meth:`tests.fakes.book.Book.lookup`),
- ``POST /control`` ``{"faults": […]}`` (see :mod:`tests.fakes.faults`), ``POST /control/reset``,
  ``POST /control/release`` (of what is held), ``GET /control/tally``, ``GET /control/arrivals``,
  ``GET /control/arrivals/{request_id}``, which waits until that request has come, and ``GET /control/running``. An
  arrival that met a fault has its ``kind`` as ``fault``, and its ``label``.

Chat is counted with o200k, embeddings with cl100k; Anthropic's dialect counts more tokens than that in what it is sent.
The request id is the header ``X-Client-Request-Id``.
"""

import argparse
import json
import sys
import threading
import time
import uuid
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.fakes.answers import Refusal, Reply
from tests.fakes.azure import AzureOpenAI
from tests.fakes.book import Book
from tests.fakes.cohere import Cohere
from tests.fakes.dialects import Groq, OpenAI
from tests.fakes.faults import BREAKING_OFF, STATUSES, VECTORS, Script, told
from tests.fakes.messages import Anthropic
from tests.fakes.mistral import Mistral
from tests.fakes.ollama import Ollama
from tests.fakes.wire import Headers, WireHandler

OPENAI = OpenAI()
COHERE = Cohere()


def _below(base: str, dialect: OpenAI) -> dict[str, tuple[str, OpenAI]]:
    """OpenAI's paths, in the words of one that has taken them over."""
    return {f"{base}/chat/completions": ("chat", dialect), f"{base}/embeddings": ("embeddings", dialect)}


#: What is done under a path, and in whose words.
WORK = {
    **_below("/v1", OPENAI),
    "/openai/v1/chat/completions": ("chat", Groq()),
    "/v1/messages": ("chat", Anthropic()),
    "/v2/chat": ("chat", COHERE),
    "/v2/embed": ("embeddings", COHERE),
    **_below("/mistral/v1", Mistral()),
    **_below("/azure/openai/v1", AzureOpenAI()),
    **_below("/ollama/v1", Ollama()),
}

#: More than a parser goes down.
BOTTOMLESS = "[" * 100_000

Fault = dict[str, Any]


class Server(ThreadingHTTPServer):
    """A thread for each connection."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def __init__(self, port: int, tally: Path) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.book = Book(tally)
        self.script = Script()
        self.released = threading.Event()

    def reset(self) -> None:
        self.script.clear()
        self.book.reset()
        self.released = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is no news; anything else is a defect of the fake."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(WireHandler):
    """The requests of one connection, one after the other."""

    server: Server

    @property
    def dialect(self) -> OpenAI:
        return WORK.get(self.path, ("", OPENAI))[1]

    @property
    def id_header(self) -> str:
        return self.dialect.id_header

    def do_GET(self) -> None:  # noqa: N802 - the base class's name
        book = self.server.book
        if self.path == "/control/tally":
            self.send_json(200, book.tally())
        elif self.path == "/control/arrivals":
            self.send_json(200, book.arrivals)
        elif self.path == "/control/running":
            self.send_json(200, book.running())
        elif self.path.startswith("/control/arrivals/"):
            book.await_arrival(self.path.removeprefix("/control/arrivals/"))
            self.send_json(200, {})
        elif self.path.startswith("/requests/"):
            self.send_json(200, book.lookup(self.path.removeprefix("/requests/"), self.headers.get("Authorization")))
        else:
            self.send_failure(404, "no such path")

    def do_POST(self) -> None:  # noqa: N802 - the base class's name
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path in WORK:
            self._work(WORK[self.path][0], body)
            return
        if self.path == "/control":
            self.server.script.add(json.loads(body)["faults"])
        elif self.path == "/control/reset":
            self.server.reset()
        elif self.path == "/control/release":
            self.server.released.set()
        else:
            self.send_failure(404, "no such path")
            return
        self.send_json(200, {})

    def _work(self, kind: str, body: bytes) -> None:
        request_id = self.headers.get("X-Client-Request-Id") or f"anonymous-{uuid.uuid4()}"
        request = json.loads(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        arrival = {"path": self.path, "headers": headers, "peer": self.client_address[1], "body": request}
        if not self.server.book.arrive(request_id, arrival):
            self.send_failure(409, "this request was declared never seen")
            return
        fault = self.server.script.take(path=self.path, request_id=request_id, body=body.decode())
        if fault:
            self.server.book.strike(request_id, kind=fault["kind"], label=fault.get("label", ""))
        try:
            self._perform(kind, request_id, request, fault)
        finally:
            self.server.book.leave(request_id)

    def _perform(self, kind: str, request_id: str, request: dict[str, Any], fault: Fault) -> None:
        """Wait, count, answer: each as the fault says."""
        failing = fault.get("kind", "")
        if failing in {"slow", "close"}:
            time.sleep(fault.get("seconds", 0))
        if failing == "close":
            self.hang_up()
            return
        if failing == "hold":
            self.server.released.wait()
        elif failing in STATUSES and not fault.get("counted"):
            self._refuse(fault)
            return
        try:
            reply = self._reply(kind, request_id, request, failing)
        except Refusal as refusal:
            self.send_failure(refusal.status, refusal.message)
            return
        self.server.book.count(request_id, kind, reply)
        self._answer(reply, request, fault)

    def _reply(self, kind: str, request_id: str, request: dict[str, Any], failing: str) -> Reply:
        if "encoding_format" in request and (failing == "floats" or failing in VECTORS):
            request = {**request, "encoding_format": "float"}
        headers = {name.lower(): value for name, value in self.headers.items()}
        return self.dialect.reply(kind, request, headers, request_id)

    def _answer(self, reply: Reply, request: dict[str, Any], fault: Fault) -> None:
        """Send what was counted, or fail to."""
        failing = fault.get("kind", "")
        if failing == "stall":
            time.sleep(fault["seconds"])
        if failing in STATUSES:
            self._refuse(fault)
        elif failing == "drop":
            self.hang_up()
        elif failing == "drip":
            self.drip()
        elif request.get("stream"):
            self._stream(told(reply, fault), request, fault)
        elif failing == "malformed":
            self.send_whole(200, b'{"id": "chatcmpl-1", "choi')
        elif failing == "bottomless":
            self.send_whole(200, BOTTOMLESS.encode())
        elif failing == "cut":
            self.send_half(self.dialect.body(reply))
        else:
            self.send_json(200, self.dialect.body(told(reply, fault)))

    def _stream(self, reply: Reply, request: dict[str, Any], fault: Fault) -> None:
        self.begin_chunks("text/event-stream")
        failing = fault.get("kind", "")
        for number, moment in enumerate(self.dialect.moments(reply, request)):
            if failing in BREAKING_OFF and number >= fault.get("events", 2):
                self._break_off(failing)
                return
            if failing == "pause" and number == fault.get("events", 2):
                time.sleep(fault["seconds"])
            not_yet = failing == "repeated_usage" and number == 1
            for event in self.dialect.preliminary(moment) if not_yet else moment:
                self.send_chunk(self.dialect.event(event).encode())
        if self.dialect.ending:
            self.send_event(self.dialect.ending)
        if failing == "cut_after":
            self.hang_up()
        else:
            self.send_chunk(b"")

    def _break_off(self, failing: str) -> None:
        if failing == "cut":
            self.hang_up()
            return
        if failing == "stream_error":
            self.send_chunk(self.dialect.event(self.dialect.error_event).encode())
        elif failing == "malformed":
            self.send_event('{"choices": [')
        elif failing == "bottomless":
            self.send_event(BOTTOMLESS)
        self.send_chunk(b"")

    def _refuse(self, fault: Fault) -> None:
        # A server that repeats the key it was given: none of it may reach a log.
        message = fault.get("message", f"as told; you sent {self.headers.get('Authorization')}")
        headers = {"Retry-After": fault.get("retry_after"), "Retry-After-Ms": fault.get("retry_after_ms")}
        headers["Location"] = fault["location"] + self.path if "location" in fault else None
        status, code = int(fault["kind"]), fault.get("code", "")
        if fault.get("body") == "drip":
            self.drip(status)
        elif fault.get("body") == "cut":
            self.send_half(self.dialect.failure(status, message, code), status)
        else:
            self.send_failure(status, message, code, headers)

    def send_failure(self, status: int, message: Any, code: str = "", headers: Headers | None = None) -> None:
        self.send_json(status, self.dialect.failure(status, message, code), headers)


def main() -> None:
    parser = argparse.ArgumentParser(description="A provider of models on the loopback, for tests.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tally", type=Path, required=True)
    parser.add_argument("--while-stdin", action="store_true", help="end when standard input does: with the parent")
    arguments = parser.parse_args()
    server = Server(arguments.port, arguments.tally)
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if arguments.while_stdin:
        sys.stdin.read()
    else:
        threading.Event().wait()


if __name__ == "__main__":
    main()
