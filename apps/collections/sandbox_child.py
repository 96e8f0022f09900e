"""The first thing that runs in a sandbox's child: limit this process for good, then become the program.

A program of its own, started without the project on its path (see :mod:`apps.collections.sandbox`): its arguments are
the bytes of memory, the seconds of computing, the seconds altogether, the bytes of a file, the program, and the
program's arguments. The limits are set here and not between fork and exec, where a threaded parent may run no Python.
"""

import resource
import runpy
import signal
import sys


def limit(kind: int, value: int, *, grace: int = 0) -> None:
    """Lower a limit of this process, for good ``grace`` later; one that is lower already stays."""
    hard = resource.getrlimit(kind)[1]
    most = value + grace if hard == resource.RLIM_INFINITY else min(value + grace, hard)
    resource.setrlimit(kind, (min(value, most), most))


def main() -> None:
    memory_bytes, cpu_seconds, wall_seconds, output_bytes = map(int, sys.argv[1:5])
    signal.alarm(wall_seconds)
    limit(resource.RLIMIT_CORE, 0)  # a core would hold the document
    limit(resource.RLIMIT_CPU, cpu_seconds, grace=1)  # at the hard limit it is SIGKILL, which says nothing
    limit(resource.RLIMIT_FSIZE, output_bytes)
    if sys.platform != "darwin":  # macOS knows this limit but refuses it
        limit(resource.RLIMIT_AS, memory_bytes)
    sys.argv = sys.argv[5:]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
