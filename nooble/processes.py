"""A supervisor: keeps programs running in the foreground, in one log, and stops them in order.

Every child is a session of its own, so that Ctrl-C in the terminal reaches the supervisor only, which then decides the
order. A supervisor that is killed takes its children along: see :mod:`nooble.supervision`.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol, Self

from nooble.supervision import VARIABLE, Lifeline

_POLL_SECONDS = 0.1


class Output(Protocol):
    """Where the lines of all programs go."""

    def write(self, name: str, line: str) -> None: ...


class ProcessError(RuntimeError):
    """A program cannot be kept running; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program to keep running. ``ready`` says whether it does its work; it is asked until it does."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] = lambda: True


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long the supervisor waits, in seconds, and how often it tries."""

    #: Before a program that ended is started again; doubled each time, up to ``longest_pause``.
    first_pause: float = 0.5
    longest_pause: float = 30
    #: A program that lived this long was fine: its earlier failures are forgotten.
    stable: float = 30
    #: How often a program may end, one time after the other, before it counts as broken.
    failures: int = 5
    #: Between two looks at what is tended besides.
    tend: float = 1
    #: From asking a program to end until it is killed. A worker finishes what it is doing.
    stop: float = 45


class Supervisor:
    """Keeps programs running, as a context: starts them on entering, and stops them on leaving.

    ``stages`` are groups of programs in the order in which they are stopped; they are started in the opposite order.
    ``tend`` is called again and again, for what has to be looked after besides.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[Program]],
        *,
        output: Output,
        tend: Callable[[], None] = lambda: None,
        patience: Patience | None = None,
    ) -> None:
        self._output = output
        self._tend = tend
        self._patience = patience or Patience()
        self._ended = threading.Event()
        self._broken: list[str] = []
        self._lifeline = Lifeline()
        self._stages = [[self._child(program) for program in stage] for stage in stages]
        self._tender = threading.Thread(target=self._keep_tending, name="tender", daemon=True)

    def __enter__(self) -> Self:
        for stage in reversed(self._stages):
            for child in stage:
                child.start()
        self._tender.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._tender.join()
        for stage in self._stages:
            for child in stage:
                child.request_stop()
            for child in stage:
                child.wait_until_stopped()
        self._lifeline.close()

    def wait_until_ready(self, *, seconds: float = 120) -> None:
        """Return when every program does its work; raises ProcessError when one does not come to it."""
        deadline = time.monotonic() + seconds
        for child in (child for stage in reversed(self._stages) for child in stage):
            while not child.ready():
                self._raise_if_broken()
                if time.monotonic() > deadline:
                    raise ProcessError(f"{child.program.name} was not ready within {seconds:.0f} seconds.")
                time.sleep(_POLL_SECONDS)

    def wait(self) -> None:
        """Block until a program is broken, and raise ProcessError; signals interrupt it."""
        self._ended.wait()
        self._raise_if_broken()

    def process_ids(self) -> dict[str, int]:
        """The process of each program that runs at this moment."""
        children = (child for stage in self._stages for child in stage)
        return {child.program.name: child.process_id for child in children if child.process_id is not None}

    def _child(self, program: Program) -> "_Child":
        return _Child(
            program, output=self._output, patience=self._patience, lifeline=self._lifeline, on_broken=self._give_up
        )

    def _give_up(self, name: str) -> None:
        self._broken.append(name)
        self._ended.set()

    def _raise_if_broken(self) -> None:
        if self._broken:
            raise ProcessError(f"{self._broken[0]} ends again and again; its last lines say why.")

    def _keep_tending(self) -> None:
        while not self._ended.wait(self._patience.tend):
            try:
                self._tend()
            except Exception as error:  # noqa: BLE001  # whatever it is, the next round brings another try
                self._output.write("up", f"{type(error).__name__}: {error}")


class _Child:
    """One program: a thread that starts it, waits for its end, and starts it again."""

    def __init__(
        self,
        program: Program,
        *,
        output: Output,
        patience: Patience,
        lifeline: Lifeline,
        on_broken: Callable[[str], None],
    ) -> None:
        self.program = program
        self._output = output
        self._patience = patience
        self._lifeline = lifeline
        self._on_broken = on_broken
        self._stopping = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        #: Held where a process comes to be, so that none does after the order to stop.
        self._starting = threading.Lock()
        self._thread = threading.Thread(target=self._keep_running, name=program.name, daemon=True)

    @property
    def process_id(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def start(self) -> None:
        self._thread.start()

    def ready(self) -> bool:
        return self.process_id is not None and self.program.ready()

    def request_stop(self) -> None:
        with self._starting:
            self._stopping.set()
        self._signal(signal.SIGTERM)

    def wait_until_stopped(self) -> None:
        if self._thread.ident is None:
            return
        self._thread.join(self._patience.stop)
        if self._thread.is_alive():
            self._output.write(self.program.name, "does not end; killed")
            self._signal(signal.SIGKILL)
            self._thread.join()

    def _signal(self, number: signal.Signals) -> None:
        process_id = self.process_id
        if process_id is not None:
            with suppress(ProcessLookupError):
                os.kill(process_id, number)

    def _keep_running(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            status = self._run_once()
            if self._stopping.is_set():
                return
            failures = 1 if time.monotonic() - started > self._patience.stable else failures + 1
            if failures >= self._patience.failures:
                self._output.write(self.program.name, f"ended with status {status}, {failures} times: given up")
                self._on_broken(self.program.name)
                return
            pause = min(self._patience.first_pause * 2 ** (failures - 1), self._patience.longest_pause)
            self._output.write(self.program.name, f"ended with status {status}; starts again in {pause:g} s")
            self._stopping.wait(pause)

    def _run_once(self) -> int | None:
        """Run it until it ends. None: the order to stop came first."""
        with self._starting:
            if self._stopping.is_set():
                return None
            self._process = process = self._spawn()
        reader = threading.Thread(target=self._read, args=[process], name=f"{self.program.name} output", daemon=True)
        reader.start()
        status = process.wait()
        # Whatever it has forked goes with it; otherwise the pipe stays open.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        reader.join()
        return status

    def _spawn(self) -> subprocess.Popen[str]:
        descriptor = self._lifeline.inherited
        own = {"PYTHONUNBUFFERED": "1", VARIABLE: str(descriptor)}
        return subprocess.Popen(  # noqa: S603  # our own programs
            self.program.command,
            env={**os.environ, **own, **self.program.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            pass_fds=[descriptor],
        )

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in filter(str.strip, lines):
                self._output.write(self.program.name, line.rstrip())


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the block as Ctrl-C does: by KeyboardInterrupt, so that it cleans up."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
