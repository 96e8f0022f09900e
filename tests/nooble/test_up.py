"""``manage.py up``: all of nooble in the foreground, and nothing left of it afterwards."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from nooble.embedded import Engines
from settings.variables import ROOT, VARIABLES


class Up:
    """A running ``manage.py up``, read line by line."""

    def __init__(self, data_dir: Path, port: int) -> None:
        own = {variable.name for variable in VARIABLES} | {"DJANGO_SETTINGS_MODULE"}
        inherited = {name: value for name, value in os.environ.items() if name not in own}
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up"],
            cwd=ROOT,
            env={**inherited, "NOOBLE_DATA_DIR": str(data_dir), "WEB_PORT": str(port)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []

    def read_until(self, text: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if text in line:
                return line
        pytest.fail(f"It ended without “{text}”:\n{''.join(self.lines)}")

    def finish(self) -> int:
        assert self.process.stdout is not None
        with self.process.stdout as rest:
            self.lines += rest
        return self.process.wait()


@pytest.fixture
def data_dir() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="nooble-test-"))
    yield directory
    Engines(directory).stop_abandoned()
    shutil.rmtree(directory)


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_everything_starts_survives_and_stops(data_dir: Path, port: int) -> None:
    up = Up(data_dir, port)
    try:
        up.read_until("nooble is up")
        assert any(line.startswith("migrate") for line in up.lines)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/admin/login/") as answer:
            assert answer.status == 200

        second = Up(data_dir, port)
        assert second.finish() == 1
        assert f"Port {port} of 127.0.0.1 is not free" in second.lines[-1]

        postgres = int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(postgres, signal.SIGKILL)
        serving = int(re.search(r"\[(\d+)\]", next(line for line in up.lines if "Started server" in line))[1])  # type: ignore[index]
        os.kill(serving, signal.SIGKILL)
        up.read_until("Started server")
    finally:
        up.process.send_signal(signal.SIGTERM)
        status = up.finish()
    assert status == 0, "".join(up.lines)
    assert up.lines[-1] == "nooble has stopped.\n"
    assert not Engines(data_dir).running(["postgres"])
    assert not Engines(data_dir).running(["redis"])
