"""What the harness breaks: PostgreSQL and Redis of its own behind proxies, a fake provider, real workers."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from nooble import embedded, servers
from nooble.embedded import Engines
from nooble.outputs import FileOutput
from nooble.processes import Patience, Program, Supervisor
from tests.chaos.proxy import Proxy
from tests.fakes.process import FakeProvider

#: A worker that is killed is wanted back at once, however often.
RESTLESS = Patience(first_pause=0.1, longest_pause=0.1, stable=0, failures=1_000_000, stop=15)
FORKS, THREADS = 6, 2


Auditor = psycopg.Connection[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    data_dir: Path
    engines: Engines
    fake: FakeProvider
    redis_proxy: Proxy
    database_proxy: Proxy
    app: str

    def environment(self) -> dict[str, str]:
        """What makes a process use these engines, through the proxies, and this provider."""
        parameters = "sslmode=disable&gssencmode=disable&connect_timeout=10"
        database = f"127.0.0.1:{self.database_proxy.port}/{embedded.DATABASE}?{parameters}"
        return {
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "NOOBLE_DATA_DIR": str(self.data_dir),
            "DATABASE_URL": f"postgresql://{embedded.APPLICATION_ROLE}@{database}",
            "DATABASE_OWNER_URL": embedded.owner_url(self.data_dir),
            "REDIS_URL": f"redis://127.0.0.1:{self.redis_proxy.port}/0",
            "FAKE_PROVIDER_URL": self.fake.url,
            # The proxies count what they cut; whoever is cut off says so loudly enough without tracebacks.
            "LOG_LEVEL": "WARNING",
        }

    @property
    def redis_url(self) -> str:
        """Redis without its proxy: for faults, which must strike even while nothing gets through."""
        return embedded.redis_url(self.data_dir)

    def connect(self) -> Auditor:
        """A superuser's connection, past proxies, policies and all code of ours."""
        url = servers.postgres_url(embedded.socket_dir(self.data_dir), user="postgres", database=embedded.DATABASE)
        return psycopg.connect(url, autocommit=True, row_factory=dict_row)

    def restart_database(self) -> None:
        """As a crash would: PostgreSQL ends without a checkpoint and recovers from its log."""
        [server] = self.engines._servers(["postgres"])
        assert isinstance(server, servers.PostgresServer)
        server._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(server.home))
        self.engines.join(["postgres"])

    def programs(self) -> list[Program]:
        return [
            self._worker("forks", "prefork", FORKS),
            self._worker("threads", "threads", THREADS),
        ]

    def _worker(self, name: str, pool: str, concurrency: int) -> Program:
        from nooble import queues  # noqa: PLC0415 - kombu is of no use before the environment is set

        celery = ("celery", "--quiet", "--app", self.app, "--skip-checks", "worker")
        options = ["--hostname", f"{name}@chaos", "--pool", pool, "--concurrency", str(concurrency)]
        options += ["--queues", ",".join(queues.names()), "--without-gossip", "--without-mingle", "--without-heartbeat"]
        environment = {"PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges"}
        return Program(name=name, command=[sys.executable, "-m", *celery, *options], environment=environment)


@contextmanager
def running(*, app: str) -> Iterator[Cluster]:
    """The engines, their proxies and the provider; this process's environment then names them. No workers yet."""
    # Not pytest's temporary directory: PostgreSQL may run as another user, who cannot enter that.
    data_dir = Path(tempfile.mkdtemp(prefix="nooble-chaos-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, data_dir, ignore_errors=True)
        engines = stack.enter_context(Engines(data_dir))
        fake = FakeProvider(data_dir / "tally.jsonl")
        stack.callback(fake.stop)
        sockets = embedded.socket_dir(data_dir)
        proxies = [Proxy(sockets / name) for name in (servers.REDIS_SOCKET, ".s.PGSQL.5432")]
        for proxy in proxies:
            stack.callback(proxy.close)
        cluster = Cluster(
            data_dir=data_dir,
            engines=engines,
            fake=fake,
            redis_proxy=proxies[0],
            database_proxy=proxies[1],
            app=app,
        )
        os.environ.update(cluster.environment())
        yield cluster


@contextmanager
def working(cluster: Cluster) -> Iterator[Supervisor]:
    """The workers; each is started again when it has been killed."""
    output = FileOutput(cluster.data_dir / "log")
    try:
        with Supervisor([cluster.programs()], output=output, patience=RESTLESS) as supervisor:
            yield supervisor
    finally:
        output.close()


def children(process_id: int) -> list[int]:
    """The processes that a worker has forked."""
    if not process_id:
        return []
    found = subprocess.run(["pgrep", "-P", str(process_id)], stdout=subprocess.PIPE, text=True, check=False)
    return [int(line) for line in found.stdout.split()]
