"""The fault proxy: what a fault is, and that it is counted only when it touched something."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.proxy import Proxy


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    """Before a server that sends back what it gets."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "echo.sock"))
    listener.listen()

    def echo(connection: socket.socket) -> None:
        with connection:
            while piece := connection.recv(1024):
                connection.sendall(piece)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=[connection], daemon=True).start()

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    proxy = Proxy(tmp_path / "echo.sock")
    yield proxy
    proxy.close()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    server.join()


def test_it_passes_bytes_on(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port)) as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
    assert not proxy.hits


def test_a_black_hole_keeps_bytes_back_until_it_is_over(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port)) as client:
        proxy.hole()
        client.sendall(b"hello")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(5)
        proxy.pass_on()
        client.settimeout(5)
        assert client.recv(5) == b"hello"
    assert proxy.hits["pieces kept back"] == 1


def test_cutting_resets_every_connection(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port)) as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
        assert proxy.reset() == 1
        with pytest.raises(ConnectionResetError):
            client.recv(5)
    assert proxy.hits["connections cut"] == 1
