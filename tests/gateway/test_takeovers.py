"""A lease that is lost in the pause before a call is made again: who has the operation then, and under which epoch."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from django.db.models.functions import Now

from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work
from apps.gateway.streaming import Delta
from apps.ledger import till
from apps.ledger.errors import OperationInProgressError
from apps.ledger.models import Attempt, Discrepancy, Operation
from apps.ledger.types import Admitted, Call, TokenCounts
from apps.providers import registry
from apps.providers.errors import ProviderRateLimitedError, ProviderRefusedError
from tests.fakes.process import FakeProvider
from tests.faults.scene import wait_until
from tests.gateway.streams import done, stream
from tests.gateway.test_purchase import asked, complete, context, counted, fail, operation, states
from tests.ledger.test_till import check_books, expire_lease, hold_as_another
from tests.personas import Persona


def taken_over(ctx: ExecutionContext, question: str) -> Admitted:
    """Another worker takes the operation over, whose lease has run out: its holder was away for too long."""
    assert ctx.llm_config is not None
    with unit_of_work(ctx):
        Operation.objects.update(lease_expires_at=Now() - timedelta(seconds=1))
    charge, _ = asked(question)
    call = Call(provider=ctx.llm_config.provider, model="fake-chat", hold_tokens=500, deadline_seconds=30)
    return hold_as_another(ctx, charge, call)


def let_go(ctx: ExecutionContext, question: str) -> None:
    """Another worker takes the operation over, learns that its call was not counted, and lets it go."""
    other = taken_over(ctx, question)
    till.void(ctx, other.attempt_id)
    till.release(ctx, other.operation_id, epoch=other.epoch)


def in_the_pause(owner: Persona, happen: Callable[[], object]) -> Callable[[], bool]:
    """Something that happens between the first call, which is void, and the second; nobody wants to cancel.

    Asking whether to cancel is what a purchase does just before it holds again, in its own thread.
    """

    def occasions() -> Iterator[bool]:
        while states(owner) != ["void"]:
            yield False
        happen()
        while True:
            yield False

    occasion = occasions()
    return lambda: next(occasion)


def lease_expires_at(owner: Persona) -> datetime:
    expires = operation(owner).lease_expires_at
    assert expires
    return expires


def test_the_heartbeat_keeps_an_operation_that_was_taken_back(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, question, "429")
    ctx = context(owner, retries=1)
    with closing(stream(ctx, question, cancelled=in_the_pause(owner, lambda: let_go(ctx, question)))) as events:
        assert isinstance(next(events), Delta)
        assert operation(owner).lease_epoch == 3
        before = lease_expires_at(owner)
        wait_until(lambda: lease_expires_at(owner) > before, seconds=12)
        with pytest.raises(OperationInProgressError):
            complete(ctx, question)
        assert done(list(events))
    assert states(owner) == ["void", "void", "settled"]


@pytest.mark.parametrize(
    ("kind", "error", "state"),
    [("429", ProviderRateLimitedError, "pending"), ("400", ProviderRefusedError, "failed")],
)
def test_an_operation_that_was_taken_back_is_let_go_or_failed_by_who_has_it(
    owner: Persona, fake_provider: FakeProvider, question: str, kind: str, error: type[Exception], state: str
) -> None:
    fail(fake_provider, question, "429")
    fail(fake_provider, question, kind)
    ctx = context(owner, retries=1)
    with pytest.raises(error):
        list(stream(ctx, question, cancelled=in_the_pause(owner, lambda: let_go(ctx, question))))
    assert operation(owner).state == state
    if state == "pending":
        # Nobody has to wait for a lease to run out.
        assert complete(ctx, question).text


def test_who_took_the_operation_over_and_lives_keeps_it(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, question, "429")
    ctx, others = context(owner, retries=1), list[Admitted]()
    happen = in_the_pause(owner, lambda: others.append(taken_over(ctx, question)))
    with pytest.raises(OperationInProgressError):
        list(stream(ctx, question, cancelled=happen))
    assert states(owner) == ["void", "open"]
    with pytest.raises(OperationInProgressError):
        complete(ctx, question)
    [other] = others
    assert till.fail(owner.ctx, other.operation_id, epoch=other.epoch, code="x", detail="x")


def test_what_another_worker_had_called_is_asked_about_before_it_is_called_again(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    ctx = context(owner, retries=1, provider="askable")
    _, request = asked(question)

    def call_and_die() -> None:
        other = taken_over(ctx, question)
        registry.chat("askable").complete(request, request_id=str(other.attempt_id), timeout=10)
        expire_lease(ctx, other)

    fail(fake_provider, question, "429")
    answer = done(list(stream(ctx, question, cancelled=in_the_pause(owner, call_and_die)))).completion
    assert states(owner) == ["void", "settled"]
    books = check_books(owner.ctx)
    assert (books.spent_tokens, books.held_tokens) == (counted(fake_provider, owner), 0)
    assert complete(ctx, question) == replace(answer, replayed=True)


def test_who_comes_after_anothers_answer_is_told_what_that_one_took(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    ctx = context(owner, retries=0)
    with closing(stream(ctx, question)) as events:
        assert isinstance(next(events), Delta)
        other = taken_over(ctx, question)
        theirs = {"text": "Theirs.", "finish_reason": "stop", "provider": "fake", "model": "m"}
        till.settle(ctx, other.attempt_id, TokenCounts(fresh_input_tokens=7), result=theirs)
        answer = done(list(events)).completion
    assert (answer.text, answer.counts.total_tokens, answer.replayed) == ("Theirs.", 7, True)
    assert (states(owner), check_books(owner.ctx).spent_tokens) == (["lost", "settled"], 7)


def test_an_answer_to_a_call_that_its_provider_had_not_seen_yet_is_kept_for_somebody_to_look_at(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    """Who took the operation over asked too early, was told "not seen", and has made a call of its own."""
    ctx = context(owner, retries=0)
    with closing(stream(ctx, question)) as events:
        assert isinstance(next(events), Delta)
        with unit_of_work(ctx):
            ours = Attempt.objects.get()
        taken_over(ctx, question)
        till.void(ctx, ours.pk, code="not_seen")
        with pytest.raises(OperationInProgressError):
            list(events)
    assert states(owner) == ["void", "open"]
    with unit_of_work(owner.ctx):
        noted = Discrepancy.objects.get(kind="counted_void")
    assert noted.amount_tokens == counted(fake_provider, owner)
    assert check_books(owner.ctx).entries == 0
