"""The words of the ledger are the same in Python and in the database."""

import re

import pytest
from django.db.models import TextChoices

from apps.core.db import fetch_one
from apps.ledger import types
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
