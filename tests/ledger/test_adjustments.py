"""Corrections: what a signed entry does to the books, and what is refused."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection

from apps.core import clock
from apps.core.db import ScopeError, unit_of_work
from apps.ledger import budgets, statements, till
from apps.ledger.adjustments import adjust
from apps.ledger.errors import AdjustmentRefusedError, IdempotencyConflictError, LedgerRowNotFoundError
from apps.ledger.models import Entry, UsageDaily
from apps.ledger.types import Call, Charge, OperationKind, TokenCounts, TokenType
from tests.ledger.test_pricing import COUNTS as PRICED_COUNTS
from tests.ledger.test_pricing import book as book_priced
from tests.ledger.test_pricing import booked, check_books, cost, entries, price, reprice
from tests.personas import MakeTenant, Persona

COUNTS = TokenCounts(fresh_input_tokens=60, cached_input_tokens=10, plain_output_tokens=20, reasoning_tokens=5)
BACK = TokenCounts(fresh_input_tokens=-60, cached_input_tokens=-10, plain_output_tokens=-20, reasoning_tokens=-5)
WHY: dict[str, Any] = {"reason": "counted twice", "actor": "ada"}


@pytest.fixture
def entry(owner: Persona) -> Entry:
    return book(owner)


def book(persona: Persona, **terms: Any) -> Entry:
    charge = Charge(
        operation=OperationKind.CHAT, token_type=TokenType.LLM, payload={"q": str(uuid4())}, agent_id=uuid4(), **terms
    )
    call = Call(provider="acme", model="unpriced", hold_tokens=100, deadline_seconds=30)
    till.hold(persona.ctx, charge, call)
    till.settle(persona.ctx, call.attempt_id, COUNTS, result={})
    with unit_of_work(persona.ctx):
        return Entry.objects.get(attempt_id=call.attempt_id)


def books(persona: Persona) -> statements.Statement:
    found = statements.statement(persona.ctx, clock.today("UTC").replace(day=1))
    assert found.differences() == []
    return found


def test_an_adjustment_names_the_entry_and_moves_statistics_and_budget(owner: Persona, entry: Entry) -> None:
    back = adjust(entry.pk, TokenCounts(fresh_input_tokens=-40, reasoning_tokens=2), **WHY)
    assert (back.kind, back.corrects_id, back.reason, back.actor) == ("adjustment", entry.pk, "counted twice", "ada")
    assert (back.fresh_input_tokens, back.reasoning_tokens, back.total_tokens) == (-40, 2, -38)
    found = books(owner)
    assert (found.entries, found.entry_tokens, found.spent_tokens) == (2, 57, 57)
    with unit_of_work(owner.ctx):
        row = UsageDaily.objects.get()
        assert budgets.current(owner.ctx).spent_tokens == 57
    assert (row.fresh_input_tokens, row.reasoning_tokens, row.entries) == (20, 7, 2)


def test_an_adjustment_says_of_whom_and_what_the_entry_was(entry: Entry) -> None:
    back = adjust(entry.pk, BACK, **WHY)
    names = ("tenant_id", "owner_tenant_id", "payer_tenant_id", "operation_ref_id", "attempt_id", "agent_id", "model")
    assert [getattr(back, name) for name in names] == [getattr(entry, name) for name in names]


def test_the_entry_stays_as_it_is(owner: Persona, entry: Entry) -> None:
    adjust(entry.pk, BACK, **WHY)
    assert entries(owner, kind="usage")[0].total_tokens == 95


def test_all_of_an_entry_can_be_taken_back(owner: Persona, entry: Entry) -> None:
    adjust(entry.pk, BACK, **WHY)
    assert books(owner).spent_tokens == 0


def test_what_is_taken_back_can_be_spent_again(make_tenant: MakeTenant) -> None:
    tenant = make_tenant(limit=150)
    adjust(book(tenant).pk, BACK, **WHY)
    book(tenant)
    assert books(tenant).spent_tokens == 95


def test_what_nobody_was_billed_for_moves_no_budget(owner: Persona) -> None:
    adjust(book(owner, billable=False).pk, BACK, **WHY)
    found = books(owner)
    assert (found.entry_tokens, found.spent_tokens) == (0, 0)


@pytest.mark.parametrize(
    "counts",
    [
        TokenCounts(fresh_input_tokens=-61),
        TokenCounts(cache_write_tokens=-1),
        # Less in all, but more than there is in one bucket.
        TokenCounts(fresh_input_tokens=60, plain_output_tokens=-21),
    ],
)
def test_no_more_is_taken_back_than_there_is(owner: Persona, entry: Entry, counts: TokenCounts) -> None:
    with pytest.raises(AdjustmentRefusedError, match="take back"):
        adjust(entry.pk, counts, **WHY)
    assert books(owner).entries == 1


def test_earlier_adjustments_count_in_what_there_is(owner: Persona, entry: Entry) -> None:
    adjust(entry.pk, TokenCounts(fresh_input_tokens=-50), **WHY)
    with pytest.raises(AdjustmentRefusedError, match="have 10"):
        adjust(entry.pk, TokenCounts(fresh_input_tokens=-11), **WHY)
    adjust(entry.pk, TokenCounts(fresh_input_tokens=-10), **WHY)
    assert books(owner).entry_tokens == 35


def test_of_many_adjustments_at_once_only_as_many_pass_as_there_are_tokens(owner: Persona, entry: Entry) -> None:
    def take_back(_: int) -> bool:
        try:
            adjust(entry.pk, TokenCounts(fresh_input_tokens=-25), **WHY)
        except AdjustmentRefusedError:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take_back, range(8))) == 2
    assert books(owner).entry_tokens == 45


def test_with_a_key_it_is_made_once(owner: Persona, entry: Entry) -> None:
    first = adjust(entry.pk, BACK, key="credit-7", **WHY)
    assert adjust(entry.pk, BACK, key="credit-7", **WHY).pk == first.pk
    assert books(owner).entries == 2
    with pytest.raises(IdempotencyConflictError):
        adjust(entry.pk, TokenCounts(fresh_input_tokens=-60, plain_output_tokens=-35), key="credit-7", **WHY)


def test_a_key_of_usage_is_no_adjustments_key(owner: Persona, entry: Entry) -> None:
    with pytest.raises(IdempotencyConflictError):
        adjust(entry.pk, COUNTS, key=entry.idempotency_key, **WHY)


@pytest.mark.parametrize(
    ("counts", "terms"),
    [
        (TokenCounts(), {}),
        (TokenCounts(), {"cost_usd": Decimal(0)}),
        (TokenCounts(fresh_input_tokens=-1.5), {}),  # type: ignore[arg-type]
        (TokenCounts(fresh_input_tokens=True), {}),
        (BACK, {"cost_usd": 0.1}),
        (BACK, {"cost_usd": Decimal("NaN")}),
        (BACK, {"reason": "  "}),
        (BACK, {"reason": "x" * 501}),
        (BACK, {"actor": ""}),
        (BACK, {"key": ""}),
    ],
)
def test_what_is_no_adjustment_is_refused(
    owner: Persona, entry: Entry, counts: TokenCounts, terms: dict[str, Any]
) -> None:
    with pytest.raises(AdjustmentRefusedError):
        adjust(entry.pk, counts, **{**WHY, **terms})
    assert books(owner).entries == 1


def test_an_adjustment_is_not_adjusted_itself(entry: Entry) -> None:
    back = adjust(entry.pk, BACK, **WHY)
    with pytest.raises(AdjustmentRefusedError, match="adjust the entry"):
        adjust(back.pk, COUNTS, **WHY)


def test_an_entry_that_is_not_there_is_not_found(database: None) -> None:
    with pytest.raises(LedgerRowNotFoundError):
        adjust(uuid4(), COUNTS, **WHY)


def test_a_tenant_adjusts_nothing(owner: Persona, entry: Entry) -> None:
    with pytest.raises(ScopeError), unit_of_work(owner.ctx):
        adjust(entry.pk, BACK, **WHY)


def test_it_costs_what_its_tokens_cost_at_the_entrys_price(owner: Persona) -> None:
    model = f"model-{uuid4().hex[:12]}"
    row = price(model)
    paid = book_priced(owner, model)
    back = adjust(paid.pk, TokenCounts(fresh_input_tokens=-1_000_003), **WHY)
    assert (back.cost_usd, back.price_id) == (Decimal("-2.5000075"), row.pk)
    check_books(owner)


def test_an_entry_taken_back_whole_costs_nothing_and_needs_no_re_pricing(owner: Persona) -> None:
    model = f"model-{uuid4().hex[:12]}"
    price(model)
    paid = book_priced(owner, model)
    names = vars(PRICED_COUNTS).keys() - {"source"}
    adjust(paid.pk, TokenCounts(**{name: -getattr(PRICED_COUNTS, name) for name in names}), **WHY)
    assert cost(owner) == 0
    assert reprice(owner).startswith("booked: +0 USD")


def test_a_cost_can_be_named_without_tokens(owner: Persona) -> None:
    model = f"model-{uuid4().hex[:12]}"
    price(model)
    goodwill = adjust(book_priced(owner, model).pk, TokenCounts(), cost_usd=Decimal("-0.25"), **WHY)
    assert (goodwill.cost_usd, goodwill.price_id, goodwill.total_tokens) == (Decimal("-0.25"), None, 0)
    assert cost(owner) == booked() - Decimal("0.25")
    check_books(owner)


def test_the_tenant_sees_the_correction_and_what_it_corrects(owner: Persona, entry: Entry) -> None:
    adjust(entry.pk, BACK, **WHY)
    [back, first] = owner.api.get("/api/v1/usage/entries").json()["results"]
    assert (back["kind"], back["corrects"], back["total_tokens"]) == ("adjustment", first["id"], -95)
    usage = owner.api.get("/api/v1/usage").json()["totals"]
    assert (usage["total_tokens"], usage["entries"]) == (0, 2)


def test_a_stranger_sees_nothing_of_it(stranger: Persona, entry: Entry) -> None:
    adjust(entry.pk, BACK, **WHY)
    assert stranger.api.get("/api/v1/usage/entries").json()["results"] == []
