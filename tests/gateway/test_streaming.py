"""Answers while they are being written: what is shown, what is paid, and what is left when they break off."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from apps.core.db import unit_of_work
from apps.core.errors import NoobleError
from apps.gateway.errors import CallInTransactionError
from apps.gateway.streaming import Delta, Done, Reset
from apps.ledger import till
from apps.ledger.errors import BudgetExceededError, OperationEndedError, OperationInProgressError
from apps.ledger.types import Admitted, Call, TokenCounts
from apps.providers.errors import (
    ProviderBadResponseError,
    ProviderInterruptedError,
    ProviderRefusedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from tests.fakes.process import FakeProvider
from tests.gateway.streams import EVENTS, PIECES, attempts, counts_of, done, entries, estimate, kinds, shown, stream
from tests.gateway.test_purchase import asked, complete, context, counted, fail, operation, states
from tests.ledger.test_till import check_books, expire_lease
from tests.personas import MakeTenant, Persona

#: What ends a stream in the middle.
BREAKS = [
    ("cut", ProviderInterruptedError),
    ("end_early", ProviderInterruptedError),
    ("stream_error", ProviderUnavailableError),
    ("malformed", ProviderBadResponseError),
]


@pytest.fixture
def others(fake_provider: FakeProvider) -> Iterator[None]:
    """The fake as Groq, as Anthropic and as Cohere, with the real adapters for them."""
    entry = {"api_key": "k", "base_url": fake_provider.url}
    entries = dict.fromkeys(("groq", "anthropic", "cohere"), entry)
    with override_settings(NOOBLE_PROVIDERS={**settings.NOOBLE_PROVIDERS, **entries}):
        yield


# An answer that comes as it should


@pytest.mark.parametrize("provider", ["fake", "groq", "anthropic", "cohere"])
@pytest.mark.parametrize("kind", ["", "repeated_usage"])
def test_an_answer_comes_piece_by_piece_and_is_paid_as_the_provider_counted_it(
    owner: Persona, fake_provider: FakeProvider, others: None, question: str, provider: str, kind: str
) -> None:
    if kind:
        fail(fake_provider, question, kind)
    events = list(stream(context(owner, provider=provider), question))
    answer = done(events).completion
    assert kinds(events) == ["Delta", "Done"]
    assert len(events) > PIECES
    assert shown(events) == answer.text
    assert (answer.finish_reason, answer.counts.source, answer.replayed) == ("stop", "api", False)
    assert check_books(owner.ctx).spent_tokens == counted(fake_provider, owner) == answer.counts.total_tokens
    [entry] = entries(owner)
    assert entry.provider_request_id
    assert entry.metadata["execution_time_ms"] >= 0


def test_the_local_provider_streams_too(owner: Persona, question: str) -> None:
    events = list(stream(context(owner, provider="local"), question))
    answer = done(events).completion
    assert shown(events) == answer.text != ""
    assert check_books(owner.ctx).spent_tokens == answer.counts.total_tokens > 0


def test_a_done_answer_is_given_again_in_one_piece_without_a_call(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    ctx = context(owner)
    first = done(list(stream(ctx, question))).completion
    again = list(stream(ctx, question))
    assert again == [Delta(text=first.text), Done(completion=replace(first, replayed=True))]
    assert complete(ctx, question) == replace(first, replayed=True)
    assert states(owner) == ["settled"]


@pytest.mark.parametrize("kind", ["no_usage", "absurd_usage"])
def test_a_streams_usage_that_cannot_be_is_estimated(
    owner: Persona, fake_provider: FakeProvider, question: str, kind: str
) -> None:
    fail(fake_provider, question, kind)
    events = list(stream(context(owner), question))
    assert done(events).completion.counts == estimate(question, shown(events))
    assert check_books(owner.ctx).held_tokens == 0


def test_while_it_is_streamed_nobody_else_buys_it(owner: Persona, fake_provider: FakeProvider, question: str) -> None:
    ctx = context(owner)
    first = stream(ctx, question)
    next(first)
    with pytest.raises(OperationInProgressError):
        next(stream(ctx, question))
    assert done(list(first))
    assert states(owner) == ["settled"]


def test_without_budget_no_stream_is_opened(
    make_tenant: MakeTenant, fake_provider: FakeProvider, question: str
) -> None:
    with pytest.raises(BudgetExceededError):
        next(stream(context(make_tenant(limit=10)), question))
    assert not any(question in str(arrival["body"]) for arrival in fake_provider.arrivals())


def test_no_stream_is_opened_inside_a_transaction(owner: Persona, fake_provider: FakeProvider, question: str) -> None:
    with pytest.raises(CallInTransactionError), unit_of_work(owner.ctx):
        next(stream(context(owner), question))


# A stream that breaks off


@pytest.mark.parametrize(("kind", "error"), BREAKS)
def test_a_broken_stream_is_tried_again_after_a_reset(
    owner: Persona, fake_provider: FakeProvider, question: str, kind: str, error: type[NoobleError]
) -> None:
    fail(fake_provider, question, kind, events=EVENTS)
    events = list(stream(context(owner, retries=1), question))
    assert kinds(events) == ["Delta", "Reset", "Delta", "Done"]
    assert events[PIECES] == Reset(reason=error.code)
    assert shown(events) == done(events).completion.text

    broken, whole = attempts(owner)
    assert (broken.state, whole.state) == ("unknown", "settled")
    assert counts_of(broken) == estimate(question, shown(events[:PIECES]))
    assert broken.provider_request_id
    books = check_books(owner.ctx)
    assert (books.entries, books.spent_tokens) == (1, done(events).completion.counts.total_tokens)
    assert (books.held_tokens, broken.estimate_entry_id) == (broken.hold_tokens, None)


def test_a_broken_stream_that_is_not_tried_again_keeps_its_hold_and_its_operation_waits(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, question, "cut", events=EVENTS)
    ctx = context(owner)
    events = []
    with pytest.raises(ProviderInterruptedError):
        events += list(stream(ctx, question))
    assert states(owner) == ["unknown"]
    assert operation(owner).state == "pending"
    assert 0 < counted(fake_provider, owner) <= check_books(owner.ctx).held_tokens
    assert done(list(stream(ctx, question)))
    assert states(owner) == ["unknown", "settled"]


@pytest.mark.parametrize(("kind", "first"), [("429", "void"), ("503", "unknown"), ("close", "unknown")])
def test_nothing_is_reset_where_nothing_was_shown(
    owner: Persona, fake_provider: FakeProvider, question: str, kind: str, first: str
) -> None:
    fail(fake_provider, question, kind)
    events = list(stream(context(owner, retries=1), question))
    assert kinds(events) == ["Delta", "Done"]
    assert states(owner) == [first, "settled"]
    assert counts_of(attempts(owner)[0]).total_tokens == 0


def test_a_refused_stream_ends_the_operation(owner: Persona, fake_provider: FakeProvider, question: str) -> None:
    fail(fake_provider, question, "400")
    with pytest.raises(ProviderRefusedError):
        next(stream(context(owner, retries=3), question))
    assert (states(owner), operation(owner).state) == (["void"], "failed")


@pytest.mark.parametrize(("kind", "options"), [("stall", {"seconds": 3}), ("drip", {})])
def test_a_stream_that_stays_silent_is_given_up_when_its_time_is_up(
    owner: Persona, fake_provider: FakeProvider, question: str, kind: str, options: dict[str, Any]
) -> None:
    fail(fake_provider, question, kind, **options)
    with pytest.raises(ProviderTimeoutError):
        next(stream(context(owner, timeout=1), question))
    assert states(owner) == ["unknown"]
    assert 0 < counted(fake_provider, owner) <= check_books(owner.ctx).held_tokens


@pytest.mark.parametrize("partial", ["retry", "keep"])
def test_a_provider_that_can_be_asked_gives_the_rest_of_a_broken_stream(
    owner: Persona, fake_provider: FakeProvider, question: str, partial: str
) -> None:
    fail(fake_provider, question, "cut", events=EVENTS)
    events = list(stream(context(owner, provider="askable"), question, partial=partial))
    assert kinds(events) == ["Delta", "Done"]
    assert len(events) == PIECES + len(["rest", "done"])
    assert shown(events) == done(events).completion.text
    assert done(events).completion.finish_reason == "stop"
    assert states(owner) == ["settled"]
    assert check_books(owner.ctx).spent_tokens == counted(fake_provider, owner)


def test_an_answer_that_differs_from_what_was_shown_replaces_it(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    """The stream breaks off; before it is tried again, a worker that had slept past its lease settles its own call."""
    ctx = context(owner, retries=1)
    charge, _ = asked(question)
    slept = till.hold(ctx, charge, Call(provider="fake", model="fake-chat", hold_tokens=500, deadline_seconds=30))
    assert isinstance(slept, Admitted)
    expire_lease(ctx, slept)
    fail(fake_provider, question, "cut", events=EVENTS)
    events = []
    for event in stream(ctx, question):
        events.append(event)
        if len(events) == PIECES:
            result = {"text": "late", "finish_reason": "stop", "provider": "fake", "model": "m"}
            till.settle(ctx, slept.attempt_id, TokenCounts(fresh_input_tokens=7), result=result)
    assert events[PIECES:-1] == [Reset(reason="provider_interrupted"), Delta(text="late")]
    assert done(events).completion.replayed
    assert states(owner) == ["settled", "unknown"]
    assert check_books(owner.ctx).spent_tokens == 7


def test_an_operation_that_is_ended_meanwhile_gives_no_answer_and_bills_nobody(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    events = stream(context(owner), question)
    next(events)
    till.cancel(owner.ctx, operation(owner).pk)
    with pytest.raises(OperationEndedError):
        list(events)
    [attempt] = attempts(owner)
    assert (attempt.state, counts_of(attempt).total_tokens) == ("lost", counted(fake_provider, owner))
    books = check_books(owner.ctx)
    assert (books.entries, books.held_tokens) == (0, 0)


# A partial answer that is kept


def test_a_partial_answer_can_be_kept_at_an_estimate(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, question, "cut", events=EVENTS)
    ctx = context(owner, retries=3)
    events = list(stream(ctx, question, partial="keep"))
    answer = done(events).completion
    assert kinds(events) == ["Delta", "Done"]
    assert (answer.text, answer.finish_reason) == (shown(events), "interrupted")
    assert answer.counts == estimate(question, answer.text)

    [attempt], [entry] = attempts(owner), entries(owner)
    assert (attempt.state, attempt.estimate_entry_id) == ("unknown", entry.pk)
    assert counts_of(entry) == answer.counts
    books = check_books(owner.ctx)
    assert books.spent_tokens == answer.counts.total_tokens
    assert books.held_tokens == attempt.hold_tokens - books.spent_tokens
    assert operation(owner).result == {
        "text": answer.text,
        "finish_reason": "interrupted",
        "provider": "fake",
        "model": "fake-chat",
        "partial": True,
    }
    assert list(stream(ctx, question)) == [Delta(text=answer.text), Done(completion=replace(answer, replayed=True))]


def test_where_nothing_was_received_there_is_nothing_to_keep(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, question, "close")
    events = list(stream(context(owner, retries=1), question, partial="keep"))
    assert done(events).completion.finish_reason == "stop"
    assert states(owner) == ["unknown", "settled"]
