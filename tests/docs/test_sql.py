"""The SQL that the pages show can be run, as it stands there, by the role that operators log in as."""

import pytest
from django.db import connection

from tests.docs.pages import Page, pages

WITH_SQL = [written for written in pages() if written.blocks("sql")]


def test_there_is_sql_to_run() -> None:
    assert WITH_SQL


@pytest.mark.parametrize("written", WITH_SQL, ids=str)
def test_the_statements_of_a_page_run_one_after_the_other(database: None, written: Page) -> None:
    """In their order, because a page opens a transaction once and goes on in it."""
    try:
        with connection.cursor() as cursor:
            for block in written.blocks("sql"):
                cursor.execute(block)
            cursor.execute("SELECT pg_current_xact_id_if_assigned() IS NULL AND current_user = 'nooble_app'")
            assert cursor.fetchone() == (True,), "a transaction is left open, or something was written"
    finally:
        connection.close()
