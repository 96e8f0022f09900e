"""What the extractive answer knows of English and Spanish, read from ``words.toml``."""

import functools
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WORDS = Path(__file__).with_name("words.toml")


@dataclass(frozen=True, kw_only=True, eq=False)
class Language:
    """Words are lower case and without accents; what each list is for stands in the file."""

    #: As Snowball calls it, too.
    name: str
    function_words: frozenset[str]
    asking_words: frozenset[str]
    overview_words: frozenset[str]
    time_words: frozenset[str]
    number_words: frozenset[str]
    money_words: frozenset[str]
    free_words: frozenset[str]
    person_words: frozenset[str]
    place_words: frozenset[str]
    be_words: frozenset[str]
    by_words: frozenset[str]
    of_words: frozenset[str]
    participle_endings: tuple[str, ...]
    #: Any word that asks.
    interrogatives: re.Pattern[str]
    #: For each kind of answer what asks for it.
    asks: Mapping[str, re.Pattern[str]]
    #: Groups of words for the same thing.
    synonyms: tuple[tuple[str, ...], ...]
    #: Words that ask for a measure, and the units that it is told in.
    told_in: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    #: Forms that no stemmer brings to their word, and that word.
    irregular: Mapping[str, str]
    nothing_found: str
    no_documents: str
    no_question: str


@dataclass(frozen=True, kw_only=True)
class Common:
    """What holds for every language: passages are cut before it is known in which one they are asked about."""

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
    words = {key: frozenset(value.split()) for key, value in entries.items() if key.endswith("_words")}
    told_in = (line.partition(":") for line in _lines(entries["told_in"]))
    read = {
        "participle_endings": tuple(entries["participle_endings"].split()),
        "interrogatives": _any_of(entries["interrogatives"].split()),
        "asks": {kind: _any_of(phrases) for kind, phrases in entries["asks"].items()},
        "synonyms": tuple(tuple(line.split()) for line in _lines(entries["synonyms"])),
        "told_in": tuple((tuple(asked.split()), tuple(told.split())) for asked, _, told in told_in),
        "irregular": {form: base for base, *forms in map(str.split, _lines(entries["irregular"])) for form in forms},
    }
    return Language(name=name, **{**entries, **words, **read})


@functools.cache
def common() -> Common:
    """What holds for every language."""
    return Common(**{key: frozenset(value.split()) for key, value in _file()["any"].items()})


def folded(text: str) -> str:
    """Lower case, without accents."""
    if text.isascii():
        return text.lower()
    return "".join(
        letter for letter in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(letter)
    )


def _lines(text: str) -> list[str]:
    return text.strip().splitlines()


def _any_of(phrases: list[str]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(phrases)})\b")


@functools.cache
def _file() -> dict[str, dict[str, Any]]:
    return tomllib.loads(_WORDS.read_text(encoding="utf-8"))
