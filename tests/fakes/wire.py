"""How the fake provider puts things on the wire: JSON, streams of events, and broken connections."""

import json
import socket
import time
import uuid
from http.server import BaseHTTPRequestHandler
from typing import Any

DRIP_SECONDS = 0.05

Headers = dict[str, str | None]


class WireHandler(BaseHTTPRequestHandler):
    """HTTP/1.1 with keep-alive. Every answer carries the provider's own id of the call."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def id_header(self) -> str:
        """The header with that id."""
        return "X-Request-Id"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Silent."""

    def send_json(self, status: int, body: Any, headers: Headers | None = None) -> None:
        self.send_whole(status, json.dumps(body, ensure_ascii=False).encode(), headers)

    def send_whole(self, status: int, body: bytes, headers: Headers | None = None) -> None:
        self._begin(status, "application/json", {"Content-Length": str(len(body)), **(headers or {})})
        self.wfile.write(body)

    def begin_chunks(self, content_type: str, status: int = 200) -> None:
        self._begin(status, content_type, {"Transfer-Encoding": "chunked"})

    def send_event(self, data: str) -> None:
        self.send_chunk(f"data: {data}\n\n".encode())

    def send_chunk(self, data: bytes) -> None:
        """A chunk; an empty one is the proper end."""
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def drip(self, status: int = 200) -> None:
        """White space before JSON, comments of a stream, until the caller has gone: no single read waits for long."""
        self.begin_chunks("application/json", status)
        while True:
            self.send_chunk(b" \n: \n")
            time.sleep(DRIP_SECONDS)

    def send_half(self, body: Any, status: int = 200) -> None:
        """A body of which the first half comes, then the end of the connection."""
        whole = json.dumps(body).encode()
        self._begin(status, "application/json", {"Content-Length": str(len(whole))})
        self.wfile.write(whole[: len(whole) // 2])
        self.hang_up()

    def hang_up(self) -> None:
        """Close the connection without another word."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _begin(self, status: int, content_type: str, headers: Headers) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.send_header(self.id_header, f"req_{uuid.uuid4().hex}")
        self.end_headers()
