"""What a question asks: its words that matter, what belongs together in it, and what kind of answer it wants."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from apps.providers.extraction import terms
from apps.providers.extraction.language import Language, folded, language_of
from apps.providers.extraction.terms import Term

#: "zorblax pump 17" in lower case: so many words before a number are taken to be of the same name.
_NAME_WORDS = 2
#: What a question says beyond so many characters is not read: it is a text then, and every word costs time.
LONGEST_QUESTION = 1_000
_END = re.compile(r"[.!?]")


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question, read."""

    language: Language
    #: As it was asked, but not longer than is read.
    text: str
    #: All stems in it, also of what does not matter.
    stems: frozenset[str]
    #: What is asked about, each stem once, in order.
    terms: tuple[Term, ...]
    #: For each term the part of a word that it counts for: the words of one name count as one.
    shares: tuple[float, ...]
    #: Words that no other can stand for: with a digit, or a capital letter that does not begin the question.
    names: tuple[Term, ...]
    #: The kinds of answer that it wants, and where the phrase ends that says so.
    wants: Mapping[str, int]

    @property
    def is_overview(self) -> bool:
        """Asks about the documents as a whole."""
        words = {term.word for term in terms.terms(self.text, self.language)}
        return not self.terms and bool(words & self.language.overview_words)

    def counted(self) -> tuple[Term, ...]:
        """What "how many" counts, the words after it that matter: in "API requests" no one knows which, so all."""
        after = tuple(term for term in self.terms if term.start >= self.wants["how_many"])
        return tuple(after[i] for run in _runs(self.text, after)[:1] for i in run)


def read(text: str) -> Question:
    """The question as it is compared with documents."""
    text = text[:LONGEST_QUESTION]
    language = language_of(text)
    words = terms.terms(text, language)
    found = [term for term in words if _matters(term, language)]
    unique = tuple({term.stem: term for term in reversed(found)}.values())[::-1]
    return Question(
        language=language,
        text=text,
        stems=frozenset(term.stem for term in words),
        terms=unique,
        shares=_shares(text, unique),
        names=tuple(term for term in unique if term.is_number or (term.is_capitalised and _precedes(text, term))),
        wants=_wants(text, language),
    )


def _matters(term: Term, language: Language) -> bool:
    idle = language.function_words | language.asking_words | language.overview_words
    return term.word not in idle or (term.text.isupper() and len(term.text) > 1)


def _wants(text: str, language: Language) -> dict[str, int]:
    """What the question asks with its first word that asks: in "when and where?", a time."""
    asking = folded(text)
    first = language.interrogatives.search(asking)
    if first is None:
        return {}
    found = ((kind, phrases.search(asking)) for kind, phrases in language.asks.items())
    return {kind: asked.end() for kind, asked in found if asked and asked.start() <= first.start()}


def _shares(text: str, found: tuple[Term, ...]) -> tuple[float, ...]:
    """A long name would outweigh what is asked of the thing it names: its words share the weight of one."""
    shares = [1.0] * len(found)
    for run in _runs(text, found):
        name = _name_in(run, found)
        for i in name:
            shares[i] = 1 / len(name)
    return tuple(shares)


def _name_in(run: range, found: tuple[Term, ...]) -> range:
    """The part of a stretch of words that is a name: "Zorblax pump 17", "Heron bridge"; empty when there is none."""
    marked = [i for i in run if found[i].is_number or found[i].is_capitalised]
    if not marked:
        return range(0)
    first, last = marked[0], marked[-1]
    if found[last].is_number:
        return range(max(run[0], min(first, last - _NAME_WORDS)), last + 1)
    # A single capital takes the word behind it along: it says what kind of thing is named.
    return range(first, min(last + 2, run[-1] + 1) if first == last else last + 1)


def _runs(text: str, found: tuple[Term, ...]) -> list[range]:
    """The stretches of terms with nothing but space and hyphens between them, as their indices."""
    runs: list[range] = []
    for i, term in enumerate(found):
        between = text[found[i - 1].start + len(found[i - 1].text) : term.start] if i else "."
        if re.fullmatch(r"[\s\-]*", between):
            runs[-1] = range(runs[-1].start, i + 1)
        else:
            runs.append(range(i, i + 1))
    return runs


def _precedes(text: str, term: Term) -> bool:
    """Whether a word stands before the term in its sentence."""
    return any(letter.isalnum() for letter in _END.split(text[: term.start])[-1])
