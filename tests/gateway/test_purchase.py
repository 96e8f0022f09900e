"""Buying at a provider that fails in every way: what is paid, what is held, what is asked."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from django.db import connection

from apps.core import clock
from apps.core.context import EmbeddingConfig, ExecutionContext, LLMConfig, ProcessingConfig
from apps.core.db import unit_of_work
from apps.core.errors import NoobleError
from apps.gateway import services as gateway
from apps.gateway.errors import CallInTransactionError
from apps.gateway.services import Completion
from apps.gateway.types import Charge, OperationKind, TokenType
from apps.ledger import till
from apps.ledger.errors import BudgetExceededError, OperationEndedError, OperationInProgressError
from apps.ledger.models import Attempt, Entry, Operation
from apps.ledger.types import Admitted, Call, TokenCounts
from apps.providers.base import ChatMessage, ChatRequest, Vectors
from apps.providers.errors import (
    ProviderBadResponseError,
    ProviderInterruptedError,
    ProviderRateLimitedError,
    ProviderRefusedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from tests.fakes.faults import USAGES
from tests.fakes.process import FakeProvider
from tests.faults.scene import wait_until
from tests.ledger.test_till import check_books, expire_lease
from tests.personas import MakeTenant, Persona

EMBEDDING = EmbeddingConfig(provider="fake", model="fake-embedding", dimensions=16)


def context(persona: Persona, *, retries: int = 0, timeout: int = 10, provider: str = "fake") -> ExecutionContext:
    config = LLMConfig(
        provider=provider, model="m", temperature=0, max_tokens=50, timeout_seconds=timeout, retry_attempts=retries
    )
    deadline = clock.now() + timedelta(seconds=60)
    return persona.ctx.model_copy(update={"llm_config": config, "deadline": deadline})


def asked(question: str) -> tuple[Charge, ChatRequest]:
    charge = Charge(operation=OperationKind.CHAT, token_type=TokenType.LLM, payload={"question": question})
    message = ChatMessage(role="user", content=question)
    return charge, ChatRequest(model="fake-chat", messages=(message,), max_tokens=50)


def complete(ctx: ExecutionContext, question: str) -> Completion:
    assert ctx.llm_config is not None
    charge, request = asked(question)
    return gateway.complete(ctx, charge, request, provider=ctx.llm_config.provider)


def states(persona: Persona) -> list[str]:
    with unit_of_work(persona.ctx):
        return list(Attempt.objects.order_by("number").values_list("state", flat=True))


def operation(persona: Persona) -> Operation:
    with unit_of_work(persona.ctx):
        return Operation.objects.get()


def counted(fake: FakeProvider, persona: Persona) -> int:
    """What the provider itself counted for this tenant."""
    with unit_of_work(persona.ctx):
        ids = {str(pk) for pk in Attempt.objects.values_list("pk", flat=True)}
    return sum(line["total"] for line in fake.tally() if line["request_id"] in ids)


def fail(fake: FakeProvider, question: str, kind: str, **fault: Any) -> None:
    fake.fail(kind, match={"contains": question}, **fault)


def test_an_answer_is_paid_as_the_provider_counted_it(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    answer = complete(context(owner), question)
    assert answer.text
    assert not answer.replayed
    assert check_books(owner.ctx).spent_tokens == counted(fake_provider, owner) == answer.counts.total_tokens
    with unit_of_work(owner.ctx):
        entry = Entry.objects.get()
    assert (entry.token_source, entry.provider, entry.model) == ("api", "fake", "fake-chat")
    assert entry.provider_request_id
    assert entry.metadata["execution_time_ms"] >= 0


def test_asked_again_it_is_answered_without_a_call(owner: Persona, fake_provider: FakeProvider, question: str) -> None:
    ctx = context(owner)
    first = complete(ctx, question)
    second = complete(ctx, question)
    assert (second.text, second.counts, second.replayed) == (first.text, first.counts, True)
    assert states(owner) == ["settled"]


def test_asked_twice_at_once_it_is_called_once(owner: Persona, fake_provider: FakeProvider, question: str) -> None:
    fail(fake_provider, question, "slow", seconds=1)
    ctx = context(owner)

    def ask(_: int) -> str:
        try:
            return complete(ctx, question).text
        except OperationInProgressError:
            return "busy"
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(ask, range(2)))
    assert answers.count("busy") == 1
    assert states(owner) == ["settled"]


@pytest.mark.parametrize(
    ("kind", "error", "state"),
    [
        ("429", ProviderRateLimitedError, "void"),
        ("400", ProviderRefusedError, "void"),
        ("500", ProviderUnavailableError, "unknown"),
        ("503", ProviderUnavailableError, "unknown"),
        ("close", ProviderInterruptedError, "unknown"),
        ("drop", ProviderInterruptedError, "unknown"),
        ("malformed", ProviderBadResponseError, "unknown"),
    ],
)
def test_a_hold_is_released_on_proof_only(
    owner: Persona, fake_provider: FakeProvider, question: str, kind: str, error: type[NoobleError], state: str
) -> None:
    fail(fake_provider, question, kind, times=None)
    with pytest.raises(error):
        complete(context(owner), question)
    assert states(owner) == [state]
    books = check_books(owner.ctx)
    assert books.entries == 0
    assert (books.held_tokens > 0) == (state == "unknown")
    assert counted(fake_provider, owner) <= books.held_tokens


def test_a_time_out_proves_nothing(owner: Persona, fake_provider: FakeProvider, question: str) -> None:
    fail(fake_provider, question, "stall", seconds=3)
    with pytest.raises(ProviderTimeoutError):
        complete(context(owner, timeout=1), question)
    assert states(owner) == ["unknown"]
    assert 0 < counted(fake_provider, owner) <= check_books(owner.ctx).held_tokens


@pytest.mark.parametrize(("kind", "first"), [("429", "void"), ("500", "unknown"), ("drop", "unknown")])
def test_a_failed_call_is_made_again_as_a_new_attempt(
    owner: Persona, fake_provider: FakeProvider, question: str, kind: str, first: str
) -> None:
    fail(fake_provider, question, kind, times=2)
    answer = complete(context(owner, retries=2), question)
    assert answer.text
    assert states(owner) == [first, first, "settled"]
    books = check_books(owner.ctx)
    assert (books.entries, books.spent_tokens) == (1, answer.counts.total_tokens)


def test_retry_after_is_honoured(owner: Persona, fake_provider: FakeProvider, question: str) -> None:
    fail(fake_provider, question, "429", retry_after="1")
    began = clock.now()
    complete(context(owner, retries=1), question)
    assert (clock.now() - began).total_seconds() >= 1


def test_a_refusal_is_not_tried_again_and_ends_the_operation(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, question, "400", times=None)
    ctx = context(owner, retries=3)
    with pytest.raises(ProviderRefusedError):
        complete(ctx, question)
    assert states(owner) == ["void"]
    assert operation(owner).state == "failed"
    with pytest.raises(OperationEndedError):
        complete(ctx, question)


def test_after_retries_that_may_still_succeed_the_operation_waits(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, question, "429", times=1)
    ctx = context(owner)
    with pytest.raises(ProviderRateLimitedError):
        complete(ctx, question)
    assert operation(owner).state == "pending"
    assert complete(ctx, question).text
    assert states(owner) == ["void", "settled"]


@pytest.mark.parametrize("kind", ["drop", "500"])
def test_a_provider_that_can_be_asked_is_asked_before_it_is_called_again(
    owner: Persona, fake_provider: FakeProvider, question: str, kind: str
) -> None:
    fail(fake_provider, question, kind)
    answer = complete(context(owner, retries=1, provider="askable"), question)
    assert answer.text
    # Dropped: it was counted, so its answer is taken. 500: it was not, so the hold is released and it is called again.
    assert states(owner) == (["settled"] if kind == "drop" else ["void", "settled"])
    assert check_books(owner.ctx).spent_tokens == counted(fake_provider, owner)
    assert check_books(owner.ctx).held_tokens == 0


def test_what_a_dead_worker_left_is_asked_about(owner: Persona, fake_provider: FakeProvider, question: str) -> None:
    ctx = context(owner, provider="askable")
    charge, _ = asked(question)
    call = Call(provider="askable", model="fake-chat", hold_tokens=500, deadline_seconds=30)
    held = till.hold(ctx, charge, call)
    assert isinstance(held, Admitted)
    expire_lease(ctx, held)
    assert complete(ctx, question).text
    assert states(owner) == ["void", "settled"]
    assert check_books(owner.ctx).held_tokens == 0


def test_a_late_answer_of_another_worker_is_taken_instead_of_another_call(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    """The call fails; before it is made again, a worker that had slept past its lease settles its own attempt."""
    ctx = context(owner, retries=1)
    charge, _ = asked(question)
    call = Call(provider="fake", model="fake-chat", hold_tokens=500, deadline_seconds=30)
    slept = till.hold(ctx, charge, call)
    assert isinstance(slept, Admitted)
    expire_lease(ctx, slept)
    fail(fake_provider, question, "429", retry_after="2")

    def wake_up() -> None:
        try:
            wait_until(lambda: states(owner) == ["unknown", "void"], seconds=20)
            result = {"text": "late", "finish_reason": "stop", "provider": "fake", "model": "m"}
            till.settle(ctx, slept.attempt_id, TokenCounts(fresh_input_tokens=7), result=result)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        waking = pool.submit(wake_up)
        answer = complete(ctx, question)
        waking.result()
    assert (answer.text, answer.replayed) == ("late", True)
    assert states(owner) == ["settled", "void"]
    assert check_books(owner.ctx).spent_tokens == 7


@pytest.mark.parametrize("kind", ["no_usage", "zero_usage", "negative_usage", "absurd_usage", "text_usage"])
def test_usage_that_cannot_be_is_estimated_and_flagged(
    owner: Persona, fake_provider: FakeProvider, question: str, kind: str
) -> None:
    fail(fake_provider, question, kind)
    answer = complete(context(owner), question)
    assert answer.counts.source == "estimated"
    assert answer.counts.input_tokens > 0
    assert answer.counts.output_tokens > 0
    books = check_books(owner.ctx)
    assert books.spent_tokens == answer.counts.total_tokens < 10_000
    with unit_of_work(owner.ctx):
        assert Entry.objects.get().token_source == "estimated"
        # What was said and not believed can be looked up.
        assert Attempt.objects.get().raw_usage == (USAGES[kind] or {})


def test_a_hold_bounds_what_the_provider_counts(owner: Persona, fake_provider: FakeProvider) -> None:
    complete(context(owner), f"{uuid4().hex} «¿Cuántos?» 漢字かな交じり文 🦀🦀🦀 " * 20)
    with unit_of_work(owner.ctx):
        attempt = Attempt.objects.get()
    assert attempt.overage_tokens == 0
    assert counted(fake_provider, owner) <= attempt.hold_tokens


def test_without_budget_no_call_is_made(make_tenant: MakeTenant, fake_provider: FakeProvider, question: str) -> None:
    poor = make_tenant(limit=10)
    with pytest.raises(BudgetExceededError):
        complete(context(poor), question)
    assert not any(question in str(arrival["body"]) for arrival in fake_provider.arrivals())


def test_no_call_is_made_inside_a_transaction(owner: Persona, fake_provider: FakeProvider, question: str) -> None:
    with pytest.raises(CallInTransactionError), unit_of_work(owner.ctx):
        complete(context(owner), question)


def test_a_queries_vector_is_replayed_as_it_was(owner: Persona, fake_provider: FakeProvider) -> None:
    ctx = context(owner)
    charge = Charge(operation=OperationKind.QUERY, token_type=TokenType.EMBEDDING, payload={"q": uuid4()})
    first = gateway.embed(ctx, charge, ["a question"], config=EMBEDDING, input_type="query")
    second = gateway.embed(ctx, charge, ["a question"], config=EMBEDDING, input_type="query")
    assert first.vectors is not None
    assert second.vectors is not None
    assert first.vectors.shape == (1, 16)
    assert second.replayed
    np.testing.assert_array_equal(first.vectors, second.vectors)
    assert check_books(owner.ctx).spent_tokens == counted(fake_provider, owner)


def test_vectors_are_stored_in_the_transaction_that_books_them(owner: Persona, fake_provider: FakeProvider) -> None:
    ctx = context(owner)
    charge = Charge(operation=OperationKind.BATCH, token_type=TokenType.EMBEDDING, payload={"batch": uuid4()})
    stored: list[Vectors] = []

    def break_down(vectors: Vectors) -> Mapping[str, Any]:
        stored.append(vectors)
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError):
        gateway.embed(ctx, charge, ["one", "two"], config=EMBEDDING, store=break_down)
    assert check_books(owner.ctx).entries == 0
    assert states(owner) == ["open"]
    assert stored[0].shape == (2, 16)


def test_a_vector_of_another_length_is_never_stored(owner: Persona, fake_provider: FakeProvider) -> None:
    charge = Charge(operation=OperationKind.BATCH, token_type=TokenType.EMBEDDING, payload={"batch": uuid4()})
    marker = uuid4().hex
    fake_provider.fail("shape", match={"contains": marker}, times=None)
    with pytest.raises(ProviderBadResponseError):
        gateway.embed(context(owner), charge, [marker, "two"], config=EMBEDDING)
    with unit_of_work(owner.ctx):
        attempts = list(Attempt.objects.all())
    assert {attempt.state for attempt in attempts} == {"lost"}
    assert sum(attempt.input_tokens for attempt in attempts) == counted(fake_provider, owner) > 0
    assert all(attempt.provider_request_id and attempt.raw_usage for attempt in attempts)
    assert check_books(owner.ctx).held_tokens == 0


def processing(**values: Any) -> ProcessingConfig:
    sizes = {"max_text_length": 100, "batch_size": 1, "chunk_size": 64, "chunk_overlap": 0}
    return ProcessingConfig(**{**sizes, **values})


@pytest.mark.parametrize("retries", [0, 2])
def test_vectors_are_asked_for_again_as_often_as_their_work_says(
    owner: Persona, fake_provider: FakeProvider, retries: int
) -> None:
    ctx = context(owner, retries=9).model_copy(update={"processing_config": processing(retry_attempts=retries)})
    charge = Charge(operation=OperationKind.BATCH, token_type=TokenType.EMBEDDING, payload={"batch": uuid4()})
    marker = uuid4().hex
    fail(fake_provider, marker, "429", times=None, retry_after_ms="1")
    with pytest.raises(ProviderRateLimitedError):
        gateway.embed(ctx, charge, [marker], config=EMBEDDING)
    assert states(owner) == ["void"] * (1 + retries)


def test_vectors_are_waited_for_as_long_as_their_work_says(owner: Persona, fake_provider: FakeProvider) -> None:
    work = processing(retry_attempts=0, timeout_seconds=1)
    charge = Charge(operation=OperationKind.BATCH, token_type=TokenType.EMBEDDING, payload={"batch": uuid4()})
    marker = uuid4().hex
    fail(fake_provider, marker, "stall", seconds=3)
    with pytest.raises(ProviderTimeoutError):
        gateway.embed(owner.ctx.model_copy(update={"processing_config": work}), charge, [marker], config=EMBEDDING)
    assert states(owner) == ["unknown"]
