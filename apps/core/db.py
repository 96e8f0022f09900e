"""The two doors to the database.

Every tenant table has forced row-level security: without a scope a query returns nothing and an insert fails. A scope
lives as long as one transaction (``set_config(…, is_local => true)``), so no connection pooler can leak it.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol
from uuid import UUID

from django.db import connection, transaction
from psycopg import Cursor
from psycopg.rows import dict_row

logger = logging.getLogger(__name__)

Parameters = Sequence[Any] | Mapping[str, Any]

OPERATOR_ROLE = "nooble_operator"
#: The scope that is no tenant's.
OPERATOR = ("operator",)

_STEP_UP = f"SET LOCAL ROLE {OPERATOR_ROLE}"
#: Back to the role that the connection was opened with.
_STEP_DOWN = "SET LOCAL ROLE TO DEFAULT"
_OPEN_SCOPE = """
    SELECT set_config('nooble.tenant_id', %s, true),
           set_config('nooble.owner_id', %s, true),
           set_config('nooble.payer_id', %s, true)
"""


class Scope(Protocol):
    """The three tenants a transaction may act for; an ExecutionContext is one."""

    @property
    def tenant_id(self) -> UUID: ...
    @property
    def owner_tenant_id(self) -> UUID: ...
    @property
    def payer_tenant_id(self) -> UUID: ...


class ScopeError(RuntimeError):
    """A transaction was opened for one scope inside another's: a defect, never a client's doing."""


#: The scope of the transaction that this thread has open: (consumer, owner, payer) or OPERATOR.
_open: ContextVar[tuple[str, ...] | None] = ContextVar("nooble_open_scope", default=None)


def parties(ctx: Scope) -> tuple[str, str, str]:
    """Consumer, owner and payer, as the policies and the ledger's functions take them."""
    return str(ctx.tenant_id), str(ctx.owner_tenant_id), str(ctx.payer_tenant_id)


@contextmanager
def unit_of_work(ctx: Scope) -> Iterator[None]:
    """One transaction in which the rows of the context's consumer, owner and payer can be seen, each by its policy.

    Inside another unit of work of the same scope it is a savepoint; inside one of another scope it is refused. Inside
    the operator's scope it is a savepoint without the operator's rights: a service an operator calls sees what it would
    see if the tenant had called it.
    """
    with _transaction(parties(ctx), _OPEN_SCOPE, parties(ctx)):
        yield


def outside_transactions() -> bool:
    """Whether this thread has no transaction open: what a call to the outside world requires."""
    return not connection.in_atomic_block


@contextmanager
def operator_scope(reason: str, *, level: int = logging.INFO) -> Iterator[None]:
    """One transaction that sees every tenant, for the few places that must; the reason goes to the log.

    Who may import it is checked by ``tests/architecture``.
    """
    logger.log(level, "operator scope opened", extra={"reason": reason})
    with _transaction(OPERATOR, _STEP_UP, ()):
        yield


@contextmanager
def _transaction(scope: tuple[str, ...], statement: str, parameters: Sequence[str]) -> Iterator[None]:
    current = _open.get() if connection.in_atomic_block else None
    if current == scope:
        with transaction.atomic():
            yield
        return
    if current not in {None, OPERATOR}:
        raise ScopeError("a unit of work of one scope was opened inside another's")
    nested = current == OPERATOR
    with transaction.atomic(durable=not nested):
        if nested:
            execute(_STEP_DOWN)
        execute(statement, parameters)
        token = _open.set(scope)
        try:
            yield
        finally:
            _open.reset(token)
        # Not after an error: going back to the savepoint gives the role back, too.
        if nested:
            execute(_STEP_UP)


def execute(statement: str, parameters: Parameters = ()) -> None:
    """Run one statement in the open transaction."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def fetch_one(statement: str, parameters: Parameters = ()) -> dict[str, Any] | None:
    """The first row of one statement, by column name. None: no row."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        row = cursor.fetchone()
        return None if row is None else dict(zip(_columns(cursor), row, strict=True))


def fetch_all(statement: str, parameters: Parameters = ()) -> list[dict[str, Any]]:
    """All rows of one statement, by column name."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        columns = _columns(cursor)
        return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]


def fetch_prepared(statement: str, parameters: Sequence[str | None]) -> list[dict[str, Any]]:
    """All rows of a statement that is run all the time, by column name: the server keeps it parsed and planned.

    Parameters are text, of which the statement makes what it needs: psycopg prepares a statement for each combination
    of their types, and so once only.
    """
    # As Django does before each of its own cursors.
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    driver_cursor: Any = Cursor(connection.connection, row_factory=dict_row)
    wrap = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
    with wrap(driver_cursor) as cursor:
        cursor.execute(statement, parameters)
        rows: list[dict[str, Any]] = cursor.fetchall()
        return rows


def _columns(cursor: Any) -> list[str]:
    return [column.name for column in cursor.description]
