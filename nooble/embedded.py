"""PostgreSQL and Redis without installing either: real servers from wheels, for a laptop and for tests.

They run for as long as any process uses them. The first user starts them, later ones attach, and the last to leave
stops them; whoever was killed without leaving has left, because the kernel lets go of its locks.
"""

import atexit
import hashlib
import os
import tempfile
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Self

from nooble import servers
from nooble.accounts import Account, server_account
from nooble.errors import EngineError
from nooble.locks import FileLock
from nooble.servers import PostgresServer, RedisServer, Server

DATABASE = "nooble"
APPLICATION_ROLE = "nooble_app"
OWNER_ROLE = "nooble_owner"
ENGINES = ("postgres", "redis")

#: What the kernel leaves for a socket's path (104 bytes on macOS, 108 on Linux), less the longest name in it.
_SOCKET_DIR_LIMIT = 104 - len("/.s.PGSQL.5432") - 1
_ROLES = Path(__file__).resolve().parent.parent / "apps" / "core" / "sql" / "roles.sql"


def socket_dir(data_dir: Path) -> Path:
    """Where the sockets of a data directory are; for one with a long path, a short place in the temporary directory."""
    beside = data_dir.resolve() / "run"
    if len(os.fsencode(beside)) <= _SOCKET_DIR_LIMIT:
        return beside
    digest = hashlib.sha256(os.fsencode(beside)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"nooble-{digest}"


def database_url(data_dir: Path) -> str:
    """The address of the embedded database for the application's role; nothing is started."""
    return servers.postgres_url(socket_dir(data_dir), user=APPLICATION_ROLE, database=DATABASE)


def owner_url(data_dir: Path) -> str:
    """The same database for the role that owns it."""
    return servers.postgres_url(socket_dir(data_dir), user=OWNER_ROLE, database=DATABASE)


def redis_url(data_dir: Path) -> str:
    """The address of the embedded Redis; nothing is started."""
    return servers.redis_url(socket_dir(data_dir))


def ensure() -> None:
    """Start, or attach to, the engines that the settings leave to us: those without a URL of their own."""
    from django.conf import settings  # noqa: PLC0415  # the settings import this module

    if settings.EMBEDDED_ENGINES:
        engines(settings.NOOBLE_DATA_DIR).join(settings.EMBEDDED_ENGINES)


def revive() -> None:
    """Start again whichever of them has died; costs next to nothing while all are alive."""
    from django.conf import settings  # noqa: PLC0415

    wanted = settings.EMBEDDED_ENGINES
    if wanted and not engines(settings.NOOBLE_DATA_DIR).running(wanted):
        ensure()


@cache
def engines(data_dir: Path) -> "Engines":
    """This process's use of the engines of a data directory."""
    return Engines(data_dir)


class Engines:
    """The engines of one data directory, as one process uses them."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.resolve()
        #: Serialises starting and stopping between processes.
        self._changing = FileLock(self.data_dir / "engines.lock")
        #: Shared by every process that uses the engines.
        self._in_use = FileLock(self.data_dir / "in-use.lock")
        self._process_id: int | None = None

    def __enter__(self) -> Self:
        self.join()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def join(self, names: Collection[str] = ENGINES) -> None:
        """Use these engines until :meth:`leave` or the end of the process. Again: start what has died since."""
        self._make_directories()
        with self._changing.alone():
            self._in_use.share()
            self._remember()
            for server in self._servers(names):
                server.ensure()
                if isinstance(server, PostgresServer):
                    _bootstrap(server)

    def leave(self) -> None:
        """Use them no longer; the last one out stops them."""
        # A child that was forked from a user has its memory, and is none.
        if self._process_id != os.getpid():
            return
        self._process_id = None
        with self._changing.alone():
            if self._in_use.take():
                self._stop()
            self._in_use.release()

    def stop_abandoned(self) -> bool:
        """Stop engines whose users were all killed. False: somebody uses them."""
        with self._changing.alone():
            unused = self._in_use.take()
            if unused:
                self._stop()
            self._in_use.release()
        return unused

    def running(self, names: Collection[str] = ENGINES) -> bool:
        """Whether a process of each of these engines is there; asks the kernel only."""
        return all(server.is_running() for server in self._servers(names))

    def _make_directories(self) -> None:
        try:
            (self.data_dir / "log").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(f"{self.data_dir} cannot be made ({error.strerror}). Set NOOBLE_DATA_DIR.") from error
        if not os.access(self.data_dir, os.W_OK):
            raise EngineError(f"{self.data_dir} belongs to somebody else. Set NOOBLE_DATA_DIR.")

    def _remember(self) -> None:
        if self._process_id != os.getpid():
            self._process_id = os.getpid()
            atexit.register(self.leave)

    def _stop(self) -> None:
        for server in self._servers(ENGINES):
            server.stop()

    def _servers(self, names: Collection[str]) -> list[Server]:
        account = server_account()
        sockets = _prepared(socket_dir(self.data_dir), account)
        account.reach(self.data_dir / "any")
        kinds: tuple[type[Server], ...] = (PostgresServer, RedisServer)
        return [kind(self.data_dir, sockets, account) for kind in kinds if kind.name in names]


def _prepared(directory: Path, account: Account) -> Path:
    """The directory for the sockets, which nobody but us and the servers may enter."""
    if not directory.exists():
        directory.mkdir(mode=0o700)
        account.own(directory)
    if directory.is_symlink() or not account.owns(directory):
        raise EngineError(f"{directory} belongs to somebody else. Remove it, or set NOOBLE_DATA_DIR.")
    account.reach(directory)
    return directory


def _bootstrap(server: PostgresServer) -> None:
    """Roles, database and extension, each unless it is there. The template has the extension for test databases."""
    import psycopg  # noqa: PLC0415

    server.psql(_ROLES)
    with psycopg.connect(
        servers.postgres_url(server.socket_dir, user=server.superuser, database="template1")
    ) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
