"""Calling the ledger's database functions, and reading what they raise."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from django.db import DatabaseError

from apps.core import db
from apps.ledger.errors import AttemptClosedError, BudgetExceededError, IdempotencyConflictError


def call(function: str, *arguments: Any) -> dict[str, Any]:
    """The row that a function of the ledger returns; what it raises, as one of our errors."""
    places = ", ".join(["%s"] * len(arguments))
    try:
        row = db.fetch_one(f"SELECT * FROM {function}({places})", arguments)  # noqa: S608 - names are ours
    except DatabaseError as error:
        _translate(error)
    assert row is not None
    return _parsed(row)


def _translate(error: DatabaseError) -> NoReturn:
    """Raise the error of ours that a database function meant; anything else as it came."""
    cause = error.__cause__
    state, detail = getattr(cause, "sqlstate", None), getattr(getattr(cause, "diag", None), "message_detail", None)
    if state == "NB402":
        facts = json.loads(detail or "{}")
        raise BudgetExceededError(_refusal(facts), **facts) from error
    if state == "NB409":
        raise IdempotencyConflictError("Use a new key for new content.", operation_id=detail) from error
    if state == "NB410":
        raise AttemptClosedError("The attempt was void: the provider had said that it did not count it.") from error
    raise error


def _refusal(facts: Mapping[str, Any]) -> str:
    return (
        f"This needs up to {facts['needed_tokens']} tokens; of {facts['limit_tokens']} a month "
        f"{facts['spent_tokens']} are spent and {facts['held_tokens']} set aside for work in progress. "
        f"The budget starts anew at {facts['resets_at']}."
    )


def to_json(value: Mapping[str, Any] | None) -> str | None:
    """A mapping as a jsonb parameter."""
    return None if value is None else json.dumps(value, default=str)


def _parsed(row: dict[str, Any]) -> dict[str, Any]:
    # Columns of a function's composite result reach Django's cursor as text where they are jsonb.
    result = row.get("result")
    return {**row, "result": json.loads(result)} if isinstance(result, str) else row
