"""Chunks: nothing lost, nothing too long, in order, on their page, under their heading."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.collections import chunking
from apps.collections.chunking import ChunkDraft, chunk
from apps.collections.errors import DocumentTooComplexError
from apps.collections.parsing import Page, ParsedDocument, parse
from apps.collections.text import clean
from apps.providers.encodings import tokenizer
from tests.collections import files

#: How long an example takes says something of the machine only.
untimed = settings(deadline=None)

count = tokenizer("cl100k_base").count

SENTENCE = "The harbour crane lifts every container before nine in the morning. "

#: Lines of Markdown as people and parsers write them, whole and broken.
LINES = st.sampled_from(
    [
        "# Guide", "## Install", "### Linux", "Title", "=====", "---", "```", "~~~", "", "", "> quoted", "1. first",
        "- item", "  - nested", "| a | b |", "| --- | --- |", "    code", "[link](https://x.example)", "<div>", "* * *",
        "***", "`", "$x$", "[^1]: note", "港口起重机。", "😀 👨‍👩‍👧", "a_b*c", SENTENCE, SENTENCE * 4,
    ]
)  # fmt: skip
TEXTS = st.lists(LINES, max_size=40).map("\n".join) | st.text(max_size=300)


def document(*pages: str, numbered: bool = True) -> ParsedDocument:
    return ParsedDocument(
        content_type="application/pdf",
        pages=tuple(Page(number=i if numbered else None, text=clean(page)) for i, page in enumerate(pages, 1)),
    )


def chunks(*pages: str, size: int = 64, overlap: int = 0, numbered: bool = True) -> list[ChunkDraft]:
    return chunk(document(*pages, numbered=numbered), size=size, overlap=overlap, count=count)


def letters(text: str) -> str:
    return "".join(text.split())


def test_a_small_document_is_one_chunk() -> None:
    assert chunks("# Fees\n\nThe Team plan costs 490.", numbered=False) == [
        ChunkDraft(
            ordinal=0, text="# Fees\n\nThe Team plan costs 490.", page=None, heading="Fees", tokens=10
        )
    ]  # fmt: skip


@untimed
@given(TEXTS, st.integers(16, 80))
def test_without_overlap_the_chunks_are_the_text_in_order(text: str, size: int) -> None:
    text = re.sub(r"(?m)^#+ |^[=-]+$", "", text)  # lone headings may be left to the path

    assert "".join(letters(it.text) for it in chunks(text, size=size)) == letters(clean(text))


@untimed
@given(TEXTS, st.integers(16, 80), st.integers(0, 15))
def test_every_character_is_in_a_chunk_and_every_chunk_is_in_the_text(text: str, size: int, overlap: int) -> None:
    text = re.sub(r"(?m)^#+ |^[=-]+$", "", text)
    rest, whole = letters(clean(text)), letters(clean(text))
    position = 0
    for it in chunks(text, size=size, overlap=overlap):
        start = whole.rindex(letters(it.text), 0, position + len(letters(it.text)))
        assert start <= position, "no gap before a chunk"
        position = max(position, start + len(letters(it.text)))
    assert position == len(rest)


@untimed
@given(TEXTS, st.integers(16, 80), st.integers(0, 15))
def test_no_chunk_is_longer_than_its_size(text: str, size: int, overlap: int) -> None:
    for it in chunks(text, size=size, overlap=overlap):
        assert it.tokens == count(it.text) <= size


@untimed
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_a_heading_that_stands_alone_is_in_the_path_of_what_follows(pages: list[str]) -> None:
    found = chunks(*pages)
    shown = [words for it in found for words in (it.text + " " + it.heading).split()]

    for page in document(*pages).pages:
        for words in re.findall(r"(?m)^#{1,3} (\w+)$", page.text):
            assert words in shown or any(words in it.text for it in found)


@untimed
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_the_same_document_gives_the_same_chunks(pages: list[str]) -> None:
    assert chunks(*pages, overlap=8) == chunks(*pages, overlap=8)
    assert [it.ordinal for it in chunks(*pages)] == list(range(len(chunks(*pages))))


def test_special_tokens_in_a_text_count_as_the_text_they_are() -> None:
    for it in chunks("<|endoftext|>" * 200):
        assert it.tokens <= 64


def test_neighbours_overlap() -> None:
    first, second, *_ = chunks(" ".join(f"Sentence number {n} is here." for n in range(60)), size=64, overlap=24)

    assert second.text.split(".")[0] in first.text


# --- pages


def test_each_chunk_is_on_the_page_that_its_words_are_on() -> None:
    data = files.pdf([(f"Part {n}", f"Marker{n} is on this page. " * 60) for n in range(1, 5)])
    found = chunk(parse(data, name="a.pdf"), size=128, overlap=16, count=count)

    assert len(found) > 4
    assert {it.page for it in found} == {1, 2, 3, 4}
    for it in found:
        assert set(re.findall(r"Marker(\d)", it.text)) == {str(it.page)}
        assert it.heading == f"Part {it.page}"


def test_a_sentence_over_a_page_s_end_is_whole_on_the_page_where_it_begins() -> None:
    first, second = chunks("It begins. The notice period is", "sixty days\nin writing. Then more.")

    assert (first.page, first.text) == (1, "It begins. The notice period is sixty days\nin writing.")
    assert (second.page, second.text) == (2, "Then more.")


@pytest.mark.parametrize(
    ("here", "after"),
    [
        ("It ends.", "lower case begins. More."),
        ("It does not end", "Upper case begins. More."),
        ("It does not end", "and no full stop\n\nfollows. More."),
        ("| a | b |", "lower case begins. More."),
    ],
)
def test_other_pages_keep_their_words(here: str, after: str) -> None:
    assert [(it.page, it.text) for it in chunks(here, after)] == [(1, here), (2, after)]


def test_headings_reach_over_pages() -> None:
    found = chunks("# Guide\n\n## Install\n\nText.", "More text.", "## Use\n\nLast.")

    assert [it.heading for it in found] == ["Guide > Install", "Guide > Install", "Guide > Use"]


# --- headings


def test_a_chunk_stands_under_the_heading_of_its_first_words() -> None:
    text = f"Before.\n\n# Guide\n\n## Install\n\n{SENTENCE * 12}\n\n```\n# no heading\n```\n\n## Use\n\n{SENTENCE * 12}"
    found = chunks(text, numbered=False)

    assert found[0].heading == ""
    assert {it.heading for it in found[1:]} == {"Guide > Install", "Guide > Use"}
    assert all(it.heading == "Guide > Use" for it in found if it.text.startswith("## Use"))


def test_a_lone_heading_is_no_chunk_when_the_next_one_has_it() -> None:
    long = SENTENCE * 8
    found = chunks(f"# Guide\n\n## Install\n\n{long}\n\n# Alone", size=48)

    assert [it.text for it in found if len(it.text) < 30] == ["# Alone"]
    assert found[0].heading == "Guide > Install"


# --- hostile


@pytest.mark.parametrize(
    "text",
    [
        " " * 1_000_000 + "x",
        "a" * 300_000,
        "-" * 100_000,
        "港口" * 25_000,
        "> " * 25_000 + "x",
        "".join(">" * (n % 200) + "a\n" for n in range(400)),
        "[a]: b\n" * 5_000 + "[a] " * 5_000,
        "".join(" " * (n % 60) + "- a\n" for n in range(1_000)),
    ],
    ids=["spaces", "one word", "dashes", "no spaces", "nested", "quotations", "links", "lists"],
)
def test_texts_made_to_be_slow_are_cut_in_bearable_time(text: str) -> None:
    found = chunks(text, size=512, overlap=64)

    assert all(it.tokens <= 512 for it in found)
    assert len(letters("".join(it.text for it in found))) >= len(letters(clean(text)))


def test_a_document_that_takes_too_long_to_cut_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "_MOST_SECONDS", 0)

    with pytest.raises(DocumentTooComplexError):
        chunks(SENTENCE * 2_000)


@settings(max_examples=10, deadline=None)
@given(st.integers(30_000, 70_000))
def test_a_long_text_is_cut_without_a_gap(length: int) -> None:
    text = "".join(f"Word{n} stands here.\n\n" for n in range(length // 22))

    assert "".join(letters(it.text) for it in chunks(text, size=256)) == letters(text)
