"""As much Markdown as nooble reads itself: which lines are code, which are headings, which characters are escaped."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ATX_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*\S)")
_CLOSING_MARKS = re.compile(r"[ \t]+#+$")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)$")
#: A line that an underline below it cannot turn into a heading: blank, list, quotation, table, heading, rule.
_NO_TITLE = re.compile(r"\s*($|[-*+>|#=]|\d+[.)])")

_CODE_OR_ESCAPE = re.compile(r"(`[^`]*`)|\\([!-/:-@\[-`{}~])")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)")
_EMPHASIS = re.compile(r"\*+|`+|(?<!\w)_+|_+(?!\w)")

#: Longer "headings" are paragraphs in a large font.
LONGEST_TITLE = 120


@dataclass(frozen=True, kw_only=True)
class Heading:
    """A heading at ``start:end`` of a text. ``path``: the titles of the headings it stands under, and its own."""

    start: int
    end: int
    path: tuple[str, ...]


def headings(text: str) -> list[Heading]:
    """The headings of ``text`` in order, those in code left out."""
    found = []
    titles: dict[int, str] = {}
    for start, end, level, title in _title_lines(text):
        titles = {above: name for above, name in titles.items() if above < level} | {level: plain(title)}
        found.append(Heading(start=start, end=end, path=tuple(filter(None, titles.values()))))
    return found


def plain(title: str) -> str:
    """A heading's words without their markup, cut to a length that fits in a breadcrumb."""
    words = _EMPHASIS.sub("", _LINK.sub(r"\1", title)).strip()
    return words if len(words) <= LONGEST_TITLE else words[: LONGEST_TITLE - 1].rstrip() + "…"


def unescaped(text: str) -> str:
    """``text`` without backslashes that only guard a character, so that it reads and searches like the original.

    Kept are those in code, those that hold a table's cell together, and those that keep a line from being a heading.
    """
    return "".join(line if code else _unescaped_line(line) for _, line, code in _lines(text))


def _unescaped_line(line: str) -> str:
    if line.startswith("\\#"):
        return line[:2] + _unescaped_line(line[2:])
    return _CODE_OR_ESCAPE.sub(_unescaped_match, line)


def _unescaped_match(match: re.Match[str]) -> str:
    code, character = match.groups()
    return code or (match[0] if character == "|" else character)


def _lines(text: str) -> Iterator[tuple[int, str, bool]]:
    """Each line with its offset and whether it is code, its fences included."""
    fence = ""
    offset = 0
    for line in text.splitlines(keepends=True):
        mark = _FENCE.match(line)
        yield offset, line, bool(fence or mark)
        if mark:
            fence = _next_fence(fence, mark[1], line)
        offset += len(line)


def _next_fence(fence: str, mark: str, line: str) -> str:
    """The fence that is open after ``line``: a fence ends with one of its kind, as long at least, and nothing else."""
    if not fence:
        return mark
    return "" if mark.startswith(fence) and not line.strip().strip(mark[0]) else fence


def _title_lines(text: str) -> Iterator[tuple[int, int, int, str]]:
    """Start (without indentation), end, level and title of each heading, whether marked by # or underlined."""
    above, above_start = "", 0
    for start, line, code in _lines(text):
        if code:
            above = ""
            continue
        words = line.rstrip()
        if marked := _ATX_HEADING.match(words):
            yield start + marked.start(1), start + len(words), len(marked[1]), _CLOSING_MARKS.sub("", marked[2])
        elif above and (underline := _UNDERLINE.match(words)):
            yield above_start, start + len(words), 1 if underline[1][0] == "=" else 2, above
        above = "" if _NO_TITLE.match(words) else words.strip()
        above_start = start + len(words) - len(words.lstrip())
