"""A clock of the database that stands still until a test moves it.

The connection finds functions of this schema before PostgreSQL's own of the same name, so the ledger's functions and
every ``Now()`` see the moment that the test has set. Column defaults keep the true time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from django.db import connection, connections

SCHEMA = "standing_clock"

_MOMENT = "LANGUAGE sql STABLE AS $$ SELECT current_setting('standing_clock.now')::timestamptz $$"
_SETUP = f"""
    CREATE SCHEMA {SCHEMA};
    CREATE FUNCTION {SCHEMA}.clock_timestamp() RETURNS timestamptz {_MOMENT};
    CREATE FUNCTION {SCHEMA}.statement_timestamp() RETURNS timestamptz {_MOMENT};
    CREATE FUNCTION {SCHEMA}.now() RETURNS timestamptz {_MOMENT};
    GRANT USAGE ON SCHEMA {SCHEMA} TO nooble_app, nooble_operator;
"""


@contextmanager
def standing_clock() -> Iterator[str]:
    """The schema's name; what a test puts into it comes before ours, too."""
    with connections["owner"].cursor() as cursor:
        cursor.execute(_SETUP)
    with connection.cursor() as cursor:
        cursor.execute(f"SET search_path = {SCHEMA}, pg_catalog, public")
    try:
        yield SCHEMA
    finally:
        connection.close()
        with connections["owner"].cursor() as cursor:
            cursor.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


def set_clock(now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT set_config('{SCHEMA}.now', %s, false)", [now.isoformat()])
