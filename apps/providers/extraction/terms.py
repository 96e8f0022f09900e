"""Words as they are compared: folded, stemmed a little, numbers kept whole."""

import functools
import re
from dataclasses import dataclass

from apps.providers.extraction import language
from apps.providers.extraction.language import folded

#: Limits said in two words, which are read as one.
_LIMITS = {
    "maximum": r"up to|at most|no more than|como máximo|a lo sumo",
    "minimum": r"at least|no less than|al menos|por lo menos|como mínimo",
}
#: Limits, numbers with their separators, else runs of letters and digits: ``3.5`` and ``page_size`` are one
#: term each, ``QX-4471`` is two.
_TOKEN = re.compile(
    "|".join(rf"(?P<{name}>\b(?:{words})\b)" for name, words in _LIMITS.items())
    + r"|\d+(?:[.,:]\d+)+|[^\W_]+(?:_[^\W_]+)*",
    re.IGNORECASE,
)
_SHORTEST_STEM = 3


@dataclass(frozen=True, kw_only=True)
class Term:
    """One word of a text."""

    stem: str
    #: As it is written.
    text: str
    #: Where it begins in the text.
    start: int

    @property
    def is_number(self) -> bool:
        """Numbers and codes with digits: never near another one."""
        return any(letter.isdigit() for letter in self.stem)


def terms(text: str) -> list[Term]:
    """All words of the text, in order."""
    return [
        Term(stem=stem(match.lastgroup or folded(match[0])), text=match[0], start=match.start())
        for match in _TOKEN.finditer(text)
    ]


@functools.lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """The word without its most common endings: enough to bring "install", "installed", "installation" together."""
    if any(letter.isdigit() for letter in word):
        return re.sub(r"(?<=\d),(?=\d{3}\b)", "", word)
    for suffix in language.common().suffixes:
        if word.endswith(suffix) and len(word) - len(suffix) >= _SHORTEST_STEM:
            word = word.removesuffix(suffix)
            break
    if len(word) > _SHORTEST_STEM and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]
    return word.removesuffix("e").removesuffix("i").removesuffix("y") if len(word) > _SHORTEST_STEM else word


def synonyms(stemmed: str) -> frozenset[str]:
    """The stems of words that mean the same."""
    return _synonym_groups().get(stemmed, frozenset())


def told_in(stemmed: str) -> frozenset[str]:
    """The stems of the units and the colours that a measure or a colour is told in."""
    return _units_of_measures().get(stemmed, frozenset())


@functools.cache
def _synonym_groups() -> dict[str, frozenset[str]]:
    groups: dict[str, frozenset[str]] = {}
    for words in language.common().synonyms:
        stems = frozenset(map(stem, words))
        for one in stems:
            groups[one] = groups.get(one, frozenset()) | stems - {one}
    return groups


@functools.cache
def _units_of_measures() -> dict[str, frozenset[str]]:
    units: dict[str, frozenset[str]] = {}
    for measures, told in language.common().told_in:
        for measure in map(stem, measures):
            units[measure] = units.get(measure, frozenset()) | frozenset(map(stem, told))
    return units
