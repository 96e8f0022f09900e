"""Where usage that is reported while the database is away waits: one SQLite file of this host, replayed by key.

What is spooled is on the disk before the caller is told so. It leaves the file only after the database has it, or has
refused it for good; then it is kept, with the reason, in ``refused``. Whoever dies between the two leaves it to be
booked once more, which its key makes nothing of. Every call opens the file anew, so that threads, forks and processes
share it without sharing a connection.

Inside a transaction nothing is spooled. An event belongs to the transaction of its caller: it is booked if that
commits, and when the connection is lost the caller has lost everything else, too, and repeats all of it. Spooled, the
event would be booked even if the caller never did.
"""

import fcntl
import json
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import Error, connection

from apps.core import clock
from apps.core.persistence import is_away
from apps.ledger import booking, functions
from apps.ledger.booking import BATCH, Item, Recorded
from apps.ledger.errors import LedgerRowNotFoundError, SpoolUnavailableError

logger = logging.getLogger(__name__)

#: How long one process waits for another to finish writing.
BUSY_SECONDS = 30.0

# EXTRA is FULL, and the directory is synced when the journal is removed. The hash is part of the key: of two contents
# under one key the database books the first and notes the conflict, as it does when it is there.
_SCHEMA = """
    PRAGMA synchronous = EXTRA;
    CREATE TABLE IF NOT EXISTS waiting (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        tenant_id TEXT NOT NULL,
        idempotency_key TEXT NOT NULL,
        payload_hash TEXT NOT NULL,
        entry_id TEXT NOT NULL,
        event TEXT NOT NULL CHECK (json_valid(event)),
        spooled_at TEXT NOT NULL,
        UNIQUE (tenant_id, idempotency_key, payload_hash)
    );
    CREATE TABLE IF NOT EXISTS refused (
        tenant_id TEXT NOT NULL,
        idempotency_key TEXT NOT NULL,
        payload_hash TEXT NOT NULL,
        event TEXT NOT NULL,
        spooled_at TEXT NOT NULL,
        refused_at TEXT NOT NULL,
        code TEXT NOT NULL,
        detail TEXT NOT NULL,
        PRIMARY KEY (tenant_id, idempotency_key, payload_hash)
    );
"""


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What one replay did. ``duplicates``: their keys had been booked by somebody else before."""

    booked: int = 0
    duplicates: int = 0
    refused: int = 0

    def __add__(self, other: "Replayed") -> "Replayed":
        return Replayed(
            booked=self.booked + other.booked,
            duplicates=self.duplicates + other.duplicates,
            refused=self.refused + other.refused,
        )


@dataclass(frozen=True, kw_only=True)
class Reporter:
    """A tenant that reports usage: it is consumer, owner and payer of it."""

    tenant_id: UUID

    @property
    def owner_tenant_id(self) -> UUID:
        return self.tenant_id

    @property
    def payer_tenant_id(self) -> UUID:
        return self.tenant_id


def add(tenant_id: UUID, items: Sequence[Item]) -> list[UUID]:
    """Keep items on the disk until they are booked; returns the ids that their entries will have.

    An item that waits already keeps the id that it was given first. Raises SpoolUnavailableError.
    """
    keys = [(str(tenant_id), str(item["key"]), str(item["hash"])) for item in items]
    now = clock.now().isoformat()
    rows = [(*key, str(item["id"]), functions.to_json(item), now) for key, item in zip(keys, items, strict=True)]
    with _opened() as file:
        with file:
            file.executemany(
                "INSERT INTO waiting (tenant_id, idempotency_key, payload_hash, entry_id, event, spooled_at)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                rows,
            )
            ids = [UUID(_entry_id(file, key)) for key in keys]
        logger.error("usage spooled: the database is away", extra={"spooled": len(items), "waiting": _waiting(file)})
    return ids


def waiting() -> int:
    """How many events wait on this host to be booked."""
    if not _path().exists():
        return 0
    with _opened() as file:
        return _waiting(file)


def refused() -> int:
    """How many events of this host the database has refused for good."""
    if not _path().exists():
        return 0
    with _opened() as file:
        return int(file.execute("SELECT count(*) FROM refused").fetchone()[0])


def replay(*, at_most: int | None = None) -> Replayed:
    """Book what waits, unless another process of this host is at it. Raises when the database is away."""
    if not waiting():
        return Replayed()
    with _alone() as alone, _opened() as file:
        if not alone:
            return Replayed()
        done = _replay(file, at_most)
    logger.info("spooled usage replayed", extra=vars(done))
    return done


def _replay(file: sqlite3.Connection, at_most: int | None) -> Replayed:
    done = Replayed()
    left = at_most
    for [tenant] in file.execute("SELECT tenant_id FROM waiting GROUP BY 1 ORDER BY min(sequence)").fetchall():
        # What has come since waits for the next replay, so that this one has an end.
        last = file.execute("SELECT max(sequence) FROM waiting").fetchone()[0]
        while rows := _next(file, tenant, last, BATCH if left is None else min(BATCH, left)):
            left = None if left is None else left - len(rows)
            try:
                done += _settle(file, rows, _booked(UUID(tenant), rows))
            except Error as error:
                if is_away(error):
                    # Whoever comes next in this thread opens a new one.
                    connection.close_if_unusable_or_obsolete()
                    raise
                # Nothing is proven against these events, so they stay; other tenants' need not wait for them.
                logger.exception("spooled usage could not be booked", extra={"tenant": tenant})
                break
    return done


def _next(file: sqlite3.Connection, tenant: str, last: int, limit: int) -> list[sqlite3.Row]:
    statement = "SELECT * FROM waiting WHERE tenant_id = ? AND sequence <= ? ORDER BY sequence LIMIT ?"
    return file.execute(statement, [tenant, last, limit]).fetchall()


def _booked(tenant_id: UUID, rows: Sequence[sqlite3.Row]) -> list[Recorded]:
    try:
        return booking.book(Reporter(tenant_id=tenant_id), [json.loads(row["event"]) for row in rows])
    except LedgerRowNotFoundError as error:
        return [Recorded(outcome="invalid", error=error) for _ in rows]


def _settle(file: sqlite3.Connection, rows: Sequence[sqlite3.Row], outcomes: Sequence[Recorded]) -> Replayed:
    """Take out of the file what the database has, and lay aside what it never will have, at once."""
    bad = [(row, each.error) for row, each in zip(rows, outcomes, strict=True) if each.error]
    with file:
        file.executemany(
            "INSERT OR REPLACE INTO refused"
            " (tenant_id, idempotency_key, payload_hash, event, spooled_at, refused_at, code, detail)"
            " SELECT tenant_id, idempotency_key, payload_hash, event, spooled_at, ?, ?, ?"
            " FROM waiting WHERE sequence = ?",
            [(clock.now().isoformat(), error.code, error.detail, row["sequence"]) for row, error in bad],
        )
        file.executemany("DELETE FROM waiting WHERE sequence = ?", [(row["sequence"],) for row in rows])
    for row, error in bad:
        logger.error("spooled usage refused", extra={"entry": row["entry_id"], "code": error.code})
    duplicates = sum(each.outcome == "duplicate" for each in outcomes)
    return Replayed(booked=len(rows) - duplicates - len(bad), duplicates=duplicates, refused=len(bad))


def _waiting(file: sqlite3.Connection) -> int:
    return int(file.execute("SELECT count(*) FROM waiting").fetchone()[0])


def _entry_id(file: sqlite3.Connection, key: Iterable[Any]) -> str:
    statement = "SELECT entry_id FROM waiting WHERE tenant_id = ? AND idempotency_key = ? AND payload_hash = ?"
    return str(file.execute(statement, tuple(key)).fetchone()[0])


def _path() -> Path:
    return Path(settings.SPOOL_DIR) / "usage.sqlite3"


@contextmanager
def _opened() -> Iterator[sqlite3.Connection]:
    """The file, made if it is not there; what it cannot do is raised as SpoolUnavailableError."""
    try:
        _path().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with closing(sqlite3.connect(_path(), timeout=BUSY_SECONDS, isolation_level="IMMEDIATE")) as file:
            file.row_factory = sqlite3.Row
            file.executescript(_SCHEMA)
            yield file
    except (sqlite3.Error, OSError) as error:
        raise SpoolUnavailableError("Report it again, with the same key.") from error


@contextmanager
def _alone() -> Iterator[bool]:
    """Whether this is the only replay on the host. The kernel lets go of the lock of a process that dies."""
    try:
        descriptor = os.open(_path().with_name("replay.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SpoolUnavailableError("Nothing was replayed; what waits still does.") from error
    try:
        yield _locked(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
