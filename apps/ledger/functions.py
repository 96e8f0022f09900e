"""Calling the ledger's database functions, and reading what they raise."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NoReturn

from django.db import DatabaseError

from apps.core import db
from apps.ledger.errors import (
    BudgetExceededError,
    IdempotencyConflictError,
    LedgerRowNotFoundError,
)
from apps.ledger.types import TokenCounts

_JSON = json.JSONEncoder(default=str)
#: The columns of the functions' rows that are jsonb.
_OF_JSON = ("attempts", "result")


def call(function: str, *arguments: Any) -> dict[str, Any]:
    """The row that a function of the ledger returns; what it raises, as one of our errors."""
    [row] = rows(function, *arguments)
    return row


def rows(function: str, *arguments: Any) -> list[dict[str, Any]]:
    """The rows that a function of the ledger returns; what it raises, as one of our errors."""
    places = ", ".join(["%s"] * len(arguments))
    try:
        # The name is ours.
        found = db.fetch_prepared(f"SELECT * FROM {function}({places})", [_text(argument) for argument in arguments])  # noqa: S608
    except DatabaseError as error:
        _translate(error)
    return [_parsed(row) for row in found]


def _text(argument: Any) -> str | None:
    """An argument as PostgreSQL reads it."""
    match argument:
        case None:
            return None
        case TokenCounts():
            return f"({','.join(map(str, argument.buckets))},{argument.source})"
        case timedelta():
            return f"{argument.total_seconds()} seconds"
        case _:
            return str(argument)


def _translate(error: DatabaseError) -> NoReturn:
    """Raise the error of ours that a database function meant; anything else as it came."""
    cause = error.__cause__
    state, detail = getattr(cause, "sqlstate", None), getattr(getattr(cause, "diag", None), "message_detail", None)
    if state == "NB402":
        raise BudgetExceededError.of(json.loads(detail or "{}")) from error
    if state == "NB409":
        raise IdempotencyConflictError("Use a new key for new content.", operation_id=detail) from error
    if state == "NB404":
        raise LedgerRowNotFoundError("Check its id.") from error
    raise error


def to_json(value: Mapping[str, Any] | Sequence[Any] | None) -> str | None:
    """A value as a jsonb parameter."""
    return None if value is None else _JSON.encode(value)


def _parsed(row: dict[str, Any]) -> dict[str, Any]:
    # Django has its connections give jsonb as text.
    return row | {name: json.loads(row[name]) for name in _OF_JSON if isinstance(row.get(name), str)}
