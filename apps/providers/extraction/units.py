"""A passage cut into what can be quoted: sentences, list items, table rows, blocks of code.

Passages are Markdown or plain text, as parsing left them, and may begin and end anywhere in their document.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from apps.providers.base import Passage
from apps.providers.extraction import language, sentences

Kind = Literal["text", "item", "row", "code", "heading"]

_FENCE = re.compile(r"^\s*(?P<fence>```+|~~~+)")
_HEADING = re.compile(r"^(?P<level>#{1,6})\s+(?P<text>\S.*)$")
_UNDERLINE = re.compile(r"^(=+|-{3,})$")
_ITEM = re.compile(r"^\s*(?:[-*+•–]|\(?(?:\d{1,3}|[a-zA-Z])[.)])\s+(?P<text>\S.*)$")  # noqa: RUF001 - the dash is meant
_ROW = re.compile(r"^\s*\|(?P<cells>.*)\|\s*$")
#: "**Security.**": a heading within the paragraph.
_LEAD = re.compile(r"^(\*\*|__)[^*_]*\1$")
_RULE_CELL = re.compile(r"^\s*:?-+:?\s*$")
#: "Phone: +49 …": a line of its own, whatever follows.
_PAIR = re.compile(r"^[^\W\d_][^.:!?]{0,40}:\s+\S")
#: Headings of plain text stand below all of Markdown's.
_TITLE_LEVEL = 9
_TITLE_WORDS = 8
#: A line that is shorter than this was not broken for its width.
_SHORT_LINE = 60
#: Headings and column names stand again with every unit below them: so many characters of them.
_LONGEST_NAME = 200
#: A pronoun stands for something in one of so many sentences before.
_FURTHEST = 5


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Something quotable, and the words around it that say what it is about."""

    passage: Passage
    text: str
    #: The sentence before, back to the one that a pronoun stands for; of a list or of code, the line that opens it.
    before: str = ""
    #: The first sentence of its paragraph.
    topic: str = ""
    #: The headings above it.
    heading: str = ""
    kind: Kind = "text"

    @property
    def is_fragment(self) -> bool:
        """Its beginning was cut off with the passage's."""
        return self.kind == "text" and self.text[:1].islower()


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Lines that belong together."""

    kind: Kind
    lines: tuple[str, ...]
    level: int = 0


def split(passage: Passage) -> list[Unit]:
    """The passage's units, in order."""
    found: list[Unit] = []
    headings: dict[int, str] = {}
    lead = ""
    for block in _blocks(passage.text):
        if block.kind == "heading":
            headings = {level: text for level, text in headings.items() if level < block.level}
            headings[block.level] = block.lines[0][:_LONGEST_NAME]
            lead = ""
            continue
        if _is_title(block):
            headings[_TITLE_LEVEL] = block.lines[0][:_LONGEST_NAME]
            continue
        block_units = _units(block, passage, lead=lead, heading=" ".join(headings.values()))
        found += block_units
        if block.kind == "text":
            last = block_units[-1].text if block_units else ""
            lead = last if last.endswith(":") else ""
    return found


def _units(block: _Block, passage: Passage, *, lead: str, heading: str) -> list[Unit]:
    texts = list(_texts(block))
    return [
        Unit(
            passage=passage,
            text=text,
            before=lead if block.kind != "text" else _before(texts, number),
            topic=texts[0] if number and block.kind == "text" else "",
            heading=heading,
            kind=block.kind,
        )
        for number, text in enumerate(texts)
    ]


def _texts(block: _Block) -> Iterator[str]:
    if block.kind == "code":
        yield "\n".join(block.lines).strip("\n")
    elif block.kind == "row":
        yield from _rows(block.lines)
    else:
        yield from _with_leads(sentences.split(" ".join(block.lines)))


def _with_leads(texts: Iterator[str]) -> Iterator[str]:
    """The sentences, what is set in bold at the beginning together with what it is the heading of."""
    lead = ""
    for text in texts:
        if _LEAD.match(text):
            lead = f"{lead} {text}".lstrip()
        else:
            yield f"{lead} {text}".lstrip()
            lead = ""
    if lead:
        yield lead


def _before(texts: list[str], number: int) -> str:
    """The sentence before; before a pronoun, all back to the one that names what it stands for."""
    first = max(number - 1, 0)
    earliest = max(number - _FURTHEST, 0)
    while starts_with_pronoun(texts[number]) and first > earliest and starts_with_pronoun(texts[first]):
        first -= 1
    return " ".join(texts[first:number])


def starts_with_pronoun(text: str) -> bool:
    """Whether a sentence cannot be understood without the one before."""
    return text.split(maxsplit=1)[0].lower().strip(",;") in language.common().pronouns


def _rows(lines: tuple[str, ...]) -> Iterator[str]:
    """The rows of a table, each cell told with its column: a row alone would not say what its numbers are."""
    table = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])] for line in lines]
    rows = [row for row in table if not all(_RULE_CELL.match(cell) for cell in row)]
    has_header = len(rows) < len(table)
    for row in rows[has_header:]:
        names = rows[0] if has_header else [""] * len(row)
        cells = [_told(cell, name[:_LONGEST_NAME]) for name, cell in zip(names, row, strict=False) if cell]
        if cells:
            yield "; ".join(cells)


def _told(cell: str, column: str) -> str:
    return f"{column}: {cell}" if any(map(str.isalnum, column)) else cell


def _blocks(text: str) -> Iterator[_Block]:
    """Paragraphs, items, tables, headings and fenced code, in order."""
    lines = iter(text.splitlines())
    gathered: list[str] = []
    kind: Kind = "text"
    for line in lines:
        stripped = line.strip()
        if gathered and kind == "text" and _UNDERLINE.match(stripped):
            yield _Block(kind="heading", lines=(" ".join(gathered),), level=1 if stripped[0] == "=" else 2)
            gathered.clear()
            continue
        fence, heading, item = _FENCE.match(line), _HEADING.match(stripped), _ITEM.match(line)
        is_row = bool(_ROW.match(line))
        if fence or heading or item or not stripped or is_row != (kind == "row") or _begins_anew(gathered, stripped):
            yield from _flushed(kind, gathered)
            kind = "row" if is_row else "item" if item else "text"
        if fence:
            yield from _flushed("code", _until(fence["fence"], lines))
        elif heading:
            yield _Block(kind="heading", lines=(_without_closing(heading["text"]),), level=len(heading["level"]))
        elif stripped:
            gathered.append(item["text"] if item else stripped)
    yield from _flushed(kind, gathered)


def _without_closing(heading: str) -> str:
    """``Title ##`` is closed like this; ``C#`` is not."""
    bare = heading.rstrip("#")
    return bare.rstrip() if bare[-1:].isspace() else heading


def _until(fence: str, lines: Iterator[str]) -> list[str]:
    """The lines before the closing fence; all when the passage ends before the code does."""
    return list(takewhile(lambda line: not line.strip().startswith(fence), lines))


def _flushed(kind: Kind, gathered: list[str]) -> Iterator[_Block]:
    if any(line.strip() for line in gathered):
        yield _Block(kind=kind, lines=tuple(gathered))
    gathered.clear()


def _begins_anew(gathered: list[str], line: str) -> bool:
    """Whether the line is a record of its own rather than the rest of the line before."""
    if not gathered or _ROW.match(line):
        return False
    last = gathered[-1]
    short = len(last) < _SHORT_LINE and last[-1] not in ",;" and not line[:1].islower()
    return bool(_PAIR.match(line) and (_PAIR.match(last) or last[-1] in ".!?")) or short


def _is_title(block: _Block) -> bool:
    """A short line without a number that is no sentence: a heading of plain text."""
    line = block.lines[0]
    is_line = block.kind == "text" and len(block.lines) == 1 and len(line.split()) <= _TITLE_WORDS
    return is_line and line[-1] not in ".!?:;," and not _PAIR.match(line) and not any(map(str.isdigit, line))
