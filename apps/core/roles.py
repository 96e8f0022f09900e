"""The database roles: who they are (``sql/roles.sql``), what they may do, and whether a deployment got them right."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.core.management.base import CommandError
from django.db.backends.base.base import BaseDatabaseWrapper

APPLICATION = "nooble_app"
OPERATOR = "nooble_operator"
#: What the till's functions run as.
TILL = "nooble_till"

#: Any number that no other advisory lock of the database uses.
MIGRATION_LOCK = 6_066_253

_SQL = Path(__file__).resolve().parent / "sql"
_MISSING = "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regrole(name) IS NULL"
_STANDING = """
    SELECT rolsuper,
           rolbypassrls,
           EXISTS (SELECT FROM pg_class
                    WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace
                      AND pg_has_role(current_user, relowner, 'MEMBER')),
           pg_has_role(current_user, to_regrole('nooble_operator'), 'USAGE'),
           pg_has_role(current_user, to_regrole('nooble_operator'), 'SET')
      FROM pg_roles
     WHERE rolname = current_user
"""


@dataclass(frozen=True)
class Standing:
    """What the role of a connection is able to do, policies or not."""

    is_superuser: bool
    bypasses_policies: bool
    owns_tables: bool
    #: None where there is no operator role.
    inherits_operator: bool | None
    may_become_operator: bool | None


def standing(connection: BaseDatabaseWrapper) -> Standing:
    with connection.cursor() as cursor:
        cursor.execute(_STANDING)
        row = cursor.fetchone()
    assert row is not None  # a connection has a role
    return Standing(*row)


@contextmanager
def migration_lock(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Hold the database's lock for migrations; waits for whoever holds it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [MIGRATION_LOCK])


def grant_privileges(connection: BaseDatabaseWrapper) -> None:
    """Apply ``sql/privileges.sql`` as the role of the connection, which will own what it migrates."""
    with connection.cursor() as cursor:
        cursor.execute(_MISSING, [[APPLICATION, OPERATOR, TILL]])
        missing = ", ".join(name for (name,) in cursor.fetchall())
        if missing:
            raise CommandError(
                f"The database has no role {missing}. Let an administrator run apps/core/sql/roles.sql; "
                "docs/operations.md says how."
            )
        cursor.execute((_SQL / "privileges.sql").read_text())
