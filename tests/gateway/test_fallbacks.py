"""Several models on offer: who is called when, what is paid, and what its reader sees."""

import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from apps.core import clock
from apps.core.context import ExecutionContext
from apps.core.errors import InvalidRequestError
from apps.gateway import streaming
from apps.gateway.streaming import Choice, Delta, Event
from apps.ledger import till
from apps.ledger.errors import BudgetExceededError
from apps.ledger.types import Admitted, Call
from apps.providers import registry, tokens
from apps.providers.base import ChatRequest
from apps.providers.errors import (
    ProviderAuthenticationError,
    ProviderNotConfiguredError,
    ProviderRateLimitedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnreachableError,
)
from tests.fakes.process import FakeProvider
from tests.gateway.streams import attempts, counts_of, done, entries, kinds, shown
from tests.gateway.test_purchase import asked, context, counted, fail, operation
from tests.ledger.test_till import check_books, expire_lease
from tests.personas import MakeTenant, Persona


def request_of(model: str, question: str) -> ChatRequest:
    """What is sent to one of the models; its name is in it, so that a fault can be meant for it."""
    _, request = asked(f"{question} {model}")
    return replace(request, model=model)


def choice(model: str, question: str, *, provider: str = "fake") -> Choice:
    return Choice(provider=provider, model=model, request=lambda: request_of(model, question))


def stream(ctx: ExecutionContext, question: str, *choices: Choice, **options: Any) -> Generator[Event, None, None]:
    charge, _ = asked(question)
    pair = choices or (choice("first", question), choice("second", question))
    return streaming.stream(ctx, charge, *pair, **options)


def models(owner: Persona) -> list[tuple[str, str]]:
    return [(attempt.model, attempt.state) for attempt in attempts(owner)]


def raising(error: Exception) -> Callable[[], ChatRequest]:
    def make() -> ChatRequest:
        raise error

    return make


def test_the_first_model_answers_when_it_can(owner: Persona, fake_provider: FakeProvider, question: str) -> None:
    answer = done(list(stream(context(owner), question))).completion
    assert models(owner) == [("first", "settled")]
    assert counted(fake_provider, owner) == answer.counts.total_tokens == check_books(owner.ctx).spent_tokens


@pytest.mark.parametrize(
    ("kind", "left"), [("400", "void"), ("401", "void"), ("404", "void"), ("429", "void"), ("500", "unknown")]
)
def test_the_next_is_asked_at_once_when_a_model_fails(
    owner: Persona, fake_provider: FakeProvider, question: str, kind: str, left: str
) -> None:
    fail(fake_provider, f"{question} first", kind, times=None)
    # Without retries: what is asked besides is no retry.
    answer = done(list(stream(context(owner), question))).completion
    assert models(owner) == [("first", left), ("second", "settled")]
    [entry] = entries(owner)
    assert (entry.provider, entry.model, entry.attempts) == ("fake", "second", 2)
    assert counts_of(entry) == answer.counts
    assert check_books(owner.ctx).spent_tokens == answer.counts.total_tokens


def test_when_all_have_failed_they_are_asked_again_in_their_order(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, f"{question} first", "429", times=None)
    fail(fake_provider, f"{question} second", "429")
    assert done(list(stream(context(owner, retries=1), question)))
    assert models(owner) == [("first", "void"), ("second", "void"), ("first", "void"), ("second", "settled")]


def test_of_all_errors_the_one_is_told_after_which_another_try_can_succeed(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, f"{question} first", "401", times=None)
    fail(fake_provider, f"{question} second", "503", times=None)
    with pytest.raises(ProviderUnavailableError):
        list(stream(context(owner), question))
    assert operation(owner).state == "pending"


def test_when_none_can_succeed_the_error_is_that_of_the_model_that_was_chosen(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, f"{question} first", "401", times=None)
    fail(fake_provider, f"{question} second", "400", times=None)
    with pytest.raises(ProviderAuthenticationError):
        list(stream(context(owner), question))
    assert (operation(owner).state, operation(owner).error_code) == ("failed", "provider_authentication")


@pytest.mark.parametrize("error", [InvalidRequestError("It is too long."), ProviderNotConfiguredError("No key.")])
def test_a_model_that_cannot_even_be_asked_is_passed_over(
    owner: Persona, fake_provider: FakeProvider, question: str, error: Exception
) -> None:
    choices = (Choice(provider="fake", model="first", request=raising(error)), choice("second", question))
    assert done(list(stream(context(owner), question, *choices)))
    assert models(owner) == [("second", "settled")]


def test_the_next_one_is_only_made_when_it_is_needed(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    choices = (choice("first", question), Choice(provider="fake", model="second", request=raising(AssertionError())))
    assert done(list(stream(context(owner), question, *choices)))


def test_what_was_bought_is_given_again_whichever_model_had_answered(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    ctx = context(owner)
    fail(fake_provider, f"{question} first", "400", times=None)
    answer = done(list(stream(ctx, question))).completion
    again = done(list(stream(ctx, question))).completion
    assert (again.text, again.counts, again.replayed) == (answer.text, answer.counts, True)
    gone = ProviderNotConfiguredError("No key.")
    choices = [Choice(provider="fake", model="first", request=raising(gone)) for _ in range(2)]
    assert done(list(stream(ctx, question, *choices))).completion.text == answer.text


def test_what_a_model_had_shown_before_it_broke_off_is_void(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, f"{question} first", "cut", events=4)
    events = list(stream(context(owner), question))
    assert kinds(events) == ["Delta", "Reset", "Delta", "Done"]
    assert shown(events) == done(events).completion.text
    assert models(owner) == [("first", "unknown"), ("second", "settled")]
    assert (
        check_books(owner.ctx).held_tokens
        >= counted(fake_provider, owner) - done(events).completion.counts.total_tokens
    )


def test_what_had_come_is_the_answer_where_that_is_wanted_and_nobody_else_is_asked(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, f"{question} first", "cut", events=4)
    answer = done(list(stream(context(owner), question, partial="keep"))).completion
    assert answer.finish_reason == streaming.INTERRUPTED
    assert models(owner) == [("first", "unknown")]


def test_left_at_the_second_model_it_is_charged_what_that_one_was_seen_to_consume(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, f"{question} first", "429")
    with closing(stream(context(owner), question)) as events:
        assert isinstance(next(events), Delta)
    [entry] = entries(owner)
    assert (entry.model, entry.token_source) == ("second", "estimated")
    assert operation(owner).state == "cancelled"


def test_each_call_has_a_hold_of_its_own(make_tenant: MakeTenant, fake_provider: FakeProvider, question: str) -> None:
    request = request_of("first", question)
    one = tokens.upper_bound_chat(request, provider="fake") + request.max_tokens
    poor = make_tenant(limit=one + one // 2)
    fail(fake_provider, f"{question} first", "500", times=None)
    fail(fake_provider, f"{question} second", "400", times=None)
    with pytest.raises(ProviderUnavailableError):
        list(stream(context(poor), question))
    # What the first call is in doubt about leaves nothing for a second one.
    assert models(poor) == [("first", "unknown")]
    assert operation(poor).state == "pending"


def test_a_fallback_that_the_budget_does_not_cover_keeps_the_first_from_no_other_try(
    make_tenant: MakeTenant, fake_provider: FakeProvider, question: str
) -> None:
    poor = make_tenant(limit=5000)
    long = replace(request_of("second", question), max_tokens=50_000)
    fail(fake_provider, f"{question} first", "429")
    dear = Choice(provider="fake", model="second", request=lambda: long)
    assert done(list(stream(context(poor, retries=1), question, choice("first", question), dear)))
    assert models(poor) == [("first", "void"), ("first", "settled")]


def test_a_pause_that_one_provider_asks_for_is_kept_while_another_is_asked_again(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, f"{question} first", "429", times=None, retry_after="15")
    fail(fake_provider, f"{question} second", "503", times=None)
    with pytest.raises(ProviderUnavailableError):
        list(stream(context(owner, retries=2), question))
    assert models(owner) == [("first", "void")] + [("second", "unknown")] * 3


def test_when_the_time_is_over_no_other_is_asked(owner: Persona, fake_provider: FakeProvider, question: str) -> None:
    fail(fake_provider, f"{question} first", "stall", seconds=4, times=None)
    ctx = context(owner, timeout=600, retries=3)
    ctx = ctx.model_copy(update={"deadline": clock.now() + timedelta(seconds=1)})
    with pytest.raises(ProviderTimeoutError):
        list(stream(ctx, question))
    assert models(owner) == [("first", "unknown")]


def test_no_call_is_made_when_a_pause_would_take_what_time_is_left(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, question, "429", times=None, retry_after="4")
    ctx = context(owner, retries=3).model_copy(update={"deadline": clock.now() + timedelta(seconds=2)})
    with pytest.raises(ProviderRateLimitedError):
        list(stream(ctx, question))
    assert models(owner) == [("first", "void"), ("second", "void")]


def test_no_call_begins_when_the_time_is_over(owner: Persona, fake_provider: FakeProvider, question: str) -> None:
    fail(fake_provider, question, "500", times=None)
    deadline = clock.now() + timedelta(seconds=0.5)
    with pytest.raises(ProviderUnavailableError):
        list(stream(context(owner, retries=9).model_copy(update={"deadline": deadline}), question))
    # A hold that is taken a moment before is written a moment after.
    moment = timedelta(seconds=0.3)
    assert all(attempt.opened_at < deadline + moment for attempt in attempts(owner))


def late(ctx: ExecutionContext) -> ExecutionContext:
    return ctx.model_copy(update={"deadline": clock.now() - timedelta(seconds=1)})


def test_no_call_begins_where_the_time_was_over_before(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    with pytest.raises(ProviderTimeoutError):
        list(stream(late(context(owner, retries=3)), question))
    assert models(owner) == []


def test_what_was_bought_is_given_though_the_time_is_over(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    ctx = context(owner)
    answer = done(list(stream(ctx, question))).completion
    assert done(list(stream(late(ctx), question))).completion == replace(answer, replayed=True)


def test_what_is_left_of_a_pause_is_what_is_told_of_it(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, f"{question} first", "429", times=None, retry_after="15")
    fail(fake_provider, f"{question} second", "503")
    fail(fake_provider, f"{question} second", "401", times=None)
    with pytest.raises(ProviderRateLimitedError) as refused:
        list(stream(context(owner, retries=1), question))
    assert models(owner) == [("first", "void"), ("second", "unknown"), ("second", "void")]
    assert 0 < (refused.value.retry_after or 0) < 15


def test_a_chosen_model_that_the_budget_does_not_cover_leaves_it_to_one_that_it_does(
    make_tenant: MakeTenant, fake_provider: FakeProvider, question: str
) -> None:
    poor = make_tenant(limit=5000)
    long = replace(request_of("first", question), max_tokens=50_000)
    dear = Choice(provider="fake", model="first", request=lambda: long)
    assert done(list(stream(context(poor), question, dear, choice("second", question))))
    assert models(poor) == [("second", "settled")]
    with pytest.raises(BudgetExceededError):
        list(stream(context(poor), f"{question} again", dear))


def dead(ctx: ExecutionContext, question: str, model: str, *, provider: str) -> UUID:
    """A worker that died when it had called that model."""
    charge, _ = asked(question)
    held = till.hold(ctx, charge, Call(provider=provider, model=model, hold_tokens=500, deadline_seconds=30))
    assert isinstance(held, Admitted)
    registry.chat(provider).complete(request_of(model, question), request_id=str(held.attempt_id), timeout=10)
    expire_lease(ctx, held)
    return held.attempt_id


@pytest.mark.parametrize("model", ["first", "second"])
def test_a_dead_workers_call_is_asked_about_at_the_model_that_it_was_made_to(
    owner: Persona, fake_provider: FakeProvider, question: str, model: str
) -> None:
    ctx = context(owner)
    attempt_id = dead(ctx, question, model, provider="askable")
    choices = [choice(name, question, provider="askable") for name in ("first", "second")]
    assert done(list(stream(ctx, question, *choices)))
    [attempt] = attempts(owner)
    assert (attempt.id, attempt.model, attempt.state) == (attempt_id, model, "settled")
    assert check_books(owner.ctx).spent_tokens == counted(fake_provider, owner)


def test_a_dead_workers_call_is_asked_about_though_another_model_comes_first(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    ctx = context(owner)
    dead(ctx, question, "second", provider="askable")
    choices = (choice("first", question), choice("second", question, provider="askable"))
    assert done(list(stream(ctx, question, *choices)))
    assert models(owner) == [("second", "settled")]


def test_a_model_that_cannot_be_asked_as_its_offer_cannot_be_made_is_asked_when_it_can(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    ctx, tries = context(owner, retries=1), [ProviderUnreachableError("No name server.")] * 2
    dead(ctx, question, "first", provider="askable")
    fail(fake_provider, f"{question} second", "429")

    def request() -> ChatRequest:
        if tries:
            raise tries.pop()
        return request_of("first", question)

    first = Choice(provider="askable", model="first", request=request)
    assert done(list(stream(ctx, question, first, choice("second", question))))
    assert models(owner) == [("first", "settled"), ("second", "void")]
    assert check_books(owner.ctx).spent_tokens == counted(fake_provider, owner)


def test_a_model_whose_offer_could_not_be_made_is_tried_again_though_nothing_was_held(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    tries = [ProviderUnreachableError("No name server.")]

    def request() -> ChatRequest:
        if tries:
            raise tries.pop()
        return request_of("first", question)

    first = Choice(provider="fake", model="first", request=request)
    assert done(list(stream(context(owner, retries=1), question, first)))
    assert models(owner) == [("first", "settled")]


@pytest.fixture
def gone(settings: Any) -> Iterator[str]:
    """A provider that could be asked, if it were there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    settings.NOOBLE_PROVIDERS["gone"] = {
        **settings.NOOBLE_PROVIDERS["askable"],
        "base_url": f"http://127.0.0.1:{port}/v1",
    }
    yield "gone"
    del settings.NOOBLE_PROVIDERS["gone"]


@pytest.mark.parametrize("failures", [0, 1])
def test_a_model_that_cannot_be_asked_about_a_call_is_not_called_and_keeps_no_other_from_answering(
    owner: Persona, fake_provider: FakeProvider, question: str, gone: str, failures: int
) -> None:
    ctx = context(owner, retries=failures)
    charge, _ = asked(question)
    held = till.hold(ctx, charge, Call(provider=gone, model="first", hold_tokens=500, deadline_seconds=30))
    assert isinstance(held, Admitted)
    expire_lease(ctx, held)
    fail(fake_provider, f"{question} second", "429", times=failures)
    assert done(list(stream(ctx, question, choice("first", question, provider=gone), choice("second", question))))
    assert models(owner) == [("first", "unknown"), *[("second", "void")] * failures, ("second", "settled")]
    assert check_books(owner.ctx).held_tokens == 500


@pytest.mark.parametrize(
    ("provider", "error"),
    [
        ("away", ZeroDivisionError("It is not come to.")),
        ("fake", InvalidRequestError("It is too long now.")),
        ("fake", ProviderNotConfiguredError("Its key is gone.")),
    ],
)
def test_a_model_that_is_not_to_be_had_any_more_keeps_no_other_from_answering(
    owner: Persona, fake_provider: FakeProvider, question: str, provider: str, error: Exception
) -> None:
    """A worker died over its call; by now its provider is none of this deployment's, or its window is smaller."""
    ctx = context(owner)
    charge, _ = asked(question)
    held = till.hold(ctx, charge, Call(provider=provider, model="first", hold_tokens=500, deadline_seconds=30))
    assert isinstance(held, Admitted)
    expire_lease(ctx, held)
    first = Choice(provider=provider, model="first", request=raising(error))
    assert done(list(stream(ctx, question, first, choice("second", question))))
    assert models(owner) == [("first", "unknown"), ("second", "settled")]
