"""``make up``: all of nooble in the foreground, and nothing left of it afterwards."""

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth import authenticate

from nooble import operators
from nooble.demo_client import Client
from nooble.embedded import Engines
from tests.nooble.commands import Foreground, Piped, Running, free_port, make, manage, processes_of, run


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Not pytest's temporary directory: PostgreSQL may run as another user, who cannot enter that."""
    directory = Path(tempfile.mkdtemp(prefix="nooble-test-"))
    yield directory
    Engines(directory).stop_abandoned()
    shutil.rmtree(directory)


def announced(up: Running) -> dict[str, str]:
    """What a start prints: addresses, a key, and an operator with a password."""
    up.read_until("nooble is up. Ctrl-C stops it.")
    up.read_until("demo-operator")
    patterns = {
        "api": r"API +(http://\S+/api/v1)",
        "docs": r"described at (http://\S+/api/docs)\)",
        "admin": r"admin +(http://\S+/admin/)",
        "health": r"health +(http://\S+/health/ready)",
        "key": r"API key +(nbl_\S+) ",
        "password": r"demo-operator, password (\S+)",
    }
    found = {name: re.search(pattern, up.text) for name, pattern in patterns.items()}
    assert all(found.values()), up.text
    return {name: match[1] for name, match in found.items() if match}


def key_opens(given: dict[str, str]) -> bool:
    answer = httpx.get(f"{given['api']}/budget", headers={"Authorization": f"Bearer {given['key']}"})
    return answer.status_code == 200


def entries_of_a_question(given: dict[str, str]) -> list[dict[str, Any]]:
    """What is booked when an agent is asked, which nobody has told about a provider: a local model answers."""
    with Client(given["api"].removesuffix("/api/v1"), given["key"]) as api:
        agent = api.post("/agents", json={"slug": "porter", "name": "Porter"})["id"]
        body = {"agent_id": agent, "message": "Where do I park?"}
        run = api.post("/chat", json=body, headers={"Prefer": "wait=60"})
        assert run["status"] == "succeeded", run
        return list(api.pages("/usage/entries"))


def signs_in(given: dict[str, str], password: str) -> bool:
    """Whether the admin's form, filled in by a browser, leads to its first page."""
    with httpx.Client(follow_redirects=True) as browser:
        form = browser.get(given["admin"])
        fields = {"username": "demo-operator", "password": password, "next": "/admin/"}
        fields["csrfmiddlewaretoken"] = browser.cookies["csrftoken"]
        page = browser.post(form.url, data=fields, headers={"Referer": str(form.url)})
        return page.url.path == "/admin/" and "/admin/logout/" in page.text


def test_it_lets_a_newcomer_in_and_ctrl_c_ends_it(data_dir: Path) -> None:
    port = free_port()
    with Foreground(make("up"), NOOBLE_DATA_DIR=str(data_dir), WEB_PORT=str(port)) as up:
        given = announced(up)
        assert given["api"] == f"http://127.0.0.1:{port}/api/v1"
        assert httpx.get(given["docs"]).status_code == 200
        assert httpx.get(given["health"]).json()["status"] == "ok"
        assert key_opens(given)
        [entry] = entries_of_a_question(given)
        assert entry["price_id"]
        assert entry["cost_usd"] == "0.0000000000"
        assert not signs_in(given, "not-" + given["password"])
        assert signs_in(given, given["password"])
        assert len(processes_of(data_dir)) >= 8
        up.press_ctrl_c()
        # Make itself ends by the signal, which a shell shows as 130.
        assert up.finish() == -signal.SIGINT
    assert "nooble has stopped.\n" in up.lines, up.text
    assert processes_of(data_dir) == []
    assert up.text.count(given["password"]) == 1
    assert not any(given["password"] in log.read_text() for log in (data_dir / "log").iterdir())


def test_everything_starts_survives_and_stops(data_dir: Path) -> None:
    port = free_port()
    with Piped(manage("up"), NOOBLE_DATA_DIR=str(data_dir), WEB_PORT=str(port)) as up:
        up.read_until("nooble is up")
        assert any(line.startswith("migrate") for line in up.lines)

        again = run(manage("up"), NOOBLE_DATA_DIR=str(data_dir), WEB_PORT=str(port))
        assert again.returncode == 1
        assert f"Port {port} of 127.0.0.1 is not free" in again.stderr

        postgres = int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(postgres, signal.SIGKILL)
        serving = int(re.search(r"\[(\d+)\]", next(line for line in up.lines if "Started server" in line))[1])  # type: ignore[index]
        os.kill(serving, signal.SIGKILL)
        up.read_until("Started server")

        with Piped(manage("up"), NOOBLE_DATA_DIR=str(data_dir), WEB_PORT=str(free_port())) as beside:
            given = announced(beside)
            assert up.end(signal.SIGTERM) == 0, up.text
            assert up.lines[-1] == "nooble has stopped.\n"
            # The second one shares the engines, and keeps them.
            assert httpx.get(given["health"]).json()["status"] == "ok"
            assert key_opens(given)
            assert beside.end(signal.SIGINT) == 0, beside.text
    assert processes_of(data_dir) == []


def test_another_start_gives_the_operator_another_password(database: None) -> None:
    first, second = operators.demo_password(), operators.demo_password()
    assert authenticate(username=operators.DEMO_OPERATOR, password=first) is None
    operator = authenticate(username=operators.DEMO_OPERATOR, password=second)
    assert operator is not None
    assert second not in operator.password
