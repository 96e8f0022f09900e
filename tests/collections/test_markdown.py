"""Markdown as nooble reads it itself: headings and escapes."""

import pytest

from apps.collections.markdown import LONGEST_TITLE, headings, unescaped


def paths(text: str) -> list[str]:
    return [" > ".join(heading.path) for heading in headings(text)]


def test_a_heading_stands_under_the_higher_ones_before_it() -> None:
    text = "# Guide\n\n## Install\n\n### Linux\n\n## Use\n\n# Reference\n\n### Deep\n"

    assert paths(text) == [
        "Guide",
        "Guide > Install",
        "Guide > Install > Linux",
        "Guide > Use",
        "Reference",
        "Reference > Deep",
    ]


def test_a_heading_knows_where_it_stands() -> None:
    text = "Before\n\n  ## Title ##  \nafter\n\nUnder\n===\n"

    assert [text[heading.start : heading.end] for heading in headings(text)] == ["## Title ##", "Under\n==="]


@pytest.mark.parametrize("fence", ["```", "~~~", "`````"])
def test_code_has_no_headings(fence: str) -> None:
    assert paths(f"# One\n{fence}sh\n# comment\n``\nx\n---\n{fence}\n# Two") == ["One", "Two"]


def test_a_fence_ends_only_with_its_like() -> None:
    assert paths("````\n```\n# code\n~~~~\n````\n# Text") == ["Text"]


def test_underlines_make_headings_of_text_only() -> None:
    assert paths("Title\n=====\n\nPart\n---\n\n- item\n---\n\n| a |\n---\n\n---\n\nwords") == ["Title", "Title > Part"]


def test_a_title_is_shown_without_its_markup() -> None:
    assert paths("# **Big** [link](https://x.example) `code` snake_case _it_ #") == ["Big link code snake_case it"]


def test_a_title_of_a_paragraph_s_length_is_cut() -> None:
    (path,) = paths("# " + "long " * 100)

    assert path.endswith("…")
    assert len(path) <= LONGEST_TITLE


@pytest.mark.parametrize("text", ["#hashtag", "\\# escaped", "####### seven", "    # code", "#", "a # b"])
def test_what_only_looks_like_a_heading_is_none(text: str) -> None:
    assert paths(text) == []


def test_escapes_that_only_guard_a_character_are_removed() -> None:
    assert unescaped("1\\. a\\_b C:\\\\temp \\<b\\>\\& \\#1\n# 2\\. Title") == "1. a_b C:\\temp <b>& #1\n# 2. Title"


@pytest.mark.parametrize("text", ["\\# no heading", "| a\\|b |", "`a\\.b`", "```\na\\.b\n```\n", "a \\b"])
def test_escapes_that_carry_meaning_are_kept(text: str) -> None:
    assert unescaped(text) == text
