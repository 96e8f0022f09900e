"""The fake provider as a process of its own, and the words to direct it."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class FakeProvider:
    """Started when it is made; ends with :meth:`stop`, or with the process that started it."""

    def __init__(self, tally: Path) -> None:
        command = [sys.executable, "-m", "tests.fakes.provider", "--port", "0", "--tally", str(tally), "--while-stdin"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def fail(self, kind: str, **fault: Any) -> None:
        """Let the next request fail in this way (see :mod:`tests.fakes.faults`)."""
        self._call("/control", {"faults": [{"kind": kind, **fault}]})

    def reset(self) -> None:
        """Forget all requests, answers and faults, and begin a new tally."""
        self._call("/control/reset", {})

    def tally(self) -> list[dict[str, Any]]:
        """What it counted: one line per answer."""
        lines: list[dict[str, Any]] = self._call("/control/tally")
        return lines

    def arrivals(self) -> list[dict[str, Any]]:
        """Every request that came, with its path, headers and body."""
        arrivals: list[dict[str, Any]] = self._call("/control/arrivals")
        return arrivals

    def running(self) -> list[dict[str, Any]]:
        """The requests that it is at work on, without their bodies."""
        running: list[dict[str, Any]] = self._call("/control/running")
        return running

    def release(self) -> None:
        """Let go what is held, and hold no more until a reset."""
        self._call("/control/release", {})

    def await_arrival(self, request_id: str) -> None:
        """Return when that request has come."""
        self._call(f"/control/arrivals/{request_id}")

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _call(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data=data), timeout=30) as response:
            return json.load(response)
