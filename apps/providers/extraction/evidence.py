"""How well the units of the passages answer a question, and whether any does.

A question's words are looked for in a unit and in what stands around it; each counts by how rare it is among the units
(the inverse document frequency of BM25), so that a word which no document holds weighs most. The share of the weight
that is found is the *coverage*. Word vectors let near synonyms count in part.

The numbers below were chosen on ``tests/providers/corpus/tuning.toml``. Of its 96 questions with an answer all but five
reach a coverage of 0.67, most of them 0.85 and more; of its 74 without one all but one stay at 0.65 or below.
``holdout.toml``, written afterwards, tells how it does on what it was not tuned on.
"""

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from apps.providers import wordvectors
from apps.providers.base import Vectors
from apps.providers.encodings import wellformed
from apps.providers.extraction import terms
from apps.providers.extraction.language import folded
from apps.providers.extraction.questions import Question
from apps.providers.extraction.terms import Term
from apps.providers.extraction.units import Unit

ENOUGH = 0.67

#: What a word counts for by where it stands: in the unit, as a synonym, in the sentence before, in a heading, …
OWN, SYNONYM, BEFORE, HEADING, TOPIC, NAME = 1.0, 0.9, 0.8, 0.8, 0.7, 0.6
#: A unit of measurement shows that the value is there, not whose it is.
UNIT = 0.6
#: From this cosine on two words mean nearly the same: "found, established" 0.60, "weigh, heavy" 0.53, but "minimum,
#: maximum" 0.31 and "weight, height" 0.08. It is then what the word counts for.
NEAR = 0.5
#: What the likeness of question and unit adds for the order, never for the decision.
LIKENESS = 0.15
#: What counts less in the order: the rest of a sentence whose beginning was cut off.
FRAGMENT = 0.1
#: A number counts for what follows it within so many words: "27 days of paid holiday".
COUNTED_WITHIN = 4


@dataclass(frozen=True, kw_only=True)
class Match:
    """A unit that answers the question."""

    unit: Unit
    coverage: float
    score: float


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A unit with its words."""

    unit: Unit
    words: tuple[Term, ...]
    own: frozenset[str]
    #: The words around it and what each counts for.
    around: Mapping[str, float]
    #: All words of its document that the passages show.
    document: frozenset[str]


#: For the stem of each word of the question: the stems that mean nearly the same, and how nearly.
_Near = Mapping[str, Mapping[str, float]]


def matches(question: Question, units: Sequence[Unit]) -> list[Match]:
    """The units that answer the question, best first, the earlier of equals first; none if the evidence is thin."""
    read = _read(units)
    near, weights = _near(question, read), _weights(question, read)
    likeness = _vectors([question.text]) @ _vectors([f"{unit.before} {unit.text}" for unit in units]).T
    found = []
    for number, one in enumerate(read):
        supported = sum(weights[term.stem] * _support(term, one, near) for term in question.terms)
        coverage = supported / (sum(weights.values()) or 1)
        if coverage >= ENOUGH and _fits(question, one, near):
            score = coverage + LIKENESS * float(likeness[0, number]) - FRAGMENT * one.unit.is_fragment
            found.append(Match(unit=one.unit, coverage=coverage, score=score))
    return sorted(found, key=lambda match: -match.score)


def _read(units: Sequence[Unit]) -> list[_Read]:
    documents: dict[str, set[str]] = {}
    for unit in units:
        words = documents.setdefault(unit.passage.document, _stems(unit.passage.document))
        words |= _stems(unit.text) | _stems(unit.heading)
    return [
        _Read(
            unit=unit,
            words=tuple(terms.terms(unit.text)),
            own=frozenset(_stems(unit.text)),
            around=_around(unit),
            document=frozenset(documents[unit.passage.document]),
        )
        for unit in units
    ]


def _around(unit: Unit) -> dict[str, float]:
    places = ((unit.passage.document, NAME), (unit.topic, TOPIC), (unit.heading, HEADING), (unit.before, BEFORE))
    return {stem: worth for text, worth in places for stem in _stems(text)}


def _weights(question: Question, read: Sequence[_Read]) -> dict[str, float]:
    """The inverse document frequency of each word of the question; the words of a name share one weight."""
    frequency = Counter(stem for one in read for stem in one.own)
    return {
        term.stem: share * math.log(1 + (len(read) - frequency[term.stem] + 0.5) / (frequency[term.stem] + 0.5))
        for term, share in zip(question.terms, question.shares, strict=True)
    }


def _near(question: Question, read: Sequence[_Read]) -> _Near:
    """Words near in meaning to those of the question, which are not near each other: one word, one support.

    Numbers and codes are near nothing.
    """
    asked = [term for term in question.terms if not term.is_number]
    theirs = {term.stem for term in asked}
    words = (term for one in read for term in one.words if not term.is_number)
    vocabulary = {term.stem: term for term in words if term.stem not in theirs}
    cosines = (
        _vectors([folded(term.text) for term in asked])
        @ _vectors([folded(term.text) for term in vocabulary.values()]).T
    )
    return {
        term.stem: {stem: float(cosine) for stem, cosine in zip(vocabulary, row, strict=True) if cosine >= NEAR}
        for term, row in zip(asked, cosines, strict=True)
    }


def _support(term: Term, one: _Read, near: _Near) -> float:
    """What the unit and its surroundings hold of one word of the question, from 0 to 1."""
    same = {term.stem} | terms.synonyms(term.stem)
    if term.stem in one.own:
        return OWN
    if same & one.own:
        return SYNONYM
    unit = UNIT if terms.told_in(term.stem) & one.own else 0.0
    nearest = max((cosine for stem, cosine in near.get(term.stem, {}).items() if stem in one.own), default=0.0)
    named = NAME if _is_name(term) and same & one.document else 0.0
    return max(nearest, named, unit, *(one.around.get(stem, 0.0) for stem in same))


def _fits(question: Question, one: _Read, near: _Near) -> bool:
    """Whether the unit is about the very thing that is asked about and holds the kind of answer that is asked for."""
    return (
        all(({name.stem} | terms.synonyms(name.stem)) & one.document for name in question.names())
        and not _tells_of_another(question, one)
        and (not question.wants_time or _holds(question, one, question.language.time_words))
        and (not question.wants_number or _holds(question, one, question.language.number_words))
        and (question.counted is None or _counts(question.counted, question, one, near))
    )


def _tells_of_another(question: Question, one: _Read) -> bool:
    """Whether the unit speaks of pump 15 when pump 17 is asked for."""
    asked = {(a.stem, b.stem) for a, b in itertools.pairwise(question.terms) if b.is_number}
    told = {(a.stem, b.stem) for a, b in itertools.pairwise(one.words) if b.is_number}
    return any(
        number not in one.own and any(word == other and number != another for other, another in told)
        for word, number in asked
    )


def _holds(question: Question, one: _Read, words: frozenset[str]) -> bool:
    """Whether the unit holds a number or one of the words that the question does not hold itself."""
    asked = {term.stem for term in terms.terms(question.text)}
    return any(term.stem not in asked and (term.is_number or folded(term.text) in words) for term in one.words)


def _counts(counted: Term, question: Question, one: _Read, near: _Near) -> bool:
    """Whether a number stands before what is counted, or right behind it: "27 days of holiday", "projects: 3"."""
    same = {counted.stem} | terms.synonyms(counted.stem) | near.get(counted.stem, {}).keys()
    numbers = question.language.number_words
    for place, term in enumerate(one.words):
        window = one.words[max(0, place - COUNTED_WITHIN) : place] + one.words[place + 1 : place + 2]
        if term.stem in same and any(word.is_number or folded(word.text) in numbers for word in window):
            return True
    return False


def _stems(text: str) -> set[str]:
    return {term.stem for term in terms.terms(text)}


def _is_name(term: Term) -> bool:
    return term.is_number or term.text[0].isupper()


def _vectors(texts: Sequence[str]) -> Vectors:
    return wordvectors.embed([wordvectors.encode(wellformed(text)) for text in texts])
