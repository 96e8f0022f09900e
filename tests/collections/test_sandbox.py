"""The sandbox, with programs that misbehave. Each limit is proven by a program that runs into it."""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from apps.collections import sandbox
from apps.collections.errors import DocumentTooComplexError, ParseTimeoutError, ParsingInterruptedError
from apps.collections.sandbox import Limits

PARSER = Path(sandbox.__file__).with_name("parser_child.py")
MEGABYTE = 1024**2

#: Runs a program, given as its source.
Run = Callable[..., bytes]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(source: str, *arguments: str, data: bytes = b"", limits: Limits = sandbox.DEFAULT_LIMITS) -> bytes:
        program = tmp_path / "program.py"
        program.write_text(source)
        return sandbox.run(program, *arguments, data=data, limits=limits)

    return run


def test_a_program_gets_its_input_and_arguments_and_its_output_comes_back(run: Run) -> None:
    source = "import sys; print(sys.argv[1:], sys.stdin.read())"

    assert run(source, "a", "b", data=b"hello") == b"['a', 'b'] hello\n"


def test_a_program_sees_nothing_of_our_environment_or_code(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    source = """
import importlib.util, os, sys
print(sorted(os.environ), os.getcwd(), importlib.util.find_spec("apps"), importlib.util.find_spec("settings"))
"""
    output = run(source).decode()

    assert "OPENAI_API_KEY" not in output
    assert output.endswith("] / None None\n")


def test_a_program_that_hangs_is_ended_by_its_alarm(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_GRACE_SECONDS", 1_000)

    with pytest.raises(ParseTimeoutError):
        run("import signal; signal.pause()", limits=Limits(wall_seconds=1))


def test_a_program_that_hangs_and_hears_no_alarm_is_killed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_GRACE_SECONDS", 0)
    source = "import signal; signal.signal(signal.SIGALRM, signal.SIG_IGN); signal.sigwait([])"

    with pytest.raises(ParseTimeoutError):
        run(source, limits=Limits(wall_seconds=1))


def test_a_program_that_computes_for_ever_is_ended(run: Run) -> None:
    with pytest.raises(DocumentTooComplexError):
        run("while True: pass", limits=Limits(cpu_seconds=1))


def test_a_program_gets_no_more_memory_than_its_limit(run: Run) -> None:
    source = """
try:
    bytearray(512 * 1024**2)
except MemoryError:
    print("refused")
"""
    assert run(source) == b""
    assert run(source, limits=Limits(memory_bytes=256 * MEGABYTE)) == b"refused\n"


def test_a_program_that_aborts_or_overflows_its_stack_was_given_too_much(run: Run) -> None:
    for end in ("SIGABRT", "SIGSEGV"):
        with pytest.raises(DocumentTooComplexError):
            run(f"import os, signal; os.kill(os.getpid(), signal.{end})")


def test_a_program_cannot_write_more_than_its_limit(run: Run) -> None:
    with pytest.raises(ParsingInterruptedError):
        run("print('x' * 3_000_000)", limits=Limits(output_bytes=MEGABYTE))


def test_a_program_that_somebody_else_ends_may_be_run_again(run: Run) -> None:
    with pytest.raises(ParsingInterruptedError) as caught:
        run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")

    assert caught.value.retryable


def test_what_a_program_writes_about_its_failure_is_logged_and_not_shown(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger=sandbox.__name__), pytest.raises(ParsingInterruptedError) as caught:
        run("raise ValueError('a detail of ours')")

    assert "a detail of ours" in caplog.text
    assert "a detail of ours" not in caught.value.detail
    assert "Traceback" not in caught.value.detail


class TimeLimitError(Exception):
    """What a task's time limit raises in the middle of anything."""


@pytest.fixture
def interruption() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise TimeLimitError

    previous = signal.signal(signal.SIGUSR1, interrupt)
    yield
    signal.signal(signal.SIGUSR1, previous)


def test_a_program_does_not_outlive_the_task_that_waited_for_it(run: Run, interruption: None, tmp_path: Path) -> None:
    source = """
import os, pathlib, signal, sys
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
os.kill(os.getppid(), signal.SIGUSR1)
signal.pause()
"""
    with pytest.raises(TimeLimitError):
        run(source, str(tmp_path / "pid"))

    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_while_the_parser_reads_nothing_can_be_opened_or_connected(run: Run) -> None:
    source = """
import asyncio, runpy, socket, sys
child = runpy.run_path(sys.argv[1])
document = asyncio.run(child["extract"](b"<p>Hello", "text/html"))
for attempt in (lambda: open("/etc/hosts"), socket.socket):
    try:
        attempt()
    except OSError as error:
        print(document.content.strip(), error.errno, flush=True)
import os
os._exit(0)
"""
    assert run(source, str(PARSER)) == b"Hello 24\nHello 24\n"
