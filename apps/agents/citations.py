"""Which passages an answer rests on, and the sentence of each that says it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_MARK = re.compile(r"\[(\d{1,3})\]")
#: What stands between two sentences: the space behind a full stop and its closing quote, a blank line, the end of a
#: line before a heading, an item or a row of a table. A dot in a number or an abbreviation ends no sentence, nor does
#: the end of a line that was wrapped.
_BETWEEN = re.compile(
    r"(?:(?<=[.!?])|(?<=[.!?][\"')\]*_\u2019\u201d]))\s++(?![a-z\d|])"
    r"|(?<=[\u3002\uff01\uff1f])"
    r"|\n(?=\s*+(?:[-*+#>|]|\d+[.)])\s)"
    r"|\n\s*\n"
)
_WORD = re.compile(r"\w+")
MAX_QUOTE_CHARACTERS = 400


def cited(answer: str, passages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The citations of an answer, in the order in which it first cites them; marks without a passage are passed over.

    ``passages`` are the run's, as they were stored; passage n is the one that ``[n]`` names.
    """
    citations: dict[int, dict[str, Any]] = {}
    for number, statement in _statements(answer):
        if 1 <= number <= len(passages) and number not in citations:
            citations[number] = _citation(passages[number - 1], statement)
    return list(citations.values())


def _citation(passage: Mapping[str, Any], statement: str) -> dict[str, Any]:
    return {
        "document_id": passage["document_id"],
        "document_name": passage["document_name"],
        "chunk_id": passage["chunk_id"],
        "page": passage["page"],
        "score": passage["score"],
        "quote": _quote(passage["text"], statement),
    }


def _statements(answer: str) -> Iterator[tuple[int, str]]:
    """Each mark with the text before it, back to the end of the sentence before."""
    for mark in _MARK.finditer(answer):
        before = _MARK.sub("", answer[: mark.start()]).rstrip(" .")
        yield int(mark[1]), before[max(before.rfind(". "), before.rfind("\n"), 0) :]


def _quote(text: str, statement: str) -> str:
    """The sentence of the passage that shares the most words with the statement."""
    said = set(_WORD.findall(statement.lower()))
    sentences = [piece.strip() for piece in _BETWEEN.split(text) if piece.strip()] or [text]
    return max(sentences, key=lambda sentence: _overlap(sentence, said))[:MAX_QUOTE_CHARACTERS]


def _overlap(sentence: str, said: set[str]) -> float:
    words = set(_WORD.findall(sentence.lower()))
    return len(words & said) / (len(words | said) or 1)
