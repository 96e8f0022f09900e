"""What may stand beside the numbers of an entry."""

from typing import Any
from uuid import uuid4

import pytest

from apps.ledger import metadata
from apps.ledger.errors import InvalidMetadataError, InvalidUsageError
from apps.ledger.types import OperationKind, TokenType, digest

HASH = digest({})


@pytest.mark.parametrize(
    ("operation", "token_type", "values"),
    [
        ("chat", "llm", {"passages": 3}),
        ("chat", "llm", {"passages": 3, "execution_time_ms": 1602}),
        ("chat", "llm", {"credential": "tenant", "execution_time_ms": 1602}),
        ("batch", "embedding", {"credential": "deployment", "resolved_by": "lookup"}),
        ("chat", "llm", {"resolved_by": "lookup"}),
        ("query", "embedding", {"query_type": "hybrid"}),
        ("vector_search", "embedding", {"query_type": "hybrid", "characters": 40}),
        ("batch", "embedding", {"batch_size": 50, "characters": 20_000, "execution_time_ms": 80}),
        ("internal", "embedding", {"service": "chunking", "chunks": 4, "chunk_tokens_max": 512, "characters": 7000}),
    ],
)
def test_what_operations_say_today_is_kept_as_it_is(operation: str, token_type: str, values: dict[str, Any]) -> None:
    assert metadata.checked(OperationKind(operation), TokenType(token_type), values) == values


def test_all_that_is_known_of_an_operation_has_its_place() -> None:
    common: dict[str, Any] = {"operation_id": str(uuid4()), "operation_hash": HASH, "execution_time_ms": 1}
    common |= {"service": "agents", "credential": "tenant"}
    asked = {"query_type": "rag", "strategy": "hybrid"}
    texts = {**metadata.of_texts(["one", "twenty"]), "dimensions": 256, "successes": 1, "failures": 1}
    answered = {**common, **asked, "message_id": str(uuid4()), "tools_used": ["search"], "passages": 2}
    assert metadata.checked(OperationKind.CHAT, TokenType.LLM, answered) == answered
    assert metadata.checked(OperationKind.BATCH, TokenType.EMBEDDING, {**common, **texts}) == {**common, **texts}
    searched = {**common, **asked, **texts}
    assert metadata.checked(OperationKind.QUERY, TokenType.EMBEDDING, searched) == searched
    cut = {**common, **texts, "chunks": 2, "chunk_tokens_min": 1, "chunk_tokens_average": 2.5, "chunk_tokens_max": 4}
    assert metadata.checked(OperationKind.INTERNAL, TokenType.EMBEDDING, cut) == cut


@pytest.mark.parametrize(
    ("operation", "values", "field"),
    [
        ("chat", {"chunks": 3}, "chunks"),
        ("chat", {"passages": -1}, "passages"),
        ("chat", {"passages": "3"}, "passages"),
        ("chat", {"passages": True}, "passages"),
        ("chat", {"execution_time_ms": 1.5}, "execution_time_ms"),
        ("chat", {"message_id": "message"}, "message_id"),
        ("chat", {"tools_used": ["a tool"]}, "tools_used.0"),
        ("chat", {"resolved_by": "guessing"}, "resolved_by"),
        ("chat", {"credential": "sk-somebodys"}, "credential"),
        ("batch", {"query_type": "hybrid"}, "query_type"),
        ("batch", {"text_hash": "abc"}, "text_hash"),
        ("batch", {"dimensions": 0}, "dimensions"),
        ("batch", {"characters_average": float("nan")}, "characters_average"),
        ("batch", {"batch_size": 3, "successes": 1, "failures": 1}, ""),
    ],
)
def test_a_name_that_nobody_knows_and_a_number_that_cannot_be_are_refused(
    operation: str, values: dict[str, Any], field: str
) -> None:
    token_type = TokenType.LLM if operation == "chat" else TokenType.EMBEDDING
    with pytest.raises(InvalidMetadataError) as refused:
        metadata.checked(OperationKind(operation), token_type, values)
    assert [error.field for error in refused.value.errors] == [field]


def test_texts_are_told_apart_by_where_one_ends_and_the_next_begins() -> None:
    found = metadata.of_texts(["ab", "c"])
    assert (found["characters"], found["characters_average"], found["batch_size"]) == (3, 1.5, 2)
    assert (
        len({metadata.of_texts(texts)["text_hash"] for texts in (["ab", "c"], ["a", "bc"], ["abc"], ["2:ab1:c"])}) == 4
    )
    assert metadata.of_texts([])["characters_average"] == 0


def nested(depth: int) -> Any:
    value: Any = "leaf"
    for _ in range(depth):
        value = {"k": [value]}
    return value


@pytest.mark.parametrize("values", [{}, {"job": "j-1", "n": [1, 2.5, None, True]}, {"k": "v" * 8000}, nested(3)])
def test_what_a_client_says_in_a_few_words_is_kept(values: Any) -> None:
    metadata.check_client(values)


@pytest.mark.parametrize(
    "values",
    [
        None,
        ["a list"],
        "text",
        {"k": "v" * 8192},
        {"k": "ü" * 4096},
        {f"k{number}": "" for number in range(1000)},
        nested(4),
        nested(5000),
        {"k": "a\0b"},
        {"a\0b": 1},
        {"k": "\ud800"},
        {"k": float("nan")},
        {"k": [float("inf")]},
        {("a", "b"): 1},
    ],
    ids=lambda value: str(type(value)),
)
def test_what_a_client_says_at_length_or_in_no_json_is_refused(values: Any) -> None:
    with pytest.raises(InvalidUsageError):
        metadata.check_client(values)
