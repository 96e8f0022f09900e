"""What a question asks: its words that matter, what belongs together in it, and what kind of answer it wants."""

import re
from dataclasses import dataclass

from apps.providers.extraction import terms
from apps.providers.extraction.language import Language, folded, language_of
from apps.providers.extraction.terms import Term

#: "zorblax pump 17" in lower case: so many words before a number are taken to be of the same name.
_NAME_WORDS = 2


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question, read."""

    text: str
    language: Language
    #: What is asked about, each stem once, in order.
    terms: tuple[Term, ...]
    #: For each term the part of a word that it counts for: the words of one name count as one.
    shares: tuple[float, ...]

    @property
    def is_overview(self) -> bool:
        """Asks about the documents as a whole."""
        return not self.terms and bool(_words(self.text) & self.language.overview_words)

    @property
    def wants_time(self) -> bool:
        return self._asks(self.language.when) is not None

    @property
    def wants_number(self) -> bool:
        return self._asks(self.language.how_much) is not None

    @property
    def counted(self) -> Term | None:
        """What "how many" counts: the first word after it that matters."""
        found = self._asks(self.language.how_many)
        return next((term for term in self.terms if found and term.start >= found.end()), None)

    def names(self) -> list[Term]:
        """Words that no other can stand for: with a digit, or a capital letter that does not begin the question."""
        return [
            term for term in self.terms if term.is_number or (term.text[0].isupper() and _precedes(self.text, term))
        ]

    def _asks(self, phrases: tuple[str, ...]) -> re.Match[str] | None:
        """Where the question asks with one of these, unless it asks for something else first."""
        text = folded(self.text)
        found = re.search(rf"\b(?:{'|'.join(phrases)})\b", text)
        first = re.search(rf"\b(?:{'|'.join(self.language.interrogatives)})\b", text)
        return found if found and first and found.start() <= first.start() else None


def read(text: str) -> Question:
    """The question as it is compared with documents."""
    language = language_of(text)
    found = [term for term in terms.terms(text) if _matters(term, language)]
    unique = tuple({term.stem: term for term in reversed(found)}.values())[::-1]
    return Question(text=text, language=language, terms=unique, shares=_shares(text, unique))


def _matters(term: Term, language: Language) -> bool:
    word = folded(term.text)
    idle = language.function_words | language.asking_words | language.overview_words
    return word not in idle or (term.text.isupper() and len(word) > 1)


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
    marked = [i for i in run if found[i].is_number or found[i].text[0].isupper()]
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
    return bool(re.search(r"\w[^.!?]*$", text[: term.start]))


def _words(text: str) -> set[str]:
    return {folded(term.text) for term in terms.terms(text)}
