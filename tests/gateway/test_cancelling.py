"""Ending a stream before its answer is whole: what is booked for it, and how the truth corrects that."""

from collections.abc import Callable
from contextlib import closing

import pytest

from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work
from apps.gateway import resolution
from apps.gateway.streaming import Cancelled, Event, Reset
from apps.ledger import till
from apps.ledger.errors import OperationEndedError
from apps.ledger.models import Attempt, Operation
from apps.ledger.types import TokenCounts
from tests.fakes.process import FakeProvider
from tests.gateway.streams import (
    EVENTS,
    PIECES,
    attempts,
    cancelled,
    counts_of,
    done,
    entries,
    estimate,
    kinds,
    shown,
    stream,
)
from tests.gateway.test_purchase import context, counted, fail, operation, states
from tests.ledger.test_till import check_books
from tests.personas import Persona


def after(pieces: int) -> tuple[list[Event], Callable[[], bool]]:
    """A list for the events, and the wish to cancel once there are so many in it."""
    events: list[Event] = []
    return events, lambda: len(events) >= pieces


def check_cancelled(owner: Persona, question: str, text: str) -> None:
    """The entry stands at the estimate; the attempt is in doubt and keeps the rest of its hold."""
    attempt, [entry] = attempts(owner)[-1], entries(owner)
    assert operation(owner).state == "cancelled"
    assert (attempt.state, attempt.estimate_entry_id) == ("unknown", entry.pk)
    assert counts_of(entry) == estimate(question, text)
    books = check_books(owner.ctx)
    assert (books.entries, books.spent_tokens) == (1, entry.total_tokens)
    assert books.spent_tokens + books.held_tokens == attempt.hold_tokens


def test_a_cancelled_stream_is_booked_at_the_estimate_of_what_was_consumed(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    events, enough = after(PIECES)
    ctx = context(owner)
    for event in stream(ctx, question, cancelled=enough):
        events.append(event)
    assert kinds(events) == ["Delta", "Cancelled"]
    assert len(events) == PIECES + 1
    assert cancelled(events) == Cancelled(text=shown(events), counts=estimate(question, shown(events)))
    check_cancelled(owner, question, shown(events))
    with pytest.raises(OperationEndedError):
        next(stream(ctx, question))


def test_a_provider_that_is_silent_can_be_cancelled(owner: Persona, fake_provider: FakeProvider, question: str) -> None:
    """It would be silent until the call's time is up, which would be another end than this."""
    fail(fake_provider, question, "hold")

    def has_arrived() -> bool:
        return any(question in str(arrival["body"]) for arrival in fake_provider.arrivals())

    events = list(stream(context(owner), question, cancelled=has_arrived))
    assert events == [Cancelled(text="", counts=estimate(question, ""))]
    check_cancelled(owner, question, "")
    fake_provider.release()


def test_cancelled_before_the_first_hold_nothing_is_charged(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    events = list(stream(context(owner), question, cancelled=lambda: True))
    assert events == [Cancelled(text="", counts=None)]
    with unit_of_work(owner.ctx):
        assert not Operation.objects.exists()
    assert not any(question in str(arrival["body"]) for arrival in fake_provider.arrivals())


def test_cancelled_before_it_is_tried_again_what_was_shown_is_booked(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, question, "cut", events=EVENTS)
    events = list(stream(context(owner, retries=1), question, cancelled=lambda: states(owner) == ["unknown"]))
    assert kinds(events) == ["Delta", "Cancelled"]
    assert cancelled(events).text == shown(events) != ""
    assert states(owner) == ["unknown"]
    check_cancelled(owner, question, shown(events))


@pytest.mark.parametrize(("kind", "state"), [("429", "void"), ("503", "unknown")])
def test_cancelled_before_it_is_tried_again_what_brought_nothing_is_not_booked(
    owner: Persona, fake_provider: FakeProvider, question: str, kind: str, state: str
) -> None:
    fail(fake_provider, question, kind)
    events = list(stream(context(owner, retries=1), question, cancelled=lambda: states(owner) == [state]))
    assert events == [Cancelled(text="", counts=None)]
    assert (states(owner), operation(owner).state) == ([state], "cancelled")
    books = check_books(owner.ctx)
    assert (books.entries, books.held_tokens > 0) == (0, state == "unknown")


def test_to_close_a_stream_early_is_to_cancel_it(owner: Persona, fake_provider: FakeProvider, question: str) -> None:
    with closing(stream(context(owner), question)) as events:
        began = [next(events), next(events)]
    check_cancelled(owner, question, shown(began))


def test_closed_at_a_reset_it_is_the_new_attempt_that_is_booked(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, question, "cut", events=EVENTS)
    with closing(stream(context(owner, retries=1), question)) as events:
        assert any(isinstance(event, Reset) for event in events)
    assert states(owner) == ["unknown", "unknown"]
    assert operation(owner).state == "cancelled"
    [entry] = entries(owner)
    assert counts_of(entry) == estimate(question, "")
    assert entry.attempt_id == attempts(owner)[1].pk
    check_books(owner.ctx)


# The truth, later


@pytest.mark.parametrize(
    ("ending", "teller"),
    [
        ("cancelled", "lookup"),
        ("cancelled", "late answer"),
        ("cancelled", "report"),
        ("kept", "late answer"),
        ("kept", "report"),
    ],
)
def test_the_truth_corrects_the_estimate_by_an_adjustment(
    owner: Persona, fake_provider: FakeProvider, question: str, ending: str, teller: str
) -> None:
    end_early(fake_provider, context(owner, provider="askable" if teller == "lookup" else "fake"), question, ending)
    [attempt], [entry] = attempts(owner), entries(owner)
    truth = counted(fake_provider, owner)
    assert truth > entry.total_tokens

    tell(owner.ctx, attempt, teller, truth)
    [settled] = attempts(owner)
    assert (settled.state, settled.held_tokens) == ("settled", 0)
    estimated, adjustment = entries(owner)
    assert (estimated.pk, estimated.total_tokens) == (entry.pk, entry.total_tokens)
    assert (adjustment.kind, adjustment.corrects_id) == ("adjustment", entry.pk)
    books = check_books(owner.ctx)
    assert (books.spent_tokens, books.held_tokens) == (truth, 0)


def end_early(fake: FakeProvider, ctx: ExecutionContext, question: str, ending: str) -> None:
    """Leave an entry at an estimate: of a stream that was cancelled, or of one that broke off and was kept."""
    if ending == "cancelled":
        with closing(stream(ctx, question)) as events:
            next(events)
    else:
        fail(fake, question, "cut", events=EVENTS)
        assert done(list(stream(ctx, question, partial="keep")))


def tell(ctx: ExecutionContext, attempt: Attempt, teller: str, truth: int) -> None:
    """What the provider counted becomes known: by asking it, by an answer that was on its way, or by its report."""
    counts = TokenCounts(fresh_input_tokens=truth)
    if teller == "lookup":
        assert resolution.resolve_unknown() >= 1
    elif teller == "late answer":
        assert till.settle(ctx, attempt.pk, counts, result={"text": "whole"}).late
    else:
        assert till.report(ctx, attempt.pk, counts) == "corrected"
