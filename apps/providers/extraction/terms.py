"""Words as they are compared: folded, stemmed, numbers kept whole."""

import functools
import re
from typing import NamedTuple

import snowballstemmer  # type: ignore[import-untyped]  # it has no annotations

from apps.providers.extraction.language import Language, folded

#: What is said in two words and read as one.
_PHRASES = {
    "maximum": r"up to|at most|no more than|como máximo|a lo sumo",
    "minimum": r"at least|no less than|al menos|por lo menos|como mínimo",
    "email": r"e-?mail(?:s| address(?:es)?)?",
}
#: Phrases, numbers with their separators, else runs of letters and digits: ``3.5`` and ``page_size`` are one
#: term each, ``QX-4471`` is two.
_TOKEN = re.compile(
    "|".join(rf"(?P<{name}>\b(?:{words})\b)" for name, words in _PHRASES.items())
    + r"|\d+(?:[.,:]\d+)+|[^\W_]+(?:_[^\W_]+)*",
    re.IGNORECASE,
)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
#: What is longer is no word of a language: it is compared as it is.
LONGEST_WORD = 40


class Term(NamedTuple):
    """One word of a text."""

    stem: str
    #: In lower case, without accents.
    word: str
    #: As it is written.
    text: str
    #: Where it begins in the text.
    start: int

    @property
    def is_number(self) -> bool:
        """Numbers and codes with digits: never near another one."""
        return any(letter.isdigit() for letter in self.stem)

    @property
    def is_capitalised(self) -> bool:
        return self.text[0].isupper()


def terms(text: str, language: Language) -> list[Term]:
    """All words of the text, in order."""
    found = []
    for match in _TOKEN.finditer(text):
        word = folded(match[0])
        found.append(Term(stem(match.lastgroup or word, language), word, match[0], match.start()))
    return found


def stem(word: str, language: Language) -> str:
    """A folded word without its endings: "install", "installed", "installation" have one stem."""
    return word if len(word) > LONGEST_WORD or word.startswith("#") else _stem(word, language)


@functools.lru_cache(maxsize=20_000)
def _stem(word: str, language: Language) -> str:
    if any(letter.isdigit() for letter in word):
        return _THOUSANDS.sub("", word)
    # One for each word: a stemmer keeps the word that it is at, and threads share this function.
    stemmer = snowballstemmer.stemmer(language.name)
    return str(stemmer.stemWord(language.irregular.get(word, word)))


def synonyms(stemmed: str, language: Language) -> frozenset[str]:
    """The stems of words that mean the same."""
    return _synonym_groups(language).get(stemmed, frozenset())


def told_in(stemmed: str, language: Language) -> frozenset[str]:
    """The stems of what a measure or a colour is told in: units, colours, or how a price is written (``#money``)."""
    return _units_of_measures(language).get(stemmed, frozenset())


@functools.cache
def _synonym_groups(language: Language) -> dict[str, frozenset[str]]:
    groups: dict[str, frozenset[str]] = {}
    for words in language.synonyms:
        stems = frozenset(stem(word, language) for word in words)
        for one in stems:
            groups[one] = groups.get(one, frozenset()) | stems - {one}
    return groups


@functools.cache
def _units_of_measures(language: Language) -> dict[str, frozenset[str]]:
    units: dict[str, frozenset[str]] = {}
    for measures, told in language.told_in:
        for measure in (stem(word, language) for word in measures):
            units[measure] = units.get(measure, frozenset()) | {stem(word, language) for word in told}
    return units
