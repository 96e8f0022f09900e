"""Answers that came and were counted, and cannot be used: the provider's word is not lost with them."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Never

import pytest

from apps.core.context import ExecutionContext
from apps.gateway import sellers
from apps.gateway.offers import Bought, Buyer, Offer, Option, at_once
from apps.gateway.purchase import buy
from apps.gateway.services import chat_offer
from apps.providers.base import ChatRequest, ChatResult
from apps.providers.errors import ProviderBadResponseError
from tests.fakes.process import FakeProvider
from tests.gateway.streams import attempts, counts_of, estimate
from tests.gateway.test_purchase import asked, context, counted, fail, operation, states
from tests.ledger.test_till import check_books
from tests.personas import Persona

Check = Callable[[ChatResult], None]


def refusing(times: int) -> Check:
    """A buyer who cannot use the first answers."""
    left = iter(range(times))

    def check(_: ChatResult) -> None:
        if next(left, None) is not None:
            raise ProviderBadResponseError("It is of no use.")

    return check


def buy_checked(ctx: ExecutionContext, question: str, check: Check) -> Bought:
    charge, request = asked(question)
    assert ctx.llm_config is not None
    offer = functools.partial(_offer, ctx, request, check)
    option = Option(provider=ctx.llm_config.provider, model=request.model, make=offer)
    return buy(ctx, charge, option, Buyer(retries=ctx.llm_config.retry_attempts))


def _offer(ctx: ExecutionContext, request: ChatRequest, check: Check) -> Offer[Never, ChatResult]:
    assert ctx.llm_config is not None
    seller = sellers.chat(ctx, ctx.llm_config.provider)
    send = at_once(lambda attempt, timeout: seller.adapter.complete(request, request_id=str(attempt), timeout=timeout))
    return replace(chat_offer(ctx, request, seller, send=send), check=check)


@pytest.mark.parametrize("provider", ["fake", "askable"])
def test_what_was_counted_for_an_unusable_answer_is_on_its_attempt_and_billed_to_nobody(
    owner: Persona, fake_provider: FakeProvider, question: str, provider: str
) -> None:
    ctx, check = context(owner, provider=provider), refusing(1)
    with pytest.raises(ProviderBadResponseError):
        buy_checked(ctx, question, check)
    [attempt] = attempts(owner)
    counts = counts_of(attempt)
    assert (attempt.state, attempt.held_tokens, counts.source) == ("lost", 0, "api")
    assert counts.total_tokens == counted(fake_provider, owner) > 0
    assert attempt.provider_request_id
    assert attempt.raw_usage
    assert attempt.raw_usage["total_tokens"] == counts.total_tokens
    books = check_books(owner.ctx)
    assert (books.entries, books.spent_tokens, books.held_tokens) == (0, 0, 0)

    assert operation(owner).state == "pending"
    bought = buy_checked(ctx, question, check)
    assert states(owner) == ["lost", "settled"]
    assert check_books(owner.ctx).spent_tokens == bought.counts.total_tokens
    assert bought.counts.total_tokens + counts.total_tokens == counted(fake_provider, owner)


def test_after_an_unusable_answer_it_is_called_again(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    bought = buy_checked(context(owner, retries=2), question, refusing(2))
    assert states(owner) == ["lost", "lost", "settled"]
    books = check_books(owner.ctx)
    assert (books.entries, books.spent_tokens, books.held_tokens) == (1, bought.counts.total_tokens, 0)
    assert sum(counts_of(attempt).total_tokens for attempt in attempts(owner)) == counted(fake_provider, owner)


def test_an_unusable_answer_without_a_count_proves_nothing(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, question, "no_usage")
    with pytest.raises(ProviderBadResponseError):
        buy_checked(context(owner), question, refusing(1))
    [attempt] = attempts(owner)
    assert (attempt.state, attempt.error_code) == ("unknown", "provider_bad_response")
    assert attempt.provider_request_id
    seen = counts_of(attempt)
    assert (seen.source, seen.input_tokens) == ("estimated", estimate(question, "").input_tokens)
    assert check_books(owner.ctx).held_tokens == attempt.hold_tokens


def test_an_unusable_answer_that_was_looked_up_is_counted_and_called_again(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, question, "drop")
    bought = buy_checked(context(owner, retries=1, provider="askable"), question, refusing(1))
    assert states(owner) == ["lost", "settled"]
    books = check_books(owner.ctx)
    assert (books.spent_tokens, books.held_tokens) == (bought.counts.total_tokens, 0)
    assert sum(counts_of(attempt).total_tokens for attempt in attempts(owner)) == counted(fake_provider, owner)
