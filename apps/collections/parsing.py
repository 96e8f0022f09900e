"""From a file to pages of clean Markdown.

Text is decoded here. A format that needs a parser goes through a child process with limits, because a parser of other
people's files is the likeliest part of nooble to be made to crash, hang or eat memory.
"""

import html
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

from apps.collections import file_types, markdown, sandbox, text
from apps.collections.errors import (
    DocumentEncryptedError,
    DocumentTooComplexError,
    DocumentUnreadableError,
    EmptyDocumentError,
    NotTextError,
)
from apps.collections.file_types import FileType
from apps.collections.sandbox import DEFAULT_LIMITS, Limits
from apps.core.errors import NoobleError, TooLargeError, UnsupportedMediaTypeError

#: About five thousand printed pages.
MAX_DOCUMENT_CHARACTERS = 20_000_000

_PARSER = Path(__file__).with_name("parser_child.py")
_PARSED = frozenset(
    {file_types.PDF, file_types.DOCX, file_types.PPTX, file_types.XLSX, file_types.HTML, file_types.EMAIL}
)

#: A page's title stands near its beginning.
_HTML_HEAD_CHARACTERS = 50_000
_LONGEST_TITLE = 300
_HTML_TITLE = re.compile(r"<title[^>]{0,200}>([^<]{0,500})</title", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page. ``number`` counts from 1; None where a format has no pages that a reader could turn to."""

    number: int | None
    text: str


@dataclass(frozen=True, kw_only=True)
class ParsedDocument:
    """What a file says, as Markdown. Pages without text are there, too, so that the numbers are the reader's."""

    content_type: str
    pages: tuple[Page, ...]
    #: Empty when the document names none.
    title: str = ""

    @property
    def page_count(self) -> int | None:
        """How many pages there are, or None for a format without pages."""
        return len(self.pages) if self.pages[0].number is not None else None


#: What the parser's codes mean to whoever uploaded the document.
_FAILURES: dict[str, tuple[type[NoobleError], str]] = {
    "document_encrypted": (DocumentEncryptedError, "Save the document without its password and upload that."),
    "document_too_complex": (DocumentTooComplexError, "The document unpacks to too much. Split it, or simplify it."),
    "document_unreadable": (DocumentUnreadableError, "The document is damaged. Open it, save it anew and upload that."),
    "too_large": (TooLargeError, f"The document holds more than {MAX_DOCUMENT_CHARACTERS:,} characters. Split it."),
}


def parse(
    data: bytes, *, name: str, content_type: str | None = None, limits: Limits = DEFAULT_LIMITS
) -> ParsedDocument:
    """Read a file. What it is, its content decides, then its ``name``, and only then the client's ``content_type``.

    Starts a process (0.2 s) for the formats that need a parser. Raises the errors of :mod:`apps.collections.errors`,
    and :class:`~apps.core.errors.TooLargeError` above ``MAX_DOCUMENT_CHARACTERS``.
    """
    if not data.strip():
        raise EmptyDocumentError("The file is empty.")
    kind = file_types.detect(data, name=name, content_type=content_type)
    if kind == file_types.HTML:
        document = _html(data, limits)
    elif kind in _PARSED:
        document = _parsed(data, kind, limits)
    else:
        document = _text(data, kind, is_named=bool(file_types.named_type(name, content_type)))
    if not any(page.text for page in document.pages):
        raise EmptyDocumentError("No text was found. Scanned pages need text recognition (OCR) first.")
    return document


def _text(data: bytes, kind: FileType, *, is_named: bool) -> ParsedDocument:
    try:
        content = text.decode(data)
    except NotTextError as error:
        if is_named:
            raise
        raise UnsupportedMediaTypeError("This kind of file is not read.") from error
    if len(content) > MAX_DOCUMENT_CHARACTERS:
        raise _failure("too_large")
    return ParsedDocument(content_type=kind.content_type, pages=(Page(number=None, text=text.clean(content)),))


def _html(data: bytes, limits: Limits) -> ParsedDocument:
    content = text.decode_html(data)
    document = _parsed(content.encode(), file_types.HTML, limits)
    title = _HTML_TITLE.search(content, 0, _HTML_HEAD_CHARACTERS)
    return replace(document, title=_title(html.unescape(title[1])) if title else "")


def _parsed(data: bytes, kind: FileType, limits: Limits) -> ParsedDocument:
    layout = "paged" if kind.paged else "whole"
    output = sandbox.run(_PARSER, kind.content_type, layout, str(MAX_DOCUMENT_CHARACTERS), data=data, limits=limits)
    answer = json.loads(output)
    if "error" in answer:
        raise _failure(answer["error"])
    pages = tuple(Page(number=number, text=markdown.unescaped(text.clean(page))) for number, page in answer["pages"])
    return ParsedDocument(content_type=kind.content_type, pages=pages, title=_title(answer["title"]))


def _failure(code: str) -> NoobleError:
    error, detail = _FAILURES[code]
    return error(detail)


def _title(found: str) -> str:
    return " ".join(text.clean(found).split())[:_LONGEST_TITLE]
