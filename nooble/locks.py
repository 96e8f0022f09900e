"""Locks on files: held by processes, and let go by the kernel however a process ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FileLock:
    """An advisory lock on a file. Whoever inherits the open file shares the lock, until the last of them has ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """The open file, to be inherited by a child; the lock must be held."""
        assert self._descriptor is not None
        return self._descriptor

    def share(self) -> None:
        """Hold it together with others; waits while somebody holds it alone."""
        fcntl.flock(self._open(), fcntl.LOCK_SH)

    def wait(self) -> None:
        """Hold it alone, as soon as nobody else does."""
        fcntl.flock(self._open(), fcntl.LOCK_EX)

    def take(self) -> bool:
        """Hold it alone if nobody else does. False: somebody does, and what this object held before is let go."""
        try:
            fcntl.flock(self._open(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @contextmanager
    def alone(self) -> Iterator[None]:
        self.wait()
        try:
            yield
        finally:
            self.release()

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        return self._descriptor
