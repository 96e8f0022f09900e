"""Unknown attempts of operations that have ended: asked about, resolved, or given up after the grace period."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db.models.functions import Now

from apps.core.db import operator_scope, unit_of_work
from apps.gateway import resolution
from apps.ledger import adjustments, sweeping, till
from apps.ledger.models import Attempt, Budget, Discrepancy, Entry, Operation
from apps.ledger.reconciliation import reconcile
from apps.ledger.types import Admitted, Call, Charge, OperationKind, OperationState, TokenCounts, TokenType
from apps.providers import registry
from apps.providers.base import ChatMessage, ChatRequest, ChatResult
from tests.fakes.process import FakeProvider
from tests.ledger.test_till import check_books, expire_lease, hold_as_another
from tests.personas import Persona

REQUEST = ChatRequest(model="fake-chat", messages=(ChatMessage(role="user", content="Who goes there?"),), max_tokens=50)
ESTIMATE = TokenCounts(fresh_input_tokens=5, plain_output_tokens=1, source="estimated")


def held(owner: Persona, *, provider: str = "askable", hold_tokens: int = 1000) -> Admitted:
    charge = Charge(operation=OperationKind.CHAT, token_type=TokenType.LLM, payload={"question": str(uuid4())})
    call = Call(provider=provider, model="fake-chat", hold_tokens=hold_tokens, deadline_seconds=30)
    admitted = till.hold(owner.ctx, charge, call)
    assert isinstance(admitted, Admitted)
    return admitted


def failed(owner: Persona, admitted: Admitted) -> Admitted:
    assert till.fail(owner.ctx, admitted.operation_id, epoch=admitted.epoch, code="x", detail="x")
    return admitted


def called(admitted: Admitted, provider: str = "askable") -> ChatResult:
    return registry.chat(provider).complete(REQUEST, request_id=str(admitted.attempt_id), timeout=10)


def attempt(owner: Persona, admitted: Admitted) -> Attempt:
    with unit_of_work(owner.ctx):
        return Attempt.objects.get(pk=admitted.attempt_id)


def test_what_the_provider_counted_for_nothing_is_lost_and_billed_to_nobody(
    owner: Persona, fake_provider: FakeProvider
) -> None:
    doubtful = failed(owner, held(owner))
    answer = called(doubtful)
    assert answer.usage
    assert resolution.resolve_unknown() >= 1
    closed = attempt(owner, doubtful)
    assert (closed.state, closed.held_tokens) == ("lost", 0)
    assert closed.input_tokens + closed.output_tokens == answer.usage.total_tokens
    books = check_books(owner.ctx)
    assert (books.entries, books.spent_tokens, books.held_tokens) == (0, 0, 0)


def test_what_the_provider_never_saw_is_void(owner: Persona, fake_provider: FakeProvider) -> None:
    doubtful = failed(owner, held(owner))
    resolution.resolve_unknown()
    assert attempt(owner, doubtful).state == "void"
    assert check_books(owner.ctx).held_tokens == 0


def test_an_entry_at_an_estimate_is_corrected_when_the_provider_tells(
    owner: Persona, fake_provider: FakeProvider
) -> None:
    doubtful = held(owner)
    answer = called(doubtful)
    assert answer.usage
    till.settle_partly(
        owner.ctx, doubtful.attempt_id, ESTIMATE, state=OperationState.CANCELLED, result={"text": "Stran"}
    )
    before = check_books(owner.ctx)
    assert (before.spent_tokens, before.held_tokens) == (6, 994)
    resolution.resolve_unknown()
    assert attempt(owner, doubtful).state == "settled"
    after = check_books(owner.ctx)
    assert (after.entries, after.spent_tokens, after.held_tokens) == (2, answer.usage.total_tokens, 0)


def test_what_an_operator_corrected_before_the_truth_came_is_not_counted_twice(
    owner: Persona, fake_provider: FakeProvider
) -> None:
    doubtful = held(owner)
    answer = called(doubtful)
    assert answer.usage
    till.settle_partly(owner.ctx, doubtful.attempt_id, ESTIMATE, state=OperationState.DONE, result={"text": "Stran"})
    with unit_of_work(owner.ctx):
        estimate = Entry.objects.get()
    more = TokenCounts(plain_output_tokens=3, source="estimated")
    adjustments.adjust(estimate.pk, more, reason="It said more.", actor="ada")
    resolution.resolve_unknown()
    books = check_books(owner.ctx)
    assert (books.entries, books.spent_tokens) == (3, answer.usage.total_tokens)


def test_an_entry_at_an_estimate_is_taken_back_when_the_provider_never_saw_the_call(
    owner: Persona, fake_provider: FakeProvider
) -> None:
    doubtful = held(owner)
    till.settle_partly(owner.ctx, doubtful.attempt_id, ESTIMATE, state=OperationState.DONE, result={"text": "Stran"})
    resolution.resolve_unknown()
    assert attempt(owner, doubtful).state == "void"
    books = check_books(owner.ctx)
    assert (books.entries, books.spent_tokens, books.held_tokens) == (2, 0, 0)


def test_a_pending_operation_is_left_to_its_driver(owner: Persona, fake_provider: FakeProvider) -> None:
    doubtful = held(owner)
    till.mark_unknown(owner.ctx, doubtful.attempt_id)
    resolution.resolve_unknown()
    assert attempt(owner, doubtful).state == "unknown"


def test_a_provider_that_cannot_be_asked_is_not_asked_and_the_hold_stays(
    owner: Persona, fake_provider: FakeProvider
) -> None:
    doubtful = failed(owner, held(owner, provider="fake"))
    resolution.resolve_unknown()
    assert attempt(owner, doubtful).state == "unknown"
    assert check_books(owner.ctx).held_tokens == 1000


@pytest.mark.parametrize("age", [timedelta(hours=23), timedelta(hours=25)])
def test_a_hold_is_given_up_after_the_grace_period_and_not_before(owner: Persona, age: timedelta) -> None:
    doubtful = failed(owner, held(owner, provider="fake"))
    with operator_scope("test"):
        Attempt.objects.filter(pk=doubtful.attempt_id).update(deadline=Now() - age)
    sweeping.give_up()
    closed = attempt(owner, doubtful)
    over = age > timedelta(hours=24)
    assert (closed.state, closed.held_tokens) == (("lost", 0) if over else ("unknown", 1000))
    assert check_books(owner.ctx).held_tokens == closed.held_tokens
    with unit_of_work(owner.ctx):
        assert Discrepancy.objects.filter(kind="lost_attempt", amount_tokens=1000).exists() is over


def test_a_budget_that_was_damaged_keeps_no_other_tenants_hold(owner: Persona, stranger: Persona) -> None:
    mine, theirs = (failed(persona, held(persona, provider="fake")) for persona in (owner, stranger))
    with operator_scope("test"):
        Attempt.objects.filter(pk__in=[mine.attempt_id, theirs.attempt_id]).update(deadline=Now() - timedelta(hours=25))
        Budget.objects.filter(tenant_id=owner.tenant.pk).update(held_tokens=0, day_held_tokens=0)
    sweeping.give_up()
    assert (attempt(owner, mine).state, attempt(stranger, theirs).state) == ("lost", "lost")
    assert check_books(owner.ctx).held_tokens == check_books(stranger.ctx).held_tokens == 0


def test_a_budget_that_was_damaged_keeps_no_paid_call_from_being_booked(owner: Persona) -> None:
    first, second = held(owner), held(owner)
    with operator_scope("test"):
        Budget.objects.filter(tenant_id=owner.tenant.pk).delete()
    reconcile(started_by="test")
    assert check_books(owner.ctx).held_tokens == 2000
    for admitted in (first, second):
        till.settle(owner.ctx, admitted.attempt_id, ESTIMATE, result={"text": "It is here."})
    reconcile(started_by="test")
    books = check_books(owner.ctx)
    assert (books.spent_tokens, books.held_tokens) == (12, 0)


def test_a_late_answer_ends_the_operation_under_the_hands_of_whoever_took_it_over(owner: Persona) -> None:
    ctx = owner.ctx
    charge = Charge(operation=OperationKind.CHAT, token_type=TokenType.LLM, payload={"question": str(uuid4())})
    calls = [Call(provider="fake", model="fake-chat", hold_tokens=1000, deadline_seconds=30) for _ in range(2)]
    slept = till.hold(ctx, charge, calls[0])
    assert isinstance(slept, Admitted)
    expire_lease(ctx, slept)
    hold_as_another(ctx, charge, calls[1])
    assert not till.settle(ctx, slept.attempt_id, ESTIMATE, result={"text": "late"}).late
    with unit_of_work(ctx):
        assert Attempt.objects.get(pk=calls[1].attempt_id).state == "unknown"
    assert till.settle(ctx, calls[1].attempt_id, ESTIMATE, result={"text": "later"}).late
    books = check_books(ctx)
    assert (books.entries, books.spent_tokens, books.held_tokens) == (1, 6, 0)


def test_a_late_answer_after_the_hold_was_given_up_changes_nothing(owner: Persona) -> None:
    doubtful = held(owner, provider="fake")
    with operator_scope("test"):
        Attempt.objects.filter(pk=doubtful.attempt_id).update(state="unknown", deadline=Now() - timedelta(hours=25))
        Operation.objects.filter(pk=doubtful.operation_id).update(lease_expires_at=Now())
    sweeping.give_up()
    failed(owner, doubtful)
    settled = till.settle(owner.ctx, doubtful.attempt_id, ESTIMATE, result={"text": "late"})
    assert (settled.late, settled.state, settled.result) == (True, OperationState.FAILED, {})
    closed = attempt(owner, doubtful)
    assert (closed.state, closed.input_tokens + closed.output_tokens) == ("lost", 0)
    assert check_books(owner.ctx).entries == 0
