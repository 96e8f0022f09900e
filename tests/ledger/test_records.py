"""Usage that happened elsewhere."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection

from apps.core import clock
from apps.core.db import unit_of_work
from apps.core.errors import NotFoundError
from apps.ledger.errors import IdempotencyConflictError, InvalidUsageError
from apps.ledger.models import Entry
from apps.ledger.records import Recorded, UsageEvent, track_token_usage, track_token_usage_many
from apps.ledger.types import OPERATION_BATCH, TOKEN_TYPE_FINE_TUNING, OperationKind, TokenCounts, TokenType
from tests.ledger.alarms import alarms
from tests.ledger.test_till import check_books
from tests.personas import Persona


def track(persona: Persona, key: str, tokens: int | TokenCounts = 100, **changes: Any) -> Recorded:
    arguments: dict[str, Any] = {
        "tenant_id": persona.tenant.pk,
        "tokens": tokens,
        "model": "ft-1",
        "token_type": TOKEN_TYPE_FINE_TUNING,
        "operation": OPERATION_BATCH,
        "agent_id": None,
        "conversation_id": None,
        "idempotency_key": key,
        "metadata": {"job": "j-1"},
    }
    return track_token_usage(**{**arguments, **changes})


def test_usage_is_booked_once_however_often_it_is_reported(owner: Persona, caplog: pytest.LogCaptureFixture) -> None:
    first = track(owner, "job-1")
    second = track(owner, "job-1")
    assert (first.outcome, second.outcome) == ("created", "duplicate")
    assert first.entry_id == second.entry_id
    books = check_books(owner.ctx)
    assert (books.entries, books.spent_tokens) == (1, 100)
    assert alarms(caplog, "idempotency conflicts") == []


def test_reported_at_the_same_time_it_is_booked_once(owner: Persona) -> None:
    def report(_: int) -> str:
        try:
            return track(owner, "job-2").outcome
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(report, range(8)))
    assert sorted(outcomes) == ["created", *["duplicate"] * 7]
    assert check_books(owner.ctx).entries == 1


def test_two_tenants_may_use_the_same_key(owner: Persona, stranger: Persona) -> None:
    assert track(owner, "job-3").outcome == track(stranger, "job-3").outcome == "created"


def test_the_same_key_with_other_tokens_is_a_conflict_and_is_alarmed(
    owner: Persona, caplog: pytest.LogCaptureFixture
) -> None:
    first = track(owner, "job-4")
    with pytest.raises(IdempotencyConflictError):
        track(owner, "job-4", tokens=101)
    assert check_books(owner.ctx).entry_tokens == 100
    assert alarms(caplog, "idempotency conflicts", "entries") == [([str(first.entry_id)],)]


def test_all_of_the_report_is_on_the_entry(owner: Persona) -> None:
    agent = uuid4()
    track(owner, "job-5", TokenCounts(fresh_input_tokens=5, reasoning_tokens=7), agent_id=agent)
    with unit_of_work(owner.ctx):
        entry = Entry.objects.get()
    assert (entry.input_tokens, entry.output_tokens, entry.agent_id) == (5, 7, agent)
    assert entry.metadata == {"job": "j-1"}


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": 0},
        {"tokens": -1},
        {"token_type": "magic"},
        {"operation": "magic"},
        {"model": ""},
        {"idempotency_key": ""},
        {"idempotency_key": "x" * 256},
        {"idempotency_key": "a\0b"},
        {"tokens": 10**12 + 1},
        {"tokens": 1.5},
        {"tokens": True},
        {"model": "m" * 129},
        {"provider": "\ud800"},
        {"agent_id": "no id"},
        {"metadata": {"k": float("nan")}},
        {"occurred_at": clock.now() + timedelta(days=1)},
        {"occurred_at": clock.now() - timedelta(days=400)},
        {"occurred_at": clock.now().replace(tzinfo=None)},
    ],
)
def test_what_cannot_be_booked_is_refused(owner: Persona, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidUsageError):
        track(owner, changes.pop("idempotency_key", "job-6"), **changes)


def test_one_bad_event_among_many_harms_no_other(owner: Persona) -> None:
    good = UsageEvent(
        idempotency_key="job-7",
        counts=TokenCounts(fresh_input_tokens=100),
        token_type=TokenType.FINE_TUNING,
        operation=OperationKind.BATCH,
        model="ft-1",
    )
    bad = replace(good, counts=TokenCounts())
    other = replace(good, counts=TokenCounts(fresh_input_tokens=1))
    found = track_token_usage_many(owner.tenant.pk, [bad, good, good, other, bad])
    assert [each.outcome for each in found] == ["invalid", "created", "duplicate", "conflict", "invalid"]
    assert [each.error and each.error.code for each in found] == [
        *("invalid_usage", None, None, "idempotency_conflict", "invalid_usage")
    ]
    assert check_books(owner.ctx).spent_tokens == 100


def test_an_unknown_tenant_is_refused(database: None) -> None:
    with pytest.raises(NotFoundError):
        track_token_usage(UUID(int=1), 1, "m", TOKEN_TYPE_FINE_TUNING, OPERATION_BATCH, None, None, "k")
