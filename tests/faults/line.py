"""A line to PostgreSQL that can be cut: a proxy between this process and the server's own Unix socket."""

import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.db import connection, connections

SOCKET = ".s.PGSQL.5432"


class Line:
    """Passes bytes both ways until it is cut, and again when it is mended."""

    def __init__(self, directory: Path, server: Path) -> None:
        self.path = directory / SOCKET
        self._server = server / SOCKET
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None
        #: The next reply of the server is thrown away, and with it the connection: what was asked for has happened.
        self.loses_next_reply = False
        #: And with that one the line is cut.
        self.then_cut = False

    def mend(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def cut(self) -> None:
        """Nobody listens any more, and whoever was connected is not."""
        if self._listener is None:
            return
        self.path.unlink()
        # Closing alone would leave a thread that waits in accept() to take one more.
        for each in (self._listener, *self._open):
            _hang_up(each)
        self._open.clear()
        self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._server))
            self._open += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=[source, target, source is server], daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, replies: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if replies and self.loses_next_reply:
                    self.loses_next_reply = False
                    if self.then_cut:
                        self.cut()
                    break
                target.sendall(data)
        _hang_up(source)
        _hang_up(target)


def _hang_up(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


@contextmanager
def line_to_database() -> Iterator[Line]:
    """The application's connections of this process go over a line of their own."""
    settings = connections.settings["default"]
    server = settings["HOST"]
    # A socket's path must be short.
    directory = Path(tempfile.mkdtemp(prefix="line-"))
    line = Line(directory, Path(server))
    line.mend()
    connection.close()
    settings["HOST"] = str(directory)
    try:
        yield line
    finally:
        settings["HOST"] = server
        connection.close()
        line.cut()
        shutil.rmtree(directory)
