"""What a payer is told of its books."""

from uuid import UUID

import pytest

from apps.ledger import till
from apps.ledger.types import Admitted, Call, Charge, OperationKind, TokenCounts, TokenType
from tests.personas import Persona

ABOVE = TokenCounts(fresh_input_tokens=150)


@pytest.fixture
def overages(owner: Persona) -> list[UUID]:
    """Attempts that cost more than their hold, in the order of time."""
    return [overage(owner, question) for question in ("first", "second")]


def overage(owner: Persona, question: str) -> UUID:
    asked = Charge(operation=OperationKind.CHAT, token_type=TokenType.LLM, payload={"question": question})
    held = till.hold(owner.ctx, asked, Call(provider="fake", model="fake-1", hold_tokens=100, deadline_seconds=30))
    assert isinstance(held, Admitted)
    till.settle(owner.ctx, held.attempt_id, ABOVE, result={})
    return held.attempt_id


def test_a_payer_reads_what_was_found_newest_first(owner: Persona, overages: list[UUID]) -> None:
    found = owner.api.get("/api/v1/discrepancies").json()["results"]
    assert [row["subject"] for row in found] == [f"attempt {attempt}" for attempt in reversed(overages)]
    assert {(row["kind"], row["state"], row["amount_tokens"]) for row in found} == {("overage", "open", 50)}
    assert found[0]["evidence"]["hold_tokens"] == 100


def test_it_is_paged(owner: Persona, overages: list[UUID]) -> None:
    first = owner.api.get("/api/v1/discrepancies?page_size=1").json()
    second = owner.api.get(first["next"]).json()
    assert [first["results"][0]["subject"], second["results"][0]["subject"]] == [
        f"attempt {attempt}" for attempt in reversed(overages)
    ]
    assert second["next"] is None


@pytest.mark.parametrize(("query", "number"), [("kind=overage", 2), ("kind=lost_attempt", 0), ("state=resolved", 0)])
def test_it_is_narrowed(owner: Persona, overages: list[UUID], query: str, number: int) -> None:
    assert len(owner.api.get(f"/api/v1/discrepancies?{query}").json()["results"]) == number


def test_an_unknown_kind_is_refused(owner: Persona) -> None:
    response = owner.api.get("/api/v1/discrepancies?kind=magic")
    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, "kind")


def test_nobody_else_reads_it(overages: list[UUID], stranger: Persona) -> None:
    assert stranger.api.get("/api/v1/discrepancies").json()["results"] == []
