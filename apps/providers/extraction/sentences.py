"""Running text cut into sentences."""

import re
from collections.abc import Iterator

from apps.providers.extraction import language

#: A sentence mark, closing quotes or brackets or emphasis, and space; or a mark that needs no space. Each stretch of
#: marks is tried once and never given back, so that a million full stops take no longer than a million letters.
_MARK = re.compile(r"(?<![.!?…])(?P<mark>[.!?…]++)[\"'”’»)\]*_`]*+\s+|[。！？]")  # noqa: RUF001 - these are meant
#: So much of what stands before and behind a mark decides whether it ends a sentence.
_BEFORE, _AFTER = 24, 8
_LAST_WORD = re.compile(r"(?:^|[\s(\[\"'“])(?P<word>[^\s(\[\"'“]+)$")
_OPENING = "\"'“‘«([*_`¿¡-–—"  # noqa: RUF001 - these are meant
#: Text without any sentence mark is cut so that a quotation stays readable.
LONGEST_SENTENCE = 60


def split(text: str) -> Iterator[str]:
    """The sentences of a paragraph, their white space reduced to single spaces."""
    start = 0
    for match in _MARK.finditer(text):
        before = text[max(start, match.start() - _BEFORE) : match.start()]
        if _ends(before, match["mark"], text[match.end() : match.end() + _AFTER]):
            yield from _pieces(text[start : match.end()])
            start = match.end()
    yield from _pieces(text[start:])


def _ends(before: str, mark: str | None, after: str) -> bool:
    """Whether a mark between these two ends a sentence."""
    follows = after.lstrip(_OPENING)[:1]
    if mark is None or not follows:
        return True
    if follows.islower():
        return False
    found = _LAST_WORD.search(before) if mark == "." else None
    word = found["word"].lower() if found else ""
    is_initial = len(word) == 1 and word.isalpha()
    known = language.common()
    return not (word in known.abbreviations or is_initial or (word in known.numbered and follows.isdigit()))


def _pieces(sentence: str) -> Iterator[str]:
    """The sentence in pieces of bearable length, without those that say nothing."""
    words = sentence.split()
    for first in range(0, len(words), LONGEST_SENTENCE):
        piece = " ".join(words[first : first + LONGEST_SENTENCE])
        if any(map(str.isalnum, piece)):
            yield piece
