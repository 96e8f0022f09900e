"""The database keeps the ledger's words as Python has them, and leaves no word out of a key."""

import re

import pytest
from django.db.models import Model, TextChoices, UniqueConstraint

from apps.core.db import fetch_all, fetch_one
from apps.ledger import types
from apps.ledger.models import UsageDaily, UsageMonthly
from apps.ledger.types import AttemptState, EntryKind, OperationKind, OperationState, TokenSource, TokenType


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        ("operation_token_type", TokenType),
        ("entry_token_type", TokenType),
        ("operation_kind", OperationKind),
        ("entry_operation", OperationKind),
        ("operation_state", OperationState),
        ("attempt_state", AttemptState),
        ("entry_kind", EntryKind),
        ("entry_token_source", TokenSource),
    ],
)
def test_the_database_allows_exactly_the_words_that_python_has(
    database: None, constraint: str, words: type[TextChoices]
) -> None:
    row = fetch_one(
        "SELECT pg_get_constraintdef(oid) AS definition FROM pg_constraint WHERE conname = %s", [constraint]
    )
    assert row is not None
    [allowed] = re.findall(r"= ANY \('{([\w,]+)}'::text\[\]\)", row["definition"])
    assert set(allowed.split(",")) == set(words.values)


@pytest.mark.parametrize(("prefix", "words"), [("TOKEN_TYPE", TokenType), ("OPERATION", OperationKind)])
def test_every_word_has_its_constant(prefix: str, words: type[TextChoices]) -> None:
    constants = {name: value for name, value in vars(types).items() if name.startswith(f"{prefix}_")}
    assert constants == {f"{prefix}_{word.name}": word.value for word in words}


KEYS = """
    SELECT a.attname AS name, a.attnotnull AS required
      FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
     WHERE i.indexrelid = %s::regclass AND i.indisunique AND i.indpred IS NULL
"""


@pytest.mark.parametrize("statistics", [UsageDaily, UsageMonthly])
def test_no_part_of_a_statistics_key_may_be_null(database: None, statistics: type[Model]) -> None:
    """Nulls differ from each other: rows with one would be doubled instead of added to."""
    [key] = [each for each in statistics._meta.constraints if isinstance(each, UniqueConstraint)]
    found = fetch_all(KEYS, [key.name])
    assert {part["name"] for part in found} == set(key.fields)
    assert [part["name"] for part in found if not part["required"]] == []
