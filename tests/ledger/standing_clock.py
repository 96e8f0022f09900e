"""A clock of the database that stands still until a test moves it.

The connection, and the till's functions, find what is in this schema before PostgreSQL's own of the same name and
before ours, so they and every ``Now()`` see the moment that the test has set. Column defaults keep the true time.
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
    GRANT USAGE ON SCHEMA {SCHEMA} TO nooble_app, nooble_operator, nooble_till;
    DO $$
    BEGIN
        EXECUTE 'CREATE VIEW {SCHEMA}.ledger_terms WITH (security_invoker = true) AS '
            || replace(pg_get_viewdef('ledger_terms'::regclass), 'statement_timestamp()',
                       '{SCHEMA}.statement_timestamp()');
    END $$;
    GRANT SELECT ON {SCHEMA}.ledger_terms TO nooble_till;
"""
#: The till's functions have a search path of their own.
_SEARCH = """
    SET ROLE nooble_till;
    DO $$
    DECLARE
        found regprocedure;
    BEGIN
        FOR found IN SELECT oid FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace LOOP
            EXECUTE format('ALTER FUNCTION %s SET search_path = {path}', found);
        END LOOP;
    END $$;
    RESET ROLE;
"""
_OURS = "public, pg_temp"
_PATH = f"{SCHEMA}, pg_catalog, public"


@contextmanager
def standing_clock() -> Iterator[str]:
    """The schema's name; what a test puts into it comes before ours, too."""
    with connections["owner"].cursor() as cursor:
        cursor.execute(_SETUP)
        cursor.execute(_SEARCH.format(path=_PATH))
    with connection.cursor() as cursor:
        cursor.execute(f"SET search_path = {_PATH}")
    try:
        yield SCHEMA
    finally:
        connection.close()
        with connections["owner"].cursor() as cursor:
            cursor.execute(_SEARCH.format(path=_OURS))
            cursor.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


def set_clock(now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT set_config('{SCHEMA}.now', %s, false)", [now.isoformat()])
