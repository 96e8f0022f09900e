"""The processes that nooble consists of, and how to run them all on one machine."""

import http.client
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management import call_command
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from nooble import checks, embedded, queues
from nooble.celery import app
from nooble.processes import Output, ProcessError, Program, Supervisor

WEB_POOL_SIZE = "8"
QUERY_THREADS = 8
EMBEDDING_THREADS = 4

_CELERY = ("celery", "--quiet", "--app", "nooble", "--skip-checks")
_WITHOUT_POOL = {"DATABASE_POOL_SIZE": ""}


def web(host: str, port: int) -> Program:
    return Program(
        name="web",
        command=[
            *_python("uvicorn", "nooble.asgi:application", "--host", host, "--port", str(port)),
            # Django knows neither lifespan nor WebSockets; event streams must not keep a stopping server up.
            *("--lifespan", "off", "--ws", "none", "--timeout-graceful-shutdown", "10", "--no-server-header"),
        ],
        environment={"DATABASE_POOL_SIZE": os.environ.get("DATABASE_POOL_SIZE") or WEB_POOL_SIZE},
        ready=lambda: _answers(host, port),
    )


def worker(name: str, *, pool: str, concurrency: int, consumes: list[str]) -> Program:
    """A Celery worker. ``threads`` for work that waits for others, ``prefork`` for work that computes."""
    node = f"{name}-{os.getpid()}@{socket.gethostname()}"
    options = ["--hostname", node, "--pool", pool, "--concurrency", str(concurrency), "--queues", ",".join(consumes)]
    return Program(
        name=name,
        # Gossip, mingling and heartbeats are traffic between workers that nothing here listens to.
        command=_python(*_CELERY, "worker", *options, "--without-gossip", "--without-mingle", "--without-heartbeat"),
        environment=_WITHOUT_POOL | {"PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges"},
        ready=lambda: _consumes(node, consumes),
    )


def beat() -> Program:
    return Program(name="beat", command=_python(*_CELERY, "beat"), environment=_WITHOUT_POOL)


def stages(host: str, port: int) -> list[list[Program]]:
    """All of nooble, in the order in which it stops: first what brings new work, last what does it."""
    query = [*queues.of("query"), *queues.of(queues.MAINTENANCE)]
    return [
        [beat()],
        [web(host, port)],
        [
            worker("query", pool="threads", concurrency=QUERY_THREADS, consumes=query),
            worker("embedding", pool="threads", concurrency=EMBEDDING_THREADS, consumes=queues.of("embedding")),
            worker("ingestion", pool="prefork", concurrency=1, consumes=queues.of("ingestion")),
        ],
    ]


@contextmanager
def running(output: Output, *, host: str, port: int) -> Iterator[Supervisor]:
    """All of nooble on this machine: engines if they are ours, migrations, prices, web, workers and beat.

    Ready when the supervisor's ``wait_until_ready`` has returned. Raises ProcessError when the port is taken.
    """
    checks.require_environment()
    embedded.ensure()
    migrate(output)
    import_prices()
    _require_free(host, port)
    with Supervisor(stages(host, port), output=output, tend=embedded.revive) as supervisor:
        yield supervisor


def migrate(output: Output) -> None:
    """Apply the migrations that are missing, and say so; silent when there are none."""
    executor = MigrationExecutor(connections["owner"])
    missing = [migration for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]
    if missing:
        call_command("migrate", verbosity=0)
        labels = ", ".join(sorted({migration.app_label for migration in missing}))
        output.write("migrate", f"{len(missing)} migrations applied: {labels}")
    connections.close_all()


def import_prices() -> None:
    """Bring the prices up to date with the installed list, so that the first call has one."""
    call_command("import_prices", verbosity=0)
    connections.close_all()


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _answers(host: str, port: int) -> bool:
    """Whether the web process serves; what it says of the host name it is asked under does not matter here."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status < http.client.INTERNAL_SERVER_ERROR
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _consumes(node: str, names: list[str]) -> bool:
    replies = app.control.inspect(destination=[node], timeout=1).active_queues() or {}
    return {queue["name"] for queue in replies.get(node, [])} >= set(names)


def _require_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ProcessError(f"Port {port} of {host} is not free ({error.strerror}). Set WEB_PORT.") from error
