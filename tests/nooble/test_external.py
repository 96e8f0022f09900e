"""Engines of the deployment's own: with their addresses set, nothing embedded is started."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psycopg
import pytest
import redis
from django.conf import settings

from nooble import embedded, servers
from tests.chaos.proxy import Proxy
from tests.conftest import worker_environment
from tests.nooble.commands import Piped, free_port, manage, processes_of, run

SECRET_KEY = "0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CREDENTIAL_KEYS = "external:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
DATABASE = "external"
CACHE, BROKER = 5, 6


class Elsewhere:
    """PostgreSQL and Redis that are reached by TCP, a database and two Redis databases that nobody has used."""

    def __init__(self) -> None:
        sockets = embedded.socket_dir(Path(settings.NOOBLE_DATA_DIR))
        places = {"postgres": ".s.PGSQL.5432", "cache": servers.REDIS_SOCKET, "broker": servers.REDIS_SOCKET}
        self._proxies = {name: Proxy(sockets / place) for name, place in places.items()}

    def port(self, name: str) -> int:
        return self._proxies[name].port

    def lose(self, name: str) -> None:
        """From now on nobody listens there."""
        self._proxies.pop(name).close()

    def close(self) -> None:
        for name in [*self._proxies]:
            self.lose(name)

    def environment(self, data_dir: Path) -> dict[str, str]:
        """A deployment in production, where nothing but these says where anything is."""
        return {
            "DJANGO_SETTINGS_MODULE": "settings.prod",
            "SECRET_KEY": SECRET_KEY,
            "CREDENTIAL_KEYS": CREDENTIAL_KEYS,
            "ALLOWED_HOSTS": "127.0.0.1",
            "DATABASE_URL": self.database_url("nooble_app"),
            "DATABASE_OWNER_URL": self.database_url("nooble_owner"),
            "REDIS_URL": f"redis://127.0.0.1:{self.port('cache')}/{CACHE}",
            "BROKER_URL": f"redis://127.0.0.1:{self.port('broker')}/{BROKER}",
            "NOOBLE_DATA_DIR": str(data_dir),
        }

    def database_url(self, role: str) -> str:
        return f"postgresql://{role}@127.0.0.1:{self.port('postgres')}/{DATABASE}"


@pytest.fixture
def elsewhere(database: None) -> Iterator[Elsewhere]:
    owner_url = worker_environment()["DATABASE_OWNER_URL"]
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(f"CREATE DATABASE {DATABASE}")
        with closing(Elsewhere()) as elsewhere:
            yield elsewhere
        owner.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")
    for number in (CACHE, BROKER):
        with redis_database(number) as used:
            used.flushdb()


def redis_database(number: int) -> redis.Redis:
    sockets = embedded.socket_dir(Path(settings.NOOBLE_DATA_DIR))
    return redis.Redis(unix_socket_path=str(sockets / servers.REDIS_SOCKET), db=number)


def keys(number: int) -> set[str]:
    with redis_database(number) as used:
        return {key.decode() for key in used.scan_iter()}


def api(address: str, key: str) -> httpx.Client:
    """As the proxy that ends TLS calls."""
    headers = {"Authorization": f"Bearer {key}", "X-Forwarded-Proto": "https", "Prefer": "wait=30"}
    return httpx.Client(base_url=address, headers=headers, timeout=40)


def answered(address: str, key: str) -> str:
    """The state of a run that a web process has taken in and a worker has answered."""
    with api(address, key) as client:
        agent = client.post("/api/v1/agents", json={"slug": "helper", "name": "Helper"}).json()["id"]
        return str(client.post("/api/v1/chat", json={"agent_id": agent, "message": "Who?"}).json()["status"])


def test_web_workers_and_beat_use_the_engines_they_are_given(elsewhere: Elsewhere, tmp_path: Path) -> None:
    data_dir, port = tmp_path, free_port()
    environment = elsewhere.environment(data_dir)
    with Piped(manage("up"), **environment, WEB_PORT=str(port), LOG_LEVEL="DEBUG") as up:
        up.read_until("nooble is up")
        address = f"http://127.0.0.1:{port}"
        # Beat has published it, and a worker has taken it.
        up.read_until("query ", '"reason": "sweeper"')
        made = run(manage("create_tenant", "acme"), **environment)
        assert answered(address, made.stdout.split("key     ")[1].split()[0]) == "succeeded"

        # The queues are in the one Redis, and not in the other.
        assert any("_kombu" in key for key in keys(BROKER))
        assert not any("_kombu" in key for key in keys(CACHE))
        elsewhere.lose("cache")
        state = httpx.get(f"{address}/health/ready").json()
        assert (state["database"], state["queues"], state["redis"]) == ("ok", "ok", "unavailable")

        commands = " ".join(processes_of(data_dir))
        assert all(program in commands for program in ("uvicorn", "beat", "query-", "embedding-", "ingestion-"))
        assert "postgres -D" not in commands
        assert "redis-server" not in commands
    assert list(data_dir.iterdir()) == []
    # In production nobody is let in by a start.
    assert "nbl_" not in up.text
    assert "demo-operator" not in up.text
    with psycopg.connect(elsewhere.database_url("nooble_owner")) as owner:
        assert owner.execute("SELECT count(*) FROM tenants_user").fetchone() == (0,)


def test_a_command_with_urls_of_its_own_starts_no_engine(database: None, tmp_path: Path) -> None:
    environment = worker_environment() | {"NOOBLE_DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "settings.dev"}
    result = run(manage("check", "--database", "default", "--database", "owner"), **environment)
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.iterdir()) == []
