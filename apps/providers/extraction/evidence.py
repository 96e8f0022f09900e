"""How well the units of the passages answer a question, and whether any does.

A question's words are looked for in a unit and in what stands around it; each counts by how rare it is among the units
(the inverse document frequency of BM25), so that a word which no document holds weighs most. The share of the weight
that is found is the *coverage*. Word vectors let near synonyms count in part.

The numbers below were chosen on ``tests/providers/corpus/tuning.toml`` and ``demo.toml``. Below ``ENOUGH`` there are as
many questions without an answer as with one, and likeness does not tell them apart.
"""

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from apps.providers import wordvectors
from apps.providers.base import Vectors
from apps.providers.encodings import wellformed
from apps.providers.extraction import kinds, readings, terms
from apps.providers.extraction.kinds import Near
from apps.providers.extraction.questions import Question
from apps.providers.extraction.readings import Reading
from apps.providers.extraction.terms import LONGEST_WORD, Term
from apps.providers.extraction.units import Unit

ENOUGH = 0.67

#: What a word counts for in the unit itself, and a synonym of it there.
OWN, SYNONYM = 1.0, 0.9
#: … around the unit: a heading, alone, is just enough.
AROUND = 0.7
#: A name that stands in the document's name or headings counts for all of it.
NAME = 0.6
#: A unit of measurement shows that the value is there, not whose it is.
UNIT = 0.6
#: From this cosine on two words mean nearly the same: "found, established" 0.60, "weigh, heavy" 0.53, but "minimum,
#: maximum" 0.31 and "weight, height" 0.08. It is then what the word counts for.
NEAR = 0.5
#: What the likeness of question and unit adds for the order, never for the decision.
LIKENESS = 0.15
#: What counts more in the order: "A till is …" for "what is a till?", and code for "how do I install it?".
FITTING = 0.1
#: What counts less in the order: the rest of a sentence whose beginning was cut off, and code when it is not asked for.
FRAGMENT = 0.1


@dataclass(frozen=True, kw_only=True)
class Match:
    """A unit that answers the question."""

    unit: Unit
    #: Its coverage and what else speaks for it: for the order.
    score: float


def matches(question: Question, units: Sequence[Unit]) -> list[Match]:
    """The units that answer the question, best first, the earlier of equals first; none if the evidence is thin."""
    read = readings.read(units, question.language)
    near, weights = _near(question, read), _weights(question, read)
    total = sum(weights.values()) or 1
    found = []
    for one in read:
        coverage = sum(weights[term.stem] * _support(term, one, question, near) for term in question.terms) / total
        if coverage >= ENOUGH and _is_about(question, one) and kinds.fits(question, one, near):
            found.append((one, coverage))
    likeness = _vectors([f"{one.unit.before} {one.unit.text}" for one, _ in found]) @ _vectors([question.text])[0]
    ranked = [
        Match(unit=one.unit, score=coverage + _preference(one, question) + LIKENESS * float(alike))
        for (one, coverage), alike in zip(found, likeness, strict=True)
    ]
    return sorted(ranked, key=lambda match: -match.score)


def _preference(one: Reading, question: Question) -> float:
    is_code, is_how_to = one.unit.kind == "code", "how_to" in question.wants
    is_fitting = is_code if is_how_to else _defines(one, question)
    is_late = one.unit.is_fragment or (is_code and not is_how_to)
    return FITTING * is_fitting - FRAGMENT * is_late


def _defines(one: Reading, question: Question) -> bool:
    """Whether the unit begins with all that is asked about, and says what it is."""
    known, asked = question.language, [term.stem for term in question.terms]
    words = [word for word in one.words if word.word not in known.function_words - known.be_words]
    told = [word.stem for word in words[: len(asked)]]
    is_said = told == asked and any(word.word in known.be_words for word in words[len(asked) : len(asked) + 1])
    return "what_is" in question.wants and is_said


def _weights(question: Question, read: Sequence[Reading]) -> dict[str, float]:
    """The inverse document frequency of each word of the question; the words of a name share one weight."""
    frequency = Counter(stem for one in read for stem in one.own & question.stems)
    return {
        term.stem: share * math.log(1 + (len(read) - frequency[term.stem] + 0.5) / (frequency[term.stem] + 0.5))
        for term, share in zip(question.terms, question.shares, strict=True)
    }


def _near(question: Question, read: Sequence[Reading]) -> Near:
    """Words near in meaning to those of the question, which are not near each other: one word, one support.

    Numbers and codes are near nothing.
    """
    asked = [term for term in question.terms if _has_meaning(term)]
    theirs = {term.stem for term in asked}
    words = {term.stem: term for one in read for term in one.words if term.stem not in theirs}
    vocabulary = {stem: term.word for stem, term in words.items() if _has_meaning(term)}
    cosines = _word_vectors([term.word for term in asked]) @ _word_vectors(vocabulary.values()).T
    return {
        term.stem: {stem: float(cosine) for stem, cosine in zip(vocabulary, row, strict=True) if cosine >= NEAR}
        for term, row in zip(asked, cosines, strict=True)
    }


def _has_meaning(term: Term) -> bool:
    return not term.is_number and len(term.stem) <= LONGEST_WORD


def _support(term: Term, one: Reading, question: Question, near: Near) -> float:
    """What the unit and its surroundings hold of one word of the question, from 0 to 1."""
    known = question.language
    same, told_in = {term.stem} | terms.synonyms(term.stem, known), terms.told_in(term.stem, known)
    if term.stem in one.own:
        return OWN
    if not same.isdisjoint(one.own):
        return SYNONYM
    is_name = term.is_number or (term.is_capitalised and term.word not in known.time_words)
    return max(
        AROUND if not same.isdisjoint(one.around) else 0.0,
        NAME if is_name and not same.isdisjoint(one.subject) else 0.0,
        UNIT if not told_in.isdisjoint(one.own) else 0.0,
        *(cosine for stem, cosine in near.get(term.stem, {}).items() if stem in one.own),
    )


def _is_about(question: Question, one: Reading) -> bool:
    """Whether the unit is about the very thing that is asked about."""
    return all(_is_there(name, one, question) for name in question.names) and not _tells_of_another(question, one)


def _is_there(name: Term, one: Reading, question: Question) -> bool:
    """A number belongs to a unit when it stands in or around it, another name when its document has it."""
    if name.is_number:
        return name.stem in one.own or name.stem in one.around
    return not ({name.stem} | terms.synonyms(name.stem, question.language)).isdisjoint(one.document)


def _tells_of_another(question: Question, one: Reading) -> bool:
    """Whether the unit speaks of pump 15 when pump 17 is asked for."""
    asked = {(a.stem, b.stem) for a, b in itertools.pairwise(question.terms) if b.is_number}
    told = {(a.stem, b.stem) for a, b in itertools.pairwise(one.words) if b.is_number}
    return any(
        number not in one.own and any(word == other and number != another for other, another in told)
        for word, number in asked
    )


def _word_vectors(words: Iterable[str]) -> Vectors:
    return np.array([_word_vector(word) for word in words], dtype=np.float32).reshape(-1, wordvectors.DIMENSIONS)


@functools.lru_cache(maxsize=8_192)
def _word_vector(word: str) -> Vectors:
    """Kept, because most of an answer's time would go into them; 8,192 take 8 MB."""
    vector: Vectors = _vectors([word])[0]
    return vector


def _vectors(texts: Sequence[str]) -> Vectors:
    return wordvectors.embed([wordvectors.encode(wellformed(text)) for text in texts])
