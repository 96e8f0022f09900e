"""From the pages of a document to the pieces that are embedded, searched and cited."""

import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from apps.collections import markdown
from apps.collections.errors import DocumentTooComplexError
from apps.collections.markdown import LONGEST_TITLE, Heading
from apps.collections.parsing import Page, ParsedDocument

#: Whose tokens ``size`` and ``overlap`` count, whichever model embeds: so a document has the same chunks in every
#: space of one size. The splitter carries its own copy of the encoding, cl100k_base.
_SIZE_MODEL = "text-embedding-3-small"

# The splitter is linear in ordinary text (millions of characters a second) and quadratic in some Markdown, such as deep
# quotations: it gets a document in sections, and stops at a time that only a malicious one takes.
_SECTION_CHARACTERS = 20_000
_MOST_SECONDS = 60
_SECTION_ENDS = ("\n\n", "\n", " ")

_PAGE_BREAK = "\n\n"
_UNFINISHED = re.compile(r"[\w,;\u2013-]\Z")
#: The rest of a sentence: up to its full stop, within one paragraph.
_REST = re.compile(r"(?:.|\n(?!\n)){1,1000}?[.!?\u2026][\"')\]\u2019\u201d]*(?=\s|\Z)")


#: A page, an offset in the text of all pages, and the text that begins there.
_Section = tuple[Page, int, str]


@dataclass(frozen=True, kw_only=True)
class ChunkDraft:
    """A piece of a document, not stored yet. ``ordinal`` counts from 0."""

    ordinal: int
    text: str
    #: None in a format without pages.
    page: int | None
    #: The titles above the chunk's first words: ``Guide > Install``. Empty before the first heading.
    heading: str
    tokens: int


@dataclass(frozen=True, kw_only=True)
class _Piece:
    text: str
    page: int | None
    path: tuple[str, ...]
    #: Nothing but headings, each above the next, so that ``path`` says all that ``text`` does.
    is_path: bool


def chunk(document: ParsedDocument, *, size: int, overlap: int, count: Callable[[str], int]) -> list[ChunkDraft]:
    """Cut a document along its structure into chunks of at most ``size`` cl100k tokens.

    Neighbours share up to ``overlap`` tokens (less than ``size``). No chunk crosses a page, so that its page is the
    page of every word in it; a sentence that runs over a page's end belongs to the page on which it begins.
    ``count`` says how many tokens the embedding model makes of a text. The same document gives the same chunks.

    Raises :class:`DocumentTooComplexError` when the Markdown is made to be slow.
    """
    from semantic_text_splitter import MarkdownSplitter  # noqa: PLC0415 - only processes that chunk need it

    splitter = MarkdownSplitter.from_tiktoken_model(_SIZE_MODEL, size, overlap)
    pages = _with_whole_sentences(document.pages)
    headings = markdown.headings(_PAGE_BREAK.join(page.text for page in pages))
    pieces = [
        _piece(text, page.number, headings, start + offset)
        for page, start, section in _in_time(_sections(pages))
        for offset, text in splitter.chunk_indices(section)
    ]
    return [
        ChunkDraft(ordinal=ordinal, text=it.text, page=it.page, heading=" > ".join(it.path), tokens=count(it.text))
        for ordinal, it in enumerate(_worth_finding(pieces))
    ]


def _with_whole_sentences(pages: Sequence[Page]) -> list[Page]:
    """The pages, with the rest of a sentence moved to the page on which it began."""
    whole = list(pages)
    for index in range(len(whole) - 1):
        here, after = whole[index], whole[index + 1]
        rest = _REST.match(after.text)
        if rest and after.text[0].islower() and _UNFINISHED.search(here.text):
            whole[index] = replace(here, text=f"{here.text} {rest[0]}")
            whole[index + 1] = replace(after, text=after.text[rest.end() :].lstrip())
    return whole


def _sections(pages: Sequence[Page]) -> Iterator[_Section]:
    """The pages in pieces that are small enough for the splitter."""
    page_start = 0
    for page in pages:
        start = 0
        while start < len(page.text):
            end = _section_end(page.text, start)
            yield page, page_start + start, page.text[start:end]
            start = end
        page_start += len(page.text) + len(_PAGE_BREAK)


def _in_time(sections: Iterable[_Section]) -> Iterator[_Section]:
    end = time.thread_time() + _MOST_SECONDS
    for section in sections:
        if time.thread_time() > end:
            raise DocumentTooComplexError(
                "Cutting the document into passages takes too long. Split it, or simplify it."
            )
        yield section


def _section_end(text: str, start: int) -> int:
    latest = start + _SECTION_CHARACTERS
    if latest >= len(text):
        return len(text)
    ends = (text.rfind(end, start + _SECTION_CHARACTERS // 2, latest) for end in _SECTION_ENDS)
    return next((end for end in ends if end > 0), latest)


def _piece(text: str, page: int | None, headings: Sequence[Heading], start: int) -> _Piece:
    """The piece that stands at ``start``, under the path above its first words that are no heading themselves."""
    first = index = bisect_left(headings, start, key=lambda heading: heading.start)
    words = start
    while index < len(headings) and _is_next(headings[index], text, start, words):
        words = headings[index].end
        index += 1
    path = headings[index - 1].path if index else ()
    is_path = words >= start + len(text) and all(
        path[: len(above.path)] == above.path for above in headings[first:index]
    )
    return _Piece(text=text, page=page, path=path, is_path=is_path)


def _is_next(heading: Heading, text: str, start: int, position: int) -> bool:
    """Whether, in the piece at ``start``, only blanks stand between ``position`` and the heading."""
    is_inside = heading.start < start + len(text)
    return is_inside and not text[position - start : heading.start - start].strip()


def _worth_finding(pieces: Sequence[_Piece]) -> list[_Piece]:
    """The pieces without lone headings that the next piece has in its path: they match questions and answer none."""
    kept = [piece for piece, after in pairwise(pieces) if not _is_said_by(after, piece)]
    return kept + list(pieces[-1:])


def _is_said_by(after: _Piece, piece: _Piece) -> bool:
    # A longer heading is cut in its path.
    is_whole = piece.is_path and len(piece.text) <= LONGEST_TITLE
    return is_whole and after.path[: len(piece.path)] == piece.path
