"""Commands as somebody runs them: in a clean environment, through a pipe or in a terminal, read line by line."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Self

import pytest

from settings.variables import ROOT, VARIABLES

#: As somebody's shell does: Ctrl-C ends the command, although whoever runs the tests may have been told to ignore it,
#: as everything is that a script starts in the background.
_DEFAULTS = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
_EXECUTE = "os.execvp(sys.argv[1], sys.argv[1:])"
_BY_A_SHELL = [sys.executable, "-c", _DEFAULTS + _EXECUTE]
#: And makes the standard streams a terminal and the command its foreground.
_IN_A_TERMINAL = [sys.executable, "-c", _DEFAULTS + "os.login_tty(os.dup(0)); " + _EXECUTE]


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """What this process inherited, without the variables of nooble, except these, and of a make that runs the tests."""
    ours = {variable.name for variable in VARIABLES} | {"DJANGO_SETTINGS_MODULE", "FAKE_PROVIDER_URL"}
    ours |= {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    return {**{name: value for name, value in os.environ.items() if name not in ours}, **variables}


def manage(*arguments: str) -> list[str]:
    return [sys.executable, "manage.py", *arguments]


def make(*arguments: str) -> list[str]:
    """``make`` with the Python of this process, whose packages are installed."""
    return ["make", "--old-file", ".venv/requirements.stamp", f"BIN={Path(sys.executable).parent}", *arguments]


def run(command: Sequence[str], **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=ROOT, env=environment(variables), capture_output=True, text=True, check=False, timeout=100
    )


class Running:
    """A command that is running, as a context: one that is not ended in it is asked to. What it wrote is kept."""

    def __init__(self, process: "subprocess.Popen[str]", output: Iterable[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        #: Read all the time, so that a command never waits for the test to read. None: it has ended.
        self._unread: SimpleQueue[str | None] = SimpleQueue()
        threading.Thread(target=self._read, args=[output], daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.end(signal.SIGTERM)

    def end(self, number: signal.Signals) -> int:
        """Send a signal and read to the end; returns the exit status, negative for a signal."""
        self.process.send_signal(number)
        return self.finish()

    def read_until(self, *texts: str) -> str:
        """Read on to a line that has all of these."""
        for line in self._rest():
            if all(text in line for text in texts):
                return line
        pytest.fail(f"It ended without {texts}:\n{''.join(self.lines)}")

    def finish(self) -> int:
        """Read to the end; returns the exit status, negative for a signal."""
        for _ in self._rest():
            pass
        return self.process.wait()

    def _rest(self) -> Iterator[str]:
        while (line := self._unread.get()) is not None:
            self.lines.append(line)
            yield line

    def _read(self, output: Iterable[str]) -> None:
        for line in output:
            self._unread.put(line)
        self._unread.put(None)

    @property
    def text(self) -> str:
        return "".join(self.lines)


class Piped(Running):
    """A command that writes into a pipe."""

    def __init__(self, command: Sequence[str], **variables: str) -> None:
        process = subprocess.Popen(
            [*_BY_A_SHELL, *command],
            cwd=ROOT,
            env=environment(variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        super().__init__(process, _lines(process))


class Foreground(Running):
    """A command in the foreground of a terminal of its own."""

    def __init__(self, command: Sequence[str], **variables: str) -> None:
        self._terminal, inside = os.openpty()
        process = subprocess.Popen(
            [*_IN_A_TERMINAL, *command],
            cwd=ROOT,
            env=environment(variables),
            stdin=inside,
            stdout=inside,
            stderr=inside,
            text=True,
        )
        os.close(inside)
        super().__init__(process, _shown(self._terminal))

    def press_ctrl_c(self) -> None:
        """The terminal sends SIGINT to its foreground process group."""
        os.write(self._terminal, b"\x03")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def processes_of(data_dir: Path) -> list[str]:
    """The processes whose command or environment names a data directory, by their commands (Linux)."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command, variables = ((process / name).read_bytes() for name in ("cmdline", "environ"))
            if os.fsencode(data_dir) in command + variables:
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


def _lines(process: "subprocess.Popen[str]") -> Iterator[str]:
    assert process.stdout is not None
    with process.stdout as output:
        yield from output


def _shown(terminal: int) -> Iterator[str]:
    with open(terminal) as screen, suppress(OSError):  # Linux ends what a terminal shows with an error
        yield from screen
