"""Units with their words, as they are compared with a question."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from apps.providers.extraction import terms
from apps.providers.extraction.language import Language
from apps.providers.extraction.terms import Term
from apps.providers.extraction.units import Unit

#: What is known by how it is written. A unit that holds it has the name as a stem, like those of its words.
_SHOWN = {
    "#money": re.compile(r"[$€£¥]"),
    "#phone": re.compile(r"\d(?:[\s()/.-]{0,3}\d){5}"),
    "#mail": re.compile(r"@\w"),
    # Two times of day.
    "#hours": re.compile(r"\d[:.]\d{2}\b.*\d[:.]\d{2}\b|\d ?[ap]\.?m\b.*\d ?[ap]\.?m\b", re.IGNORECASE),
    # A year, a time of day, a date in figures; May, which is a word of other kinds, too.
    "#date": re.compile(
        r"\b(?:1\d{3}|2[01]\d{2}|\d{1,2}:\d{2}|\d{1,2} ?[ap]\.?m|\d{1,4}[./-]\d{1,2}[./-]\d{2,4}"
        r"|\d{1,2} may|may \d+)\b",
        re.IGNORECASE,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A unit with its words."""

    unit: Unit
    words: tuple[Term, ...]
    #: The stems in it.
    own: frozenset[str]
    #: The stems around it: in the sentence before, the first of the paragraph, the headings, the document's name.
    around: frozenset[str]
    #: The stems of what its document is about: its name and all headings that the passages show.
    subject: frozenset[str]
    #: All stems of its document that the passages show.
    document: frozenset[str]


def read(units: Sequence[Unit], language: Language) -> list[Reading]:
    """The units as they are compared with a question in this language."""
    stems = _Stems(language)
    words = [tuple(terms.terms(unit.text, language)) for unit in units]
    subjects: dict[str, set[str]] = {}
    documents: dict[str, set[str]] = {}
    for unit, found in zip(units, words, strict=True):
        name = unit.passage.document
        subjects.setdefault(name, set(stems[name])).update(stems[unit.heading])
        documents.setdefault(name, set()).update(word.stem for word in found)
    subject = {name: frozenset(found) for name, found in subjects.items()}
    document = {name: subject[name] | found for name, found in documents.items()}
    return [
        Reading(
            unit=unit,
            words=found,
            own=frozenset(word.stem for word in found) | _shown(unit.text, found, language),
            around=stems[unit.passage.document] | stems[unit.topic] | stems[unit.heading] | stems[unit.before],
            subject=subject[unit.passage.document],
            document=document[unit.passage.document],
        )
        for unit, found in zip(units, words, strict=True)
    ]


class _Stems(dict[str, frozenset[str]]):
    """The stems of texts, each read once: a heading stands above many units."""

    def __init__(self, language: Language) -> None:
        super().__init__()
        self._language = language

    def __missing__(self, text: str) -> frozenset[str]:
        self[text] = found = frozenset(term.stem for term in terms.terms(text, self._language))
        return found


def _shown(text: str, words: Sequence[Term], language: Language) -> set[str]:
    found = {kind for kind, pattern in _SHOWN.items() if pattern.search(text)}
    return found | {"#money"} if any(word.word in language.money_words for word in words) else found
