"""Who the application is in the database, and what it cannot do there."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.core.checks import Tags, run_checks
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection, connections

from apps.core import checks

pytestmark = pytest.mark.usefixtures("database")


@contextmanager
def default_as(user: str) -> Iterator[None]:
    """Let the application's alias log in as another role."""
    usual = connections["default"]
    other = connections.create_connection("default")
    other.settings_dict = {**other.settings_dict, "USER": user}
    connections["default"] = other
    try:
        yield
    finally:
        other.close()
        connections["default"] = usual


def execute(statement: str, alias: str = "default") -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture
def scratch() -> Iterator[str]:
    """A table that the owner makes the way a migration does."""
    execute("CREATE TABLE scratch (id int)", "owner")
    yield "scratch"
    execute("DROP TABLE scratch", "owner")


def test_the_application_is_its_own_role_in_the_test_database_too() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, current_database()")
        assert cursor.fetchone() == ("nooble_app", "test_nooble")


def test_the_application_may_read_and_write_what_the_owner_creates(scratch: str) -> None:
    for statement, rows in (
        (f"INSERT INTO {scratch} VALUES (1)", [(1,)]),
        (f"UPDATE {scratch} SET id = 2", [(2,)]),
        (f"DELETE FROM {scratch}", []),
    ):
        execute(statement)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT id FROM {scratch}")
            assert cursor.fetchall() == rows


@pytest.mark.parametrize("statement", ["TRUNCATE scratch", "DROP TABLE scratch", "CREATE TABLE mine (id int)"])
def test_the_application_may_not_truncate_drop_or_create(scratch: str, statement: str) -> None:
    with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
        execute(statement)


def test_a_stranger_may_not_even_connect() -> None:
    with connections["owner"].cursor() as cursor:
        cursor.execute("SELECT datacl::text FROM pg_database WHERE datname = current_database()")
        # An entry without a name before the equals sign is PUBLIC's.
        assert not any(entry.startswith("=") for entry in cursor.fetchone()[0].strip("{}").split(","))


def test_the_application_becomes_the_operator_by_name_only() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_has_role('nooble_operator', 'USAGE'), pg_has_role('nooble_operator', 'SET')")
        assert cursor.fetchone() == (False, True)


def test_the_checks_accept_the_application_role() -> None:
    assert run_checks(tags=[Tags.database], databases=["default"]) == []


@pytest.mark.parametrize(("user", "expected"), [("postgres", "nooble.E001"), ("nooble_owner", "nooble.E003")])
def test_the_checks_refuse_a_role_that_row_level_security_does_not_bind(user: str, expected: str) -> None:
    with default_as(user):
        assert expected in [message.id for message in checks.application_role(databases=["default"])]


def test_the_checks_refuse_an_application_that_is_always_the_operator() -> None:
    with default_as("postgres"):
        execute("GRANT nooble_operator TO nooble_app WITH INHERIT TRUE")
    try:
        assert [message.id for message in checks.application_role(databases=["default"])] == ["nooble.E004"]
    finally:
        with default_as("postgres"):
            execute("GRANT nooble_operator TO nooble_app WITH INHERIT FALSE")


def test_the_checks_look_at_no_database_that_was_not_asked_for() -> None:
    with default_as("postgres"):
        assert checks.application_role(databases=["owner"]) == []


def test_migrations_need_the_roles_and_say_how_to_make_them() -> None:
    with default_as("postgres"):
        execute("ALTER ROLE nooble_operator RENAME TO somebody")
    try:
        with pytest.raises(CommandError, match=r"no role nooble_operator.*roles\.sql"):
            call_command("migrate", verbosity=0)
    finally:
        with default_as("postgres"):
            execute("ALTER ROLE somebody RENAME TO nooble_operator")


def test_no_migration_is_missing() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
