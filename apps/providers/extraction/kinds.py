"""The kind of answer that a question wants, and whether a unit holds one: a time, a number, a price, a person, …"""

from collections.abc import Mapping

from apps.providers.extraction import terms
from apps.providers.extraction.language import Language
from apps.providers.extraction.questions import Question
from apps.providers.extraction.readings import Reading
from apps.providers.extraction.terms import Term

#: A number counts for what follows it within so many words: "27 days of paid holiday".
_COUNTED_WITHIN = 4
#: Who did it stands within so many words of what was done.
_NAMED_WITHIN = 4
#: "serviced twice a year by": who did it stands so near behind it.
_BY_WITHIN = 5

#: For the stem of each word of the question: the stems that mean nearly the same, and how nearly.
Near = Mapping[str, Mapping[str, float]]


def fits(question: Question, one: Reading, near: Near) -> bool:
    """Whether the unit holds every kind of answer that the question asks for."""
    wants = question.wants
    return (
        ("how_much" not in wants or _tells_number(question, one))
        and ("how_many" not in wants or _tells_count(question, one, near))
        and ("when" not in wants or _tells_time(question, one))
        and ("where" not in wants or _tells_place(question, one))
        and ("who" not in wants or _tells_person(question, one))
        and ("price" not in wants or _tells_price(question, one))
        and ("phone" not in wants or "#phone" in one.own)
        and ("mail" not in wants or "#mail" in one.own)
    )


def _tells_number(question: Question, one: Reading) -> bool:
    known = question.language
    return any(_is_number(term, known) and term.stem not in question.stems for term in one.words)


def _tells_time(question: Question, one: Reading) -> bool:
    words = question.language.time_words
    return "#date" in one.own or any(term.word in words and term.stem not in question.stems for term in one.words)


def _tells_price(question: Question, one: Reading) -> bool:
    return "#money" in one.own or any(term.word in question.language.free_words for term in one.words)


def _is_number(term: Term, known: Language) -> bool:
    return term.is_number or term.word in known.number_words


# "How many?"


def _tells_count(question: Question, one: Reading, near: Near) -> bool:
    """Whether a number stands before what is counted, or right behind it: "27 days of holiday", "projects: 3"."""
    counted = [_meanings(term, question, near) for term in question.counted()]
    if not counted or one.unit.kind == "row":
        return True
    is_named = any(term.stem in counted[0] for term in one.words)
    same = frozenset().union(*counted)
    return is_named and any(term.stem in same and _is_counted(at, one, question) for at, term in enumerate(one.words))


def _meanings(term: Term, question: Question, near: Near) -> frozenset[str]:
    return frozenset({term.stem, *terms.synonyms(term.stem, question.language), *near.get(term.stem, {})})


def _is_counted(at: int, one: Reading, question: Question) -> bool:
    """Whether the word's number is there: the nearest one before it with no other phrase between, or the next word."""
    known = question.language
    if any(_is_number(term, known) for term in one.words[at + 1 : at + 2]):
        return True
    for term in reversed(one.words[max(0, at - _COUNTED_WITHIN) : at]):
        if _is_number(term, known):
            return True
        if term.word in known.function_words - known.of_words:
            break
    return False


# "Where?"


def _tells_place(question: Question, one: Reading) -> bool:
    """Whether "in", "at", … stands before what is no time and not asked about; a list or an address needs none."""
    known = question.language
    return (
        one.unit.kind != "text"
        or "#mail" in one.own
        or any(
            term.word in known.place_words and _is_place(_next(at, one, known), question)
            for at, term in enumerate(one.words)
        )
    )


def _next(at: int, one: Reading, known: Language) -> tuple[Term, ...]:
    """The next two words behind an article."""
    behind = one.words[at + 1 : at + 4]
    while behind and behind[0].word in known.function_words:
        behind = behind[1:]
    return behind[:2]


def _is_place(words: tuple[Term, ...], question: Question) -> bool:
    """Whether a place begins so: "Gothenburg", "blocked account", "8 Mill Lane"."""
    times = question.language.time_words
    if not words or words[0].stem in question.stems or words[0].word in times:
        return False
    return not words[0].is_number or any(word.is_capitalised and word.word not in times for word in words[1:])


# "Who?"


def _tells_person(question: Question, one: Reading) -> bool:
    """Whether the unit says who: what was done "by" somebody, or a name or a role near what is asked about."""
    known = question.language
    asked = {stem for term in question.terms for stem in ({term.stem} | terms.synonyms(term.stem, known))}
    found = [at for at, term in enumerate(one.words) if term.stem in asked]
    if any(_has_agent(at, one, known) for at in found):
        return True
    if any(_is_passive(at, one, known) for at in found):
        return False
    return any(_is_somebody(at, one, question) and _is_near(at, found) for at in range(len(one.words)))


def _has_agent(at: int, one: Reading, known: Language) -> bool:
    """Whether "by" follows: "paid for by the Harlan Trust"."""
    return any(term.word in known.by_words for term in one.words[at + 1 : at + 1 + _BY_WITHIN])


def _is_passive(at: int, one: Reading, known: Language) -> bool:
    """Whether a word says what was done: "was built"."""
    word = one.words[at].word
    is_participle = word in known.irregular or word.endswith(known.participle_endings)
    return is_participle and at > 0 and one.words[at - 1].word in known.be_words


def _is_near(at: int, others: list[int]) -> bool:
    return not others or min(abs(at - other) for other in others) <= _NAMED_WITHIN


def _is_somebody(at: int, one: Reading, question: Question) -> bool:
    """Whether a word that the question does not hold names somebody, or a role."""
    known, term, after = question.language, one.words[at], one.words[at + 1 : at + 2]
    if term.stem in question.stems or term.is_number:
        return False
    # Every sentence begins with a capital: there it counts before another, or before what is asked about only.
    is_marked = at > 0 or any(it.is_capitalised or it.stem in question.stems for it in after)
    idle = known.function_words | known.time_words | known.money_words
    return term.word in known.person_words or (term.is_capitalised and is_marked and term.word not in idle)
