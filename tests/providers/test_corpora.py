"""How often the extractive answer is right, on made-up facts: nothing can be known but from the passages."""

import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from apps.collections import chunking, parsing
from apps.providers.base import Passage
from apps.providers.extraction import answers
from apps.providers.extraction.language import language

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
SAMPLES = HERE.parent.parent / "demo" / "documents"
NOTHING = {language(name).nothing_found for name in ("english", "spanish")}
Outcome = Literal["answered", "missed", "wrong", "refused", "invented"]


def outcomes(corpus: str, *, together: bool) -> Counter[Outcome]:
    """What becomes of each question, its document's sections alone before it or those of all documents."""
    documents = read(corpus)
    return Counter(
        outcome(question, sections(documents if together else [document]))
        for document in documents
        for question in document["question"]
    )


def read(corpus: str) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = tomllib.loads((CORPUS / corpus).read_text())["document"]
    return documents


def outcome(question: dict[str, str], given: Sequence[Passage]) -> Outcome:
    text = "".join(answers.answer(question["ask"], given))
    if "answer" not in question:
        return "refused" if text in NOTHING else "invented"
    return "answered" if question["answer"] in text else "missed" if text in NOTHING else "wrong"


def sections(documents: list[dict[str, Any]]) -> list[Passage]:
    texts = [(document["name"], text) for document in documents for text in re.split(r"\n(?=## )", document["text"])]
    return [Passage(number=number, document=name, text=text) for number, (name, text) in enumerate(texts, start=1)]


def check(found: Counter[Outcome], *, answered: float, wrong: float, refused: float) -> None:
    """Each is a share: of the questions with an answer, of those again, of those without."""
    with_answer = found["answered"] + found["missed"] + found["wrong"]
    assert found["answered"] / with_answer >= answered, found
    assert found["wrong"] / with_answer <= wrong, found
    assert found["refused"] / (found["refused"] + found["invented"]) >= refused, found


def test_what_it_was_tuned_on() -> None:
    check(outcomes("tuning.toml", together=False), answered=0.85, wrong=0.0, refused=0.97)


@pytest.mark.parametrize("together", [False, True], ids=["own-document", "all-documents"])
def test_what_it_was_not_tuned_on(together: bool) -> None:
    check(outcomes("holdout.toml", together=together), answered=0.63, wrong=0.02, refused=0.9)


@pytest.fixture(scope="module")
def samples() -> list[Passage]:
    """The passages of the demonstration's sample documents, as they are retrieved."""
    parsed = [(path.name, parsing.parse(path.read_bytes(), name=path.name)) for path in sorted(SAMPLES.iterdir())]
    chunks = [
        (name, chunk)
        for name, document in parsed
        for chunk in chunking.chunk(document, size=512, overlap=64, count=len)
    ]
    return [
        Passage(number=number, document=name, text=chunk.text, page=chunk.page)
        for number, (name, chunk) in enumerate(chunks, start=1)
    ]


def test_the_sample_documents(samples: list[Passage]) -> None:
    found = Counter(outcome(question, samples) for document in read("demo.toml") for question in document["question"])
    check(found, answered=0.85, wrong=0.0, refused=0.95)
