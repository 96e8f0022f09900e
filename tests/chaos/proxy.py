"""A small TCP proxy that fails on demand: it passes bytes on, swallows them for a while, or cuts every connection."""

import asyncio
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

#: Closing with this sends a reset at once, and not what is still to be sent.
_RESET = struct.pack("ii", 1, 0)
_PIECE = 65536

T = TypeVar("T")


class Proxy:
    """Listens on a port of the loopback for the server behind a Unix socket; runs in a thread of its own.

    ``hits`` counts what a fault really touched: pieces that were kept back, connections that were cut.
    """

    def __init__(self, target: Path) -> None:
        self.hits: Counter[str] = Counter()
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._call(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]

    def hole(self) -> None:
        """From now on nothing gets through; connections are accepted and stay open."""
        self._call(self._set(through=False))

    def pass_on(self) -> None:
        """Let everything through again, and what was kept back first."""
        self._call(self._set(through=True))

    def reset(self) -> int:
        """Cut every connection; returns how many there were."""
        return self._call(self._cut())

    def close(self) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _set(self, *, through: bool) -> None:
        if through:
            self._open.set()
        else:
            self._open.clear()

    async def _cut(self) -> int:
        writers = list(self._writers)
        for writer in writers:
            _cut(writer)
        self.hits["connections cut"] += len(writers) // 2
        return len(writers) // 2

    async def _stop(self) -> None:
        self._server.close()
        self._open.set()
        await self._cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: two directions until one of them ends."""
        try:
            behind, ahead = await asyncio.open_unix_connection(str(self._target))
        except OSError:
            _cut(writer)
            return
        self._writers |= {writer, ahead}
        pumps = [asyncio.ensure_future(self._pump(*ends)) for ends in ((reader, ahead), (behind, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            # The proxy is being closed; asyncio would report it as a failure of the connection.
            return
        finally:
            for pump in pumps:
                pump.cancel()
            self._writers -= {writer, ahead}
            writer.close()
            ahead.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, OSError):
            while piece := await reader.read(_PIECE):
                if not self._open.is_set():
                    self.hits["pieces kept back"] += 1
                    await self._open.wait()
                writer.write(piece)
                await writer.drain()


def _cut(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None and connection.family == socket.AF_INET:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
