"""What the extractive answer knows of English and Spanish, read from ``words.toml``."""

import functools
import tomllib
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WORDS = Path(__file__).with_name("words.toml")


@dataclass(frozen=True, kw_only=True)
class Language:
    """Words are lower case and without accents; what each list is for stands in the file."""

    function_words: frozenset[str]
    asking_words: frozenset[str]
    overview_words: frozenset[str]
    time_words: frozenset[str]
    number_words: frozenset[str]
    interrogatives: tuple[str, ...]
    when: tuple[str, ...]
    how_much: tuple[str, ...]
    how_many: tuple[str, ...]
    nothing_found: str
    no_documents: str
    no_question: str


@dataclass(frozen=True, kw_only=True)
class Common:
    """What holds for every language."""

    #: Groups of words for the same thing.
    synonyms: tuple[tuple[str, ...], ...]
    #: Words that ask for a measure, and the units that it is told in.
    told_in: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    #: Endings, the longest first.
    suffixes: tuple[str, ...]
    abbreviations: frozenset[str]
    numbered: frozenset[str]
    pronouns: frozenset[str]


def language_of(text: str) -> Language:
    """Spanish when the text has more function words of Spanish than of English; English otherwise."""
    words = folded(text).replace("¿", " ").replace("?", " ").split()
    english, spanish = language("english"), language("spanish")
    in_english = sum(word in english.function_words for word in words)
    in_spanish = sum(word in spanish.function_words for word in words)
    return spanish if in_spanish > in_english else english


@functools.cache
def language(name: str) -> Language:
    """The language of that name."""
    entries = _file()[name]
    lists = {key: frozenset(value.split()) for key, value in entries.items() if key.endswith("_words")}
    phrases = {key: tuple(value) for key, value in entries.items() if isinstance(value, list)}
    return Language(**{**entries, **lists, **phrases})


@functools.cache
def common() -> Common:
    """What holds for every language."""
    entries = _file()["any"]
    pairs = (line.partition(":") for line in entries["told_in"].strip().splitlines())
    return Common(
        synonyms=tuple(tuple(line.split()) for line in entries["synonyms"].strip().splitlines()),
        told_in=tuple((tuple(asked.split()), tuple(told.split())) for asked, _, told in pairs),
        suffixes=tuple(sorted(entries["suffixes"].split(), key=len, reverse=True)),
        abbreviations=frozenset(entries["abbreviations"].split()),
        numbered=frozenset(entries["numbered"].split()),
        pronouns=frozenset(entries["pronouns"].split()),
    )


def folded(text: str) -> str:
    """Lower case, without accents."""
    return "".join(
        letter for letter in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(letter)
    )


@functools.cache
def _file() -> dict[str, dict[str, Any]]:
    return tomllib.loads(_WORDS.read_text(encoding="utf-8"))
