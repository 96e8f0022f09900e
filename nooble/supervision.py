"""What ties a process to its supervisor: it ends when the supervisor does, even when that was killed.

The supervisor holds the writing end of a pipe and its children the reading end. Nothing is ever written; the end of the
file says that the supervisor is gone.
"""

import os
import signal
import threading

#: Tells a child which of its open files is the reading end. Set by the supervisor only.
VARIABLE = "NOOBLE_SUPERVISOR"


class Lifeline:
    """The supervisor's end: open as long as its process lives."""

    def __init__(self) -> None:
        self.inherited, self._own = os.pipe()

    def close(self) -> None:
        os.close(self._own)
        os.close(self.inherited)


def follow() -> None:
    """In a child: ask this process to end as soon as its supervisor is gone. Without a supervisor, nothing happens."""
    descriptor = os.environ.pop(VARIABLE, "")
    if descriptor:
        threading.Thread(target=_end_with, args=[int(descriptor)], name="supervision", daemon=True).start()


def _end_with(descriptor: int) -> None:
    os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)
