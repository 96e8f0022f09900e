"""Running a program on data that nobody trusts: a child process with limits, killed when it exceeds them."""

import logging
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from apps.collections.errors import DocumentTooComplexError, ParseTimeoutError, ParsingInterruptedError

logger = logging.getLogger(__name__)

_LAUNCHER = Path(__file__).with_name("sandbox_child.py")

#: All that the child gets to see. Threads and their arenas would count against its address space.
_ENVIRONMENT = {
    "PATH": os.defpath,
    "LANG": "C.UTF-8",
    "MALLOC_ARENA_MAX": "2",
    "RAYON_NUM_THREADS": "1",
    "TOKIO_WORKER_THREADS": "1",
}

#: How a program ends that ran into a limit: out of computing time, out of memory or stack.
_EXHAUSTED = frozenset({signal.SIGXCPU, signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGTRAP})
_LOG_TAIL_BYTES = 4_000
#: How much longer than the child's own alarm we wait, which ends it in all but strange cases.
_GRACE_SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one child may use. The kernel enforces all of them, even after the parent's death."""

    memory_bytes: int = 2 * 1024**3
    cpu_seconds: int = 60
    wall_seconds: int = 75
    output_bytes: int = 256 * 1024**2


DEFAULT_LIMITS = Limits()


def run(program: Path, *arguments: str, data: bytes, limits: Limits) -> bytes:
    """Run a Python program with ``data`` as its standard input; return its standard output.

    Raises :class:`DocumentTooComplexError` when it ran into a limit, :class:`ParseTimeoutError` when it took too
    long, :class:`ParsingInterruptedError` when something else ended it.
    """
    # Files, not pipes: the limit on file size then bounds what a child can make us read.
    with TemporaryFile() as source, TemporaryFile() as output, TemporaryFile() as log:
        source.write(data)
        source.seek(0)
        process = _start(program, arguments, limits, stdin=source, stdout=output, stderr=log)
        try:
            status = _wait(process, limits)
        finally:
            _write_log(program, log)
        _check(status)
        output.seek(0)
        return output.read()


def _start(
    program: Path, arguments: tuple[str, ...], limits: Limits, *, stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]
) -> subprocess.Popen[bytes]:
    numbers = (limits.memory_bytes, limits.cpu_seconds, limits.wall_seconds, limits.output_bytes)
    return subprocess.Popen(  # noqa: S603 - our own interpreter and programs
        [sys.executable, "-I", str(_LAUNCHER), *map(str, numbers), str(program), *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=_ENVIRONMENT,
        cwd="/",
        start_new_session=True,
    )


def _wait(process: subprocess.Popen[bytes], limits: Limits) -> int:
    try:
        return process.wait(limits.wall_seconds + _GRACE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ParseTimeoutError(f"Reading the document took more than {limits.wall_seconds} s. Try again.") from error
    finally:
        # Also when the wait was cut short, as by the task's own time limit.
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _check(status: int) -> None:
    if status == 0:
        return
    if status == -signal.SIGALRM:
        raise ParseTimeoutError("Reading the document took too long. Try again.")
    if -status in _EXHAUSTED:
        raise DocumentTooComplexError("Reading the document takes too much memory or time. Split it, or simplify it.")
    raise ParsingInterruptedError(f"The reading of the document was cut off (status {status}). Try again.")


def _write_log(program: Path, log: IO[bytes]) -> None:
    log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
    if text := log.read().decode(errors="replace").strip():
        logger.debug("%s wrote: %s", program.name, text)
