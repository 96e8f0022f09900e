"""Conditions of check constraints."""

from collections.abc import Iterable
from typing import Any

from django.db.models import BooleanField, Func
from django.db.models.sql.compiler import SQLCompiler


class OneOf(Func):
    """Whether a column has one of some words: what ``IN`` means, as ``column = ANY ('{…}')``.

    PostgreSQL reads a check's expression from the catalogue in every statement that writes the table. A list it keeps
    word by word, each with its cast, and so much longer than one array: on the ledger's tables that was a tenth of what
    holding and settling costs.
    """

    conditional = True
    arity = 1
    output_field = BooleanField()

    def __init__(self, column: Any, words: Iterable[str]) -> None:
        super().__init__(column)
        self.words = tuple(words)

    def as_sql(self, compiler: SQLCompiler, connection: Any, **_: Any) -> tuple[str, list[Any]]:  # type: ignore[override]
        """The condition, and the array it compares with. The words are ours: no commas, quotes or braces in them."""
        column, parameters = compiler.compile(self.source_expressions[0])
        return f"{column} = ANY (%s::text[])", [*parameters, f"{{{','.join(self.words)}}}"]
