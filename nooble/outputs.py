"""Where the supervisor's programs write: one readable log in the terminal, or quietly a file for each."""

import sys
import threading
from itertools import cycle
from pathlib import Path
from typing import TextIO

_COLOURS = ("36", "33", "32", "35", "34", "31")
_NAME_WIDTH = 9


class ConsoleOutput:
    """Every line with the name of its program before it, in the program's colour where the terminal has colours."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._colours: dict[str, str] = {}
        self._next = cycle(_COLOURS)
        self._lock = threading.Lock()

    def write(self, name: str, line: str) -> None:
        with self._lock:
            self._stream.write(f"{self._prefix(name)} {line}\n")
            self._stream.flush()

    def _prefix(self, name: str) -> str:
        text = f"{name:<{_NAME_WIDTH}} |"
        if not self._stream.isatty():
            return text
        if name not in self._colours:
            self._colours[name] = next(self._next)
        return f"\033[{self._colours[name]}m{text}\033[0m"


class FileOutput:
    """A file for each program, ``{name}.log``, begun anew by every supervisor."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files: dict[str, TextIO] = {}
        self._lock = threading.Lock()

    def write(self, name: str, line: str) -> None:
        with self._lock:
            file = self._file(name)
            file.write(f"{line}\n")
            file.flush()

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _file(self, name: str) -> TextIO:
        if name not in self._files:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._files[name] = (self.directory / f"{name}.log").open("w", encoding="utf-8")
        return self._files[name]
