"""The supervisor, with programs that are nothing but a few lines of Python."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from nooble.locks import FileLock
from nooble.outputs import ConsoleOutput, FileOutput
from nooble.processes import Patience, ProcessError, Program, Supervisor

FOREVER = "import signal, time; print('started', flush=True)\nwhile True: signal.pause()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{FOREVER}"
QUICK = Patience(first_pause=0.01, longest_pause=0.05, failures=3, stop=0.2, tend=0.01)

#: Holds the lock on a file for as long as it lives.
HOLDER = """
import os, signal, sys
from pathlib import Path
from nooble.locks import FileLock
from nooble.supervision import follow
follow()
lock = FileLock(Path({path!r}))
lock.wait()
print("started", flush=True)
while True: signal.pause()
"""
SUPERVISOR = """
import sys
from nooble.outputs import ConsoleOutput
from nooble.processes import Program, Supervisor
child = Program(name="child", command=[sys.executable, "-c", {child!r}])
with Supervisor([[child]], output=ConsoleOutput()) as supervisor:
    supervisor.wait()
"""


class Lines:
    """Remembers what was written, and lets a test wait for a line."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []
        self._changed = threading.Condition()

    def write(self, name: str, line: str) -> None:
        with self._changed:
            self.all.append((name, line))
            self._changed.notify_all()

    def wait_for(self, name: str, text: str, times: int = 1) -> None:
        with self._changed:
            self._changed.wait_for(lambda: sum(n == name and text in line for n, line in self.all) >= times)


def program(name: str, source: str, ready: Callable[[], bool] = lambda: True) -> Program:
    return Program(name=name, command=[sys.executable, "-c", source], ready=ready)


@pytest.fixture
def lines() -> Lines:
    return Lines()


def test_programs_run_while_the_context_lasts(lines: Lines) -> None:
    with Supervisor([[program("a", FOREVER), program("b", FOREVER)]], output=lines) as supervisor:
        lines.wait_for("a", "started")
        lines.wait_for("b", "started")
        processes = supervisor.process_ids()
        assert set(processes) == {"a", "b"}
    for process in processes.values():
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_a_program_that_dies_is_started_again(lines: Lines) -> None:
    with Supervisor([[program("a", FOREVER)]], output=lines, patience=QUICK) as supervisor:
        lines.wait_for("a", "started")
        os.kill(supervisor.process_ids()["a"], signal.SIGKILL)
        lines.wait_for("a", "started", times=2)
    assert ("a", "ended with status -9; starts again in 0.01 s") in lines.all


def test_a_program_that_dies_again_and_again_is_given_up(lines: Lines) -> None:
    with (
        pytest.raises(ProcessError, match="broken ends again and again"),
        Supervisor([[program("fine", FOREVER), program("broken", "exit(7)")]], output=lines, patience=QUICK) as running,
    ):
        running.wait()
    assert ("broken", "ended with status 7, 3 times: given up") in lines.all


def test_readiness_is_waited_for(lines: Lines) -> None:
    answers = iter([False, False, True])
    slow = program("a", FOREVER, ready=lambda: next(answers))
    with Supervisor([[slow]], output=lines) as supervisor:
        supervisor.wait_until_ready()
    assert list(answers) == []


def test_a_program_that_dies_again_and_again_never_gets_ready(lines: Lines) -> None:
    broken = program("b", "exit(1)", ready=lambda: False)
    with (
        pytest.raises(ProcessError, match="again and again"),
        Supervisor([[broken]], output=lines, patience=QUICK) as up,
    ):
        up.wait_until_ready()


def test_waiting_for_readiness_ends(lines: Lines) -> None:
    never = program("a", FOREVER, ready=lambda: False)
    with pytest.raises(ProcessError, match="a was not ready"), Supervisor([[never]], output=lines) as supervisor:
        supervisor.wait_until_ready(seconds=0)


def test_stages_stop_one_after_the_other(lines: Lines) -> None:
    last_words = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('stopping', flush=True), sys.exit()))\n"
        "print('started', flush=True)\n"
        "while True: signal.pause()"
    )
    stages = [[program(name, last_words)] for name in ("beat", "web", "worker")]
    with Supervisor(stages, output=lines):
        for name in ("beat", "web", "worker"):
            lines.wait_for(name, "started")
    assert [name for name, line in lines.all if line == "stopping"] == ["beat", "web", "worker"]


def test_one_that_does_not_stop_is_killed(lines: Lines) -> None:
    with Supervisor([[program("a", STUBBORN)]], output=lines, patience=QUICK):
        lines.wait_for("a", "started")
    assert ("a", "does not end; killed") in lines.all


def test_what_a_program_forked_goes_with_it(lines: Lines, tmp_path: Path) -> None:
    holder = HOLDER.format(path=str(tmp_path / "lock"))
    forks = f"import os, signal\nif os.fork(): signal.pause()\nelse:\n exec({holder!r})"
    with Supervisor([[program("a", forks)]], output=lines):
        lines.wait_for("a", "started")
    # The kernel lets go of it when its holder ends. One that lives on keeps this waiting until pytest's limit.
    FileLock(tmp_path / "lock").wait()


def test_something_else_is_tended_and_its_errors_do_not_end_that(lines: Lines) -> None:
    twice = threading.Event()
    calls: list[int] = []

    def tend() -> None:
        calls.append(1)
        if len(calls) == 2:
            twice.set()
        raise RuntimeError("not now")

    with Supervisor([], output=lines, tend=tend, patience=QUICK):
        twice.wait()
    assert ("up", "RuntimeError: not now") in lines.all


def test_children_of_a_supervisor_that_is_killed_end_too(tmp_path: Path) -> None:
    source = SUPERVISOR.format(child=HOLDER.format(path=str(tmp_path / "lock")))
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        assert "started" in supervisor.stdout.readline()
        supervisor.kill()
    # The kernel lets go of it when its holder ends. One that lives on keeps this waiting until pytest's limit.
    FileLock(tmp_path / "lock").wait()


def test_the_console_puts_the_name_before_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    output = ConsoleOutput()
    output.write("web", "listens")
    output.write("ingestion", "waits")
    assert capsys.readouterr().out == "web       | listens\ningestion | waits\n"


def test_files_are_begun_anew(tmp_path: Path) -> None:
    for text in ("first", "second"):
        output = FileOutput(tmp_path)
        output.write("web", text)
        output.close()
    assert (tmp_path / "web.log").read_text() == "second\n"
