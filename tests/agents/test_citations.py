"""Which passage a mark names, and which sentence of it is quoted: verbatim, and whole."""

import pytest

from apps.agents import citations

#: A station's handbook, as it is cut from files: headings, lists, tables, wrapped lines, dots that end no sentence.
HANDBOOK = """# Pumps

The Harrow station was built in 1931. Its main pump weighs 12.5 kilograms, approx. 3 more than
the one before it. Is it loud? Dr. Okafor says "Not at all." The spare stands in No. 7.

- The valve opens at 3.2 bar
- The filter holds 40 litres

| part | supplier |
| gasket | Nixdor Ltd. |
"""


def passage(text: str, *, page: int | None = None) -> dict[str, object]:
    return {
        "chunk_id": f"chunk of {text[:9]}",
        "document_id": "document",
        "document_name": "handbook.md",
        "page": page,
        "heading": "",
        "score": 0.5,
        "text": text,
    }


def quoted(statement: str, text: str = HANDBOOK) -> str:
    [citation] = citations.cited(f"{statement} [1].", [passage(text)])
    assert citation["quote"] in text
    return str(citation["quote"])


@pytest.mark.parametrize(
    ("statement", "quote"),
    [
        ("The station was built in 1931", "The Harrow station was built in 1931."),
        (
            "The main pump weighs 12.5 kilograms",
            "Its main pump weighs 12.5 kilograms, approx. 3 more than\nthe one before it.",
        ),
        ("The spare stands in No. 7", "The spare stands in No. 7."),
        ("It is not at all loud, says Okafor", 'Okafor says "Not at all."'),
        ("The valve opens at 3.2 bar", "- The valve opens at 3.2 bar"),
        ("The filter holds 40 litres", "- The filter holds 40 litres"),
        ("The gasket's supplier is Nixdor", "| gasket | Nixdor Ltd. |"),
    ],
)
def test_the_sentence_that_says_it_is_quoted_whole(statement: str, quote: str) -> None:
    assert quoted(statement) == quote


def test_a_sentence_without_spaces_between_is_quoted_alone() -> None:
    text = "水泵重十二公斤。阀门是红色的。"
    assert quoted("阀门是红色的。", text) == "阀门是红色的。"


def test_a_long_sentence_is_quoted_to_its_limit() -> None:
    assert quoted("word", "word " * 500) == ("word " * 500)[: citations.MAX_QUOTE_CHARACTERS]


@pytest.mark.parametrize("text", ["." * 50_000, ". " * 50_000, "\n" * 50_000, "a\n" * 50_000, "! a" * 50_000])
def test_text_that_says_nothing_is_quoted_from_its_beginning(text: str) -> None:
    assert text.startswith(quoted("What is it", text))


def test_a_passage_is_cited_once_in_the_order_in_which_the_answer_names_it() -> None:
    passages = [passage("The pump is red."), passage("The valve is blue. The tank is green.", page=4)]
    answer = "The tank is green [2]. The pump is red [1]. The valve is blue [2]."
    second, first = citations.cited(answer, passages)
    assert (second["chunk_id"], second["page"], second["quote"]) == ("chunk of The valve", 4, "The tank is green.")
    assert (first["chunk_id"], first["page"], first["quote"]) == ("chunk of The pump ", None, "The pump is red.")


def test_a_statement_begins_behind_the_sentence_before_it() -> None:
    passages = [passage("The pump is red and heavy. The valve is blue.")]
    [citation] = citations.cited("The pump is red and heavy, as everybody knows. The valve is blue [1].", passages)
    assert citation["quote"] == "The valve is blue."


@pytest.mark.parametrize("answer", ["It is red [0].", "It is red [3].", "It is red [9999].", "It is red.", ""])
def test_a_mark_that_names_no_passage_cites_nothing(answer: str) -> None:
    assert citations.cited(answer, [passage("It is red."), passage("It is blue.")]) == []
