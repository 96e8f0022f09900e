"""Hanging up: how a call that waits for its provider is ended by another thread."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any


class Line:
    """The connection that one streamed call reads from, as far as it is that call's own.

    Nothing wakes a thread that waits for bytes: not closing the response, which is not made for two threads, and not
    closing the socket, which the kernel keeps open for whoever waits. Shutting the connection down does. The provider
    sees its caller gone at once, and the reader's wait ends as if the provider had hung up.

    A connection is used again by other calls. So it is lent to the line when the answer's head has come, and taken back
    before the pool gets it, under the lock under which it is shut down: what is shut down is this call's or nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._hung_up = False

    def hang_up(self) -> None:
        """End the call from any thread: at once, or when the head of its answer comes. After its end it is nothing."""
        with self._lock:
            self._hung_up = True
            self._shut_down()

    def lend(self, response: Any, http: ModuleType) -> None:
        """Lend the connection of a response of ``http``, httpx or httpx2, whose body was not read yet."""
        stream = response.extensions.get("network_stream")
        # Over HTTP/2 other calls use the same connection at the same time.
        if stream is None or not response.http_version.startswith("HTTP/1"):
            return
        response.stream = _until_closed(response.stream, self.take_back, http)
        with self._lock:
            # A handle of our own: the response may close its own in the middle of our shutting down, and the number
            # be another connection's by then.
            self._connection = socket.socket(fileno=os.dup(stream.get_extra_info("socket").fileno()))
            if self._hung_up:
                self._shut_down()

    def take_back(self) -> None:
        """Before the connection is used again: hanging up is none of its business from now on."""
        with self._lock:
            if self._connection:
                self._connection.close()
                self._connection = None

    def _shut_down(self) -> None:
        if self._connection:
            # It may be down already.
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)


def _until_closed(stream: Any, closing: Callable[[], None], http: ModuleType) -> Any:
    """A response's byte stream that says when it is closed, which is before its connection goes back to the pool."""

    class Stream(http.SyncByteStream):  # type: ignore[name-defined, misc]
        def __iter__(self) -> Iterator[bytes]:
            yield from stream

        def close(self) -> None:
            closing()
            stream.close()

    return Stream()
