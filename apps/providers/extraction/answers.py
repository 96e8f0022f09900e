"""An answer made of quotations: what the local model says."""

from collections.abc import Iterator, Sequence
from itertools import takewhile

from apps.providers.base import Passage
from apps.providers.extraction import evidence, questions, sentences, units
from apps.providers.extraction.questions import Question
from apps.providers.extraction.units import Unit

#: More quotations than this are no answer any more but a reading list.
MOST_QUOTATIONS = 3
#: A further quotation answers nearly as well as the best one.
CLOSE = 0.05
#: Of a message with many questions so many are answered.
MOST_QUESTIONS = 3


def answer(message: str, passages: Sequence[Passage]) -> Iterator[str]:
    """The answer piece by piece: quotations, each with its passage's number, or one sentence that there is none."""
    asked = _questions(message)
    language = asked[0].language
    found = [unit for passage in passages for unit in units.split(passage)]
    quotations = list(dict.fromkeys(quotation for one in asked for quotation in _quotations(one, found)))
    if not passages:
        yield language.no_documents
    elif quotations:
        yield quotations[0]
        yield from (f"\n\n{quotation}" for quotation in quotations[1:])
    elif any(one.terms or one.is_overview for one in asked):
        yield language.nothing_found
    else:
        yield language.no_question


def _questions(message: str) -> list[Question]:
    """The message's questions without what surrounds them; the whole message when none of them says what about."""
    marked = [text for text in sentences.split(message) if text.endswith("?")]
    asked = [questions.read(text) for text in marked[:MOST_QUESTIONS]]
    return [one for one in asked if one.terms or one.is_overview] or [questions.read(message)]


def _quotations(question: Question, found: Sequence[Unit]) -> list[str]:
    if question.is_overview:
        return [_quotation([unit], found) for unit in _openings(found)]
    matches = evidence.matches(question, found) if question.terms and found else []
    close = [match.unit for match in matches if match.score >= matches[0].score - CLOSE]
    return [_quotation(together, found) for together in _joined(_distinct(close))]


def _distinct(close: Sequence[Unit]) -> list[Unit]:
    """The first few. Passages overlap: the same sentence may be there twice, once cut off."""
    kept: list[Unit] = []
    for unit in close:
        if not any(unit.text in other.text for other in kept):
            kept.append(unit)
        if len(kept) == MOST_QUOTATIONS:
            break
    return kept


def _joined(kept: Sequence[Unit]) -> list[list[Unit]]:
    """Neighbours of one paragraph together, in its order."""
    joined: list[list[Unit]] = []
    for unit in kept:
        for together in joined:
            if _follows(unit, together[-1]):
                together.append(unit)
                break
            if _follows(together[0], unit):
                together.insert(0, unit)
                break
        else:
            joined.append([unit])
    return joined


def _follows(second: Unit, first: Unit) -> bool:
    is_text = first.kind == second.kind == "text" and not second.text.endswith(":")
    return is_text and first.passage is second.passage and second.before.endswith(first.text)


def _openings(found: Sequence[Unit]) -> list[Unit]:
    """The first whole sentence of each of the first passages."""
    first: dict[int, Unit] = {}
    for unit in found:
        if unit.kind == "text" and not unit.is_fragment:
            first.setdefault(unit.passage.number, unit)
    return list(first.values())[:MOST_QUOTATIONS]


def _quotation(together: Sequence[Unit], found: Sequence[Unit]) -> str:
    """The units as they are quoted, code with the line that opens it, and the number of their passage."""
    first = together[0]
    cited = f"[{first.passage.number}]"
    if first.kind == "code":
        return f"{first.before}\n```\n{first.text}\n```\n{cited}".lstrip()
    if first.text.endswith(":"):
        return _opened(first, found, cited)
    # "No." before a sentence decides what it means.
    opening = [first.before] if first.kind == "text" and len(first.before.split()) == 1 else []
    return f'"{" ".join([*opening, *(unit.text for unit in together)])}" {cited}'


def _opened(unit: Unit, found: Sequence[Unit], cited: str) -> str:
    """A line that ends in a colon, with the list or the code that it opens."""
    after = found[[one is unit for one in found].index(True) + 1 :]
    opened = list(takewhile(lambda one: one.before == unit.text and one.kind in ("item", "code", "row"), after))
    if opened and opened[0].kind == "code":
        return _quotation(opened[:1], found)
    return "\n".join([f'"{unit.text}', *(f"- {one.text}" for one in opened)]) + f'" {cited}'
