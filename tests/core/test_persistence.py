"""What counts as a database that is away, by what PostgreSQL itself says; and how a write is repeated."""

from collections.abc import Iterator

import pytest
from django.db import DatabaseError, Error, OperationalError, connection, transaction

from apps.core import db
from apps.core.persistence import is_away, repeated
from tests.faults.line import Line, line_to_database


@pytest.fixture
def line(database: None) -> Iterator[Line]:
    with line_to_database() as line:
        yield line


def error_of(statement: str) -> Error:
    with pytest.raises(Error) as raised:
        db.execute(statement)
    connection.close()
    return raised.value


def test_a_server_that_ends_the_connection_is_away(line: Line) -> None:
    assert is_away(error_of("SELECT pg_terminate_backend(pg_backend_pid())"))


def test_a_server_that_takes_no_writes_is_away(line: Line) -> None:
    db.execute("SET default_transaction_read_only = on")
    assert is_away(error_of("DELETE FROM core_periodicslot"))


def test_a_server_that_nobody_reaches_is_away(line: Line) -> None:
    line.cut()
    assert is_away(error_of("SELECT 1"))


@pytest.mark.parametrize(
    "statement",
    ["SELECT 1/0", "SELECT nothing", "SELECT 'x'::uuid", "SELECT repeat('[', 100000)::jsonb"],
    ids=["data", "name", "type", "too complex"],
)
def test_what_is_the_statements_own_fault_is_not(line: Line, statement: str) -> None:
    assert not is_away(error_of(statement))


def test_a_write_is_repeated_until_the_database_is_back(line: Line) -> None:
    tries = 0
    line.cut()

    def write() -> int:
        nonlocal tries
        tries += 1
        if tries == 2:
            line.mend()
        db.execute("SELECT 1")
        return tries

    assert repeated(write, seconds=30) == 2


def test_in_a_transaction_it_is_tried_once(line: Line) -> None:
    tries = 0

    def write() -> None:
        nonlocal tries
        tries += 1
        line.cut()
        db.execute("SELECT 1")

    def act() -> None:
        with transaction.atomic():
            repeated(write, seconds=30)

    with pytest.raises(OperationalError):
        act()
    assert tries == 1


def test_what_does_not_pass_is_not_repeated(line: Line) -> None:
    tries = 0

    def write() -> None:
        nonlocal tries
        tries += 1
        db.execute("SELECT 1/0")

    with pytest.raises(DatabaseError):
        repeated(write, seconds=30)
    assert tries == 1
