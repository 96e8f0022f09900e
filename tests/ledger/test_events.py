"""Usage from elsewhere, reported over HTTP: an outcome for each event, and one bad one harms no other."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from rest_framework.test import APIClient

from apps.core import clock
from apps.core.db import operator_scope, unit_of_work
from apps.ledger import records
from apps.ledger.models import Discrepancy, Entry, Price
from apps.ledger.types import DiscrepancyKind
from apps.tenants import services
from tests.api import openapi
from tests.api.test_authentication import check_problem
from tests.ledger.alarms import alarms
from tests.ledger.test_till import check_books
from tests.personas import Persona

PATH = "/api/v1/usage/events"


def event(key: str, **changes: Any) -> dict[str, Any]:
    return {
        "idempotency_key": key,
        "token_type": "fine_tuning",
        "operation": "batch",
        "provider": "openai",
        "model": "ft-1",
        "input_tokens": 100,
        "occurred_at": clock.now().isoformat(),
        "metadata": {"job": "j-1"},
        **changes,
    }


def send(persona: Persona, *events: Any, **headers: str) -> Any:
    [report] = [each for each in openapi.operations() if each.path == PATH]
    # The test client's own JSON has no half surrogate pairs.
    body = json.dumps({"events": events})
    response = persona.api.post(PATH, body, content_type="application/json", headers=headers)
    report.check(response)
    return response


def report(persona: Persona, *events: Any) -> list[dict[str, Any]]:
    response = send(persona, *events)
    assert response.status_code == 200, response.json()
    results: list[dict[str, Any]] = response.json()["results"]
    assert [result["index"] for result in results] == list(range(len(events)))
    return results


def outcomes(results: list[dict[str, Any]]) -> list[str]:
    return [result["outcome"] for result in results]


def entries(persona: Persona) -> list[Entry]:
    with unit_of_work(persona.ctx):
        return list(Entry.objects.order_by("id"))


def test_all_of_an_event_is_on_its_entry(owner: Persona) -> None:
    ids = {name: str(uuid4()) for name in ("agent_id", "collection_id", "conversation_id")}
    moment = clock.now() - timedelta(hours=1)
    [result] = report(owner, event("e-1", output_tokens=7, occurred_at=moment.isoformat(), **ids))
    assert result == {
        "index": 0,
        "idempotency_key": "e-1",
        "outcome": "created",
        "entry_id": result["entry_id"],
        "error": None,
    }
    [entry] = entries(owner)
    assert str(entry.pk) == result["entry_id"]
    assert (entry.token_type, entry.operation, entry.provider, entry.model) == (
        "fine_tuning",
        "batch",
        "openai",
        "ft-1",
    )
    assert (entry.input_tokens, entry.output_tokens, entry.occurred_at) == (100, 7, moment)
    assert {name: str(getattr(entry, name)) for name in ids} == ids
    assert entry.metadata == {"job": "j-1"}
    assert (entry.tenant_id, entry.owner_tenant_id, entry.payer_tenant_id) == (owner.tenant.pk,) * 3
    assert check_books(owner.ctx).spent_tokens == 107


def test_an_event_that_is_reported_again_is_a_duplicate_with_the_first_ones_entry(owner: Persona) -> None:
    [first] = report(owner, event("e-2"))
    [second] = report(owner, event("e-2", metadata={"job": "said otherwise"}))
    assert (second["outcome"], second["entry_id"], second["error"]) == ("duplicate", first["entry_id"], None)
    assert check_books(owner.ctx).entries == 1


def test_a_key_with_other_content_is_a_conflict_and_is_noted_and_alarmed(
    owner: Persona, caplog: pytest.LogCaptureFixture
) -> None:
    [first] = report(owner, event("e-3"))
    [second] = report(owner, event("e-3", input_tokens=101))
    assert (second["outcome"], second["entry_id"]) == ("conflict", first["entry_id"])
    assert (second["error"]["code"], second["error"]["field"]) == ("idempotency_conflict", "idempotency_key")
    assert check_books(owner.ctx).spent_tokens == 100
    with unit_of_work(owner.ctx):
        [noted] = Discrepancy.objects.filter(kind=DiscrepancyKind.IDEMPOTENCY_CONFLICT)
    assert noted.evidence["entry_id"] == first["entry_id"]
    assert alarms(caplog, "idempotency conflicts", "entries") == [([first["entry_id"]],)]


def test_a_key_that_comes_twice_in_one_body_is_booked_once(owner: Persona) -> None:
    found = report(owner, event("e-4"), event("e-4"), event("e-4", model="ft-2"))
    assert outcomes(found) == ["created", "duplicate", "conflict"]
    assert len({result["entry_id"] for result in found}) == 1
    assert check_books(owner.ctx).entries == 1


LONG_AGO = "1970-01-01T00:00:00Z"

BAD: list[tuple[str, Any, str]] = [
    ("null", None, ""),
    ("a number", 7, ""),
    ("a text", "event", ""),
    ("a list", [event("x")], ""),
    ("an empty object", {}, "idempotency_key"),
    ("a key that is a number", event("x", idempotency_key=7.5e300), "idempotency_key"),
    ("a key that is an object", event("x", idempotency_key={}), "idempotency_key"),
    ("an empty key", event(""), "idempotency_key"),
    ("a long key", event("x" * 256), "idempotency_key"),
    ("a key with a null character", event("a\0b"), "idempotency_key"),
    ("half a surrogate pair as key", event("\ud800"), "idempotency_key"),
    ("a token type that is none", event("x", token_type="magic"), "token_type"),
    ("a token type that cannot be stored", event("x", token_type="a\0b\ud800" * 200), "token_type"),
    ("a token type that is a list", event("x", token_type=["llm"]), "token_type"),
    ("an operation that is none", event("x", operation="magic"), "operation"),
    ("a provider with a null character", event("x", provider="a\0b"), "provider"),
    ("a long provider", event("x", provider="p" * 65), "provider"),
    ("no model", event("x", model=""), "model"),
    ("a long model", event("x", model="m" * 129), "model"),
    ("half a surrogate pair as model", event("x", model="\udfff"), "model"),
    ("no tokens", event("x", input_tokens=0), "non_field_errors"),
    ("negative tokens", event("x", input_tokens=-1), "input_tokens"),
    ("tokens as text", event("x", input_tokens="100"), "input_tokens"),
    ("tokens with a point", event("x", input_tokens=1.5), "input_tokens"),
    ("tokens that are true", event("x", input_tokens=True), "input_tokens"),
    ("tokens that are null", event("x", input_tokens=None), "input_tokens"),
    ("more tokens than bigint holds", event("x", input_tokens=2**63), "input_tokens"),
    ("far more", event("x", input_tokens=10**400), "input_tokens"),
    ("tokens that overflow in sum", event("x", input_tokens=10**12, output_tokens=10**12), "non_field_errors"),
    ("no moment", {**event("x"), "occurred_at": None}, "occurred_at"),
    ("a moment that is none", event("x", occurred_at="2026-02-30T00:00:00Z"), "occurred_at"),
    ("a moment that is a number", event("x", occurred_at=0), "occurred_at"),
    ("the future", event("x", occurred_at=(clock.now() + timedelta(days=1)).isoformat()), "occurred_at"),
    ("long ago", event("x", occurred_at=LONG_AGO), "occurred_at"),
    ("the first of all days", event("x", occurred_at="0001-01-01T00:00:00+14:00"), "occurred_at"),
    ("the last of all days", event("x", occurred_at="9999-12-31T23:59:59-14:00"), "occurred_at"),
    ("an agent that is no id", event("x", agent_id="agent"), "agent_id"),
    ("a collection that is a number", event("x", collection_id=1.5), "collection_id"),
    ("a conversation that is an object", event("x", conversation_id={}), "conversation_id"),
    ("metadata that are a list", event("x", metadata=[]), "metadata"),
    ("metadata that are null", event("x", metadata=None), "metadata"),
    ("10 kB of metadata", event("x", metadata={"k": "v" * 10_000}), "metadata"),
    ("metadata with a null character", event("x", metadata={"k": ["a\0"]}), "metadata"),
    ("metadata with half a surrogate pair", event("x", metadata={"\udfff": 1}), "metadata"),
    ("metadata nested too deep", event("x", metadata={"k": json.loads("[" * 90 + "]" * 90)}), "metadata"),
]


@pytest.mark.parametrize(("bad", "field"), [pytest.param(bad, field, id=name) for name, bad, field in BAD])
def test_one_bad_event_harms_no_other(owner: Persona, bad: Any, field: str) -> None:
    # With a key, so that the answer is stored: what was sent, and stands in it, must be storable.
    response = send(owner, event("before"), bad, event("after"), **{"Idempotency-Key": "once"})
    assert response.status_code == 200
    first, refused, last = response.json()["results"]
    assert (first["outcome"], refused["outcome"], last["outcome"]) == ("created", "invalid", "created")
    assert refused["entry_id"] is None
    assert refused["error"]["code"]
    assert refused["error"]["detail"]
    assert refused["error"]["field"] == (field or "non_field_errors")
    assert len(refused["error"]["detail"]) < 400
    assert check_books(owner.ctx).spent_tokens == 200


def test_all_bad_ones_at_once_harm_none_of_the_good(owner: Persona) -> None:
    mixed = [each for number, (_, bad, _) in enumerate(BAD) for each in (bad, event(f"good-{number}"))]
    assert outcomes(report(owner, *mixed)) == ["invalid", "created"] * len(BAD)
    assert check_books(owner.ctx).entries == len(BAD)


def test_what_only_the_database_refuses_harms_no_other(owner: Persona) -> None:
    """A price that makes the cost more than its column holds: no check of ours foresees it."""
    with operator_scope("test"):
        usd = dict.fromkeys([f"{name}_usd" for name in PRICED], 10**9)
        Price.objects.create(
            tenant_id=owner.tenant.pk, provider="gold", model="m", starts_at=datetime.fromisoformat(LONG_AGO), **usd
        )
    found = report(owner, event("a"), event("b", provider="gold", model="m", input_tokens=10**9), event("c"))
    assert outcomes(found) == ["created", "invalid", "created"]
    assert found[1]["error"]["code"] == "invalid_usage"
    assert check_books(owner.ctx).entries == 2


PRICED = ("fresh_input", "cached_input", "cache_write", "plain_output", "reasoning")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"events": None},
        {"events": {}},
        {"events": "events"},
        {"events": []},
        {"events": [event(f"e-{number}") for number in range(1001)]},
        [],
        [event("x")],
        "events",
        None,
    ],
    ids=["nothing", "null", "an object", "a text", "none", "1001", "a list", "bare events", "text", "no body"],
)
def test_a_body_without_a_list_of_up_to_1000_events_is_refused(owner: Persona, body: Any) -> None:
    check_problem(owner.api.post(PATH, body, format="json"), 400, "invalid_request")
    assert entries(owner) == []


def test_1000_events_are_booked_at_once_and_again_are_none(owner: Persona) -> None:
    sent = [event(f"e-{number}", model=f"m-{number % 7}") for number in range(1000)]
    first, second = report(owner, *sent), report(owner, *reversed(sent))
    assert set(outcomes(first)) == {"created"}
    assert set(outcomes(second)) == {"duplicate"}
    assert [result["entry_id"] for result in first] == [result["entry_id"] for result in reversed(second)]
    books = check_books(owner.ctx)
    assert (books.entries, books.spent_tokens) == (1000, 100_000)


def test_a_request_that_is_repeated_gets_the_first_answer(owner: Persona) -> None:
    body = [event("e-6"), {"no": "event"}]
    first, second = (send(owner, *body, **{"Idempotency-Key": "r-1"}) for _ in range(2))
    assert second["Idempotent-Replayed"] == "true"
    assert first.json() == second.json()
    changed = send(owner, event("e-7"), **{"Idempotency-Key": "r-1"})
    check_problem(changed, 422, "idempotency_key_reused")
    assert check_books(owner.ctx).entries == 1


def test_reported_by_eight_at_once_each_event_is_booked_once(owner: Persona) -> None:
    sent = [event(f"e-{number}") for number in range(20)]

    def one(number: int) -> list[str]:
        try:
            return outcomes(report(owner, *(sent if number % 2 else reversed(sent))))
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        found = [outcome for each in pool.map(one, range(8)) for outcome in each]
    assert sorted(found) == ["created"] * 20 + ["duplicate"] * 140
    assert check_books(owner.ctx).entries == 20


def test_two_tenants_may_use_the_same_key_and_do_not_see_each_other(owner: Persona, stranger: Persona) -> None:
    assert outcomes(report(owner, event("e-8")) + report(stranger, event("e-8"))) == ["created", "created"]
    assert len(entries(owner)) == len(entries(stranger)) == 1


def test_reported_usage_counts_against_the_budget_and_is_not_refused_by_it(make_tenant: Callable[..., Persona]) -> None:
    small = make_tenant(limit=50)
    assert outcomes(report(small, event("e-9"))) == ["created"]
    assert check_books(small.ctx).spent_tokens == 100


@pytest.mark.parametrize(
    ("scopes", "status"),
    [(["manage"], 200), (["internal"], 200), (["usage"], 403), (["chat"], 403), (["chat", "usage"], 403)],
)
def test_a_key_that_only_reads_cannot_write(owner: Persona, scopes: list[str], status: int) -> None:
    _, key = services.issue_key(owner.ctx, name="k", scopes=scopes)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    response = client.post(PATH, {"events": [event("e-10")]}, format="json")
    assert response.status_code == status, response.json()
    if status == 403:
        check_problem(response, 403, "missing_scope")
        assert entries(owner) == []


def test_what_is_reported_is_in_the_lists_and_sums(owner: Persona) -> None:
    [result] = report(owner, event("e-11", output_tokens=11))
    [listed] = owner.api.get("/api/v1/usage/entries").json()["results"]
    assert (listed["id"], listed["metadata"]) == (result["entry_id"], {"job": "j-1"})
    assert owner.api.get("/api/v1/usage").json()["totals"]["total_tokens"] == 111
    assert UUID(listed["consumer_tenant_id"]) == owner.tenant.pk


@pytest.mark.parametrize("prefix", records.RESERVED)
def test_a_key_of_corrections_is_refused(owner: Persona, prefix: str) -> None:
    assert outcomes(report(owner, event(f"{prefix}of-a-client"))) == ["invalid"]
    with unit_of_work(owner.ctx):
        assert not Entry.objects.exists()
