"""A provider's stream, read so that its reader can look up while it is silent.

A thread that waits for the next byte of a provider can't look up. So a thread of its own does the waiting, puts what
arrives into a queue and knows nothing else: no database, no state of ours. Whoever takes from the queue looks up every
:data:`POLL_SECONDS`, and hangs up when it leaves.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Self, cast

from apps.gateway.errors import CallCancelledError
from apps.providers.base import ChatChunk
from apps.providers.errors import ProviderTimeoutError
from apps.providers.lines import Line

POLL_SECONDS = 0.25


class Upstream:
    """A stream that is being read while the block runs; the call goes out when the block is entered.

    Leaving the block early hangs up, which ends the thread's wait at once; before the head of the answer has come, when
    it comes, or when the call's own time is up. What is still read is thrown away. The thread is a daemon: it keeps no
    process alive.
    """

    def __init__(self, chunks: Iterator[ChatChunk], line: Line) -> None:
        # The contract of a provider's stream says that it can be closed, as a generator can.
        self._chunks = cast("Generator[ChatChunk, None, None]", chunks)
        self._line = line
        self._arrived: queue.SimpleQueue[ChatChunk | BaseException] = queue.SimpleQueue()
        self._left = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._read, name="provider-stream", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._line.hang_up()

    def chunks(self, *, timeout: float, cancelled: Callable[[], bool]) -> Iterator[ChatChunk]:
        """The chunks up to the closing one.

        Raises what the provider's stream raises, CallCancelledError as soon as ``cancelled`` says so, and
        ProviderTimeoutError when nothing more has come within ``timeout`` seconds in all.
        """
        deadline = time.monotonic() + timeout
        while not cancelled():
            try:
                chunk = self._arrived.get(timeout=POLL_SECONDS)
            except queue.Empty:
                # Only when nothing waits here: what has arrived in time is not lost to a slow reader.
                if time.monotonic() > deadline:
                    raise ProviderTimeoutError("The provider did not finish its answer in time.") from None
                continue
            if isinstance(chunk, BaseException):
                raise chunk
            yield chunk
            if chunk.finish_reason is not None:
                return
        raise CallCancelledError

    def _read(self) -> None:
        try:
            with contextlib.closing(self._chunks):
                for chunk in self._chunks:
                    self._arrived.put(chunk)
                    if self._left.is_set():
                        return
        except BaseException as error:  # noqa: BLE001 - raised where the chunks are taken
            self._arrived.put(error)
