"""A tenant makes as many requests in a minute as its plan says, and answers tell it how it stands."""

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from pytest_django import Settings

from apps.core import breaker, counters
from apps.core.api import exceptions
from apps.core.db import operator_scope, unit_of_work
from apps.core.errors import RateLimitedError
from apps.core.models import IdempotentResponse
from apps.tenants import services, throttling
from apps.tenants.models import ApiKey, Tenant, Tier
from tests.api import openapi
from tests.api.test_authentication import AGENTS, check_problem, client
from tests.api.test_idempotency import agent_body, post
from tests.personas import MakeTenant, Persona

#: The tier that these tests limit.
LIMITED = "advance"
LIMIT = 2

Limit = Callable[[int | None], None]


@pytest.fixture
def limit(database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Limit]:
    """Sets what the tier allows; as it was seeded again when the test is over, since all tests share it."""
    monkeypatch.setattr(breaker, "_silent_until", 0.0)
    tier = Tier.objects.get(pk=LIMITED)

    def allow(number: int | None) -> None:
        with operator_scope("test"):
            Tier.objects.filter(pk=LIMITED).update(requests_per_minute=number)

    allow(LIMIT)
    yield allow
    allow(tier.requests_per_minute)


@pytest.fixture
def tenant(make_tenant: MakeTenant, limit: Limit) -> Persona:
    return make_tenant(tier=LIMITED)


def statuses(persona: Persona, number: int) -> list[int]:
    return [persona.api.get(AGENTS).status_code for _ in range(number)]


def standing(response: Any) -> tuple[int, int, int, int]:
    """What the headers say: the quota and its window, what is left of it and for how long."""
    policy = re.fullmatch(r'"default";q=(\d+);w=(\d+)', response["RateLimit-Policy"])
    now = re.fullmatch(r'"default";r=(\d+);t=(\d+)', response["RateLimit"])
    assert policy
    assert now
    return int(policy[1]), int(policy[2]), int(now[1]), int(now[2])


def keys(persona: Persona) -> list[Any]:
    return sorted(breaker.client().keys(f"nooble:limits:*{persona.tenant.pk}*"))


def minute_ended(persona: Persona, *, seconds_ago: int) -> None:
    """The minute of the only window is over; Redis keeps it until the next one is, too."""
    [window] = keys(persona)
    breaker.client().pexpire(window, (throttling.WINDOW_SECONDS - seconds_ago) * 1000)


def time_passed(persona: Persona, *, seconds: int) -> None:
    """Redis goes by how long it still keeps a window."""
    redis = breaker.client()
    for window in keys(persona):
        redis.pexpire(window, redis.pttl(window) - seconds * 1000)


def test_every_answer_to_what_is_counted_says_how_the_tenant_stands(tenant: Persona, limit: Limit) -> None:
    limit(4)
    answers = [
        tenant.api.get(AGENTS),
        tenant.api.get(f"{AGENTS}/{uuid4()}"),
        tenant.api.post(AGENTS, "{", content_type="application/json"),
        tenant.api.put(AGENTS, {}),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 400, 405]
    assert [standing(answer)[:3] for answer in answers] == [(4, 60, left) for left in (3, 2, 1, 0)]
    assert all(1 <= standing(answer)[3] <= 60 for answer in answers)
    assert not any("Retry-After" in answer for answer in answers)


def test_what_is_one_too_many_is_refused_and_told_when_to_come_again(tenant: Persona) -> None:
    assert statuses(tenant, LIMIT) == [200] * LIMIT
    refused = tenant.api.get(AGENTS)
    problem = check_problem(refused, 429, "rate_limited")
    quota, window, left, seconds = standing(refused)
    assert (quota, window, left) == (LIMIT, 60, 0)
    assert refused["Retry-After"] == str(seconds)
    assert 1 <= seconds <= 60
    for told in (f"“{LIMITED}”", f"{LIMIT} requests", f"in {seconds} s"):
        assert told in problem["detail"]


def test_the_window_slides(tenant: Persona) -> None:
    assert statuses(tenant, LIMIT + 1) == [200, 200, 429]
    # Of the minute that ended 20 seconds ago two thirds count: one request of two.
    minute_ended(tenant, seconds_ago=20)
    assert statuses(tenant, 2) == [200, 429]
    breaker.client().delete(*keys(tenant))
    assert statuses(tenant, LIMIT + 1) == [200, 200, 429]


def test_who_waits_as_long_as_it_is_told_is_let_in(tenant: Persona) -> None:
    statuses(tenant, LIMIT)
    minute_ended(tenant, seconds_ago=20)
    statuses(tenant, 1)
    wait = int(tenant.api.get(AGENTS)["Retry-After"])
    time_passed(tenant, seconds=wait // 2)
    assert statuses(tenant, 1) == [429]
    time_passed(tenant, seconds=wait - wait // 2)
    assert statuses(tenant, 1) == [200]


def test_windows_leave_redis_by_themselves(tenant: Persona) -> None:
    statuses(tenant, LIMIT)
    minute_ended(tenant, seconds_ago=20)
    statuses(tenant, 1)
    left = [breaker.client().pttl(window) for window in keys(tenant)]
    assert len(left) == 2
    assert all(0 < milliseconds <= 2 * throttling.WINDOW_SECONDS * 1000 for milliseconds in left)


def test_a_window_is_a_tenants_with_all_of_its_keys_and_nobody_elses(tenant: Persona, make_tenant: MakeTenant) -> None:
    _, other_key = services.issue_key(tenant.ctx, name="another", scopes=["manage"])
    assert statuses(tenant, 1) == [200]
    assert client(other_key).get(AGENTS).status_code == 200
    assert (statuses(tenant, 1), client(other_key).get(AGENTS).status_code) == ([429], 429)
    assert statuses(make_tenant(tier=LIMITED), 1) == [200]


@pytest.mark.usefixtures("limit")
def test_of_two_requests_at_once_for_one_place_one_is_let_in() -> None:
    tenants = [uuid4() for _ in range(100)]
    together = threading.Barrier(2)

    def ask(_: int) -> list[bool]:
        allowed = []
        for tenant_id in tenants:
            together.wait()
            standing = throttling._count(tenant_id, 1)
            allowed.append(standing is not None and standing.allowed)
        return allowed

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(ask, range(2))
    assert [sorted(pair) for pair in zip(one, other, strict=True)] == [[False, True]] * len(tenants)


def test_a_tier_without_a_limit_limits_nobody_and_tells_of_none(tenant: Persona, limit: Limit) -> None:
    limit(None)
    answers = [tenant.api.get(AGENTS) for _ in range(LIMIT + 1)]
    assert [answer.status_code for answer in answers] == [200] * (LIMIT + 1)
    assert not any({"RateLimit", "RateLimit-Policy"} & set(answer.headers) for answer in answers)
    assert keys(tenant) == []


def test_a_limit_that_is_changed_counts_at_once(tenant: Persona, limit: Limit) -> None:
    assert statuses(tenant, LIMIT + 1) == [200, 200, 429]
    limit(LIMIT + 1)
    assert statuses(tenant, 1) == [200]


def test_what_asks_for_no_tenants_things_is_not_limited(tenant: Persona) -> None:
    statuses(tenant, LIMIT)
    bearer = {"Authorization": f"Bearer {tenant.key}"}
    for path in ("/health", "/health/ready", "/api/schema", "/api/docs"):
        response = Client().get(path, headers=bearer)
        assert response.status_code == 200
        assert "RateLimit" not in response
    # Neither is who brings no valid key, or one that may not ask this.
    unknown = client("nbl_" + "0" * 10 + "_" + "0" * 64)
    assert [unknown.get(AGENTS).status_code for _ in range(LIMIT + 1)] == [401] * (LIMIT + 1)
    with operator_scope("test"):
        ApiKey.objects.filter(tenant=tenant.tenant).update(scopes=["usage"])
    assert statuses(tenant, 1) == [403]


def test_a_post_that_was_refused_is_sent_again_with_its_key(tenant: Persona) -> None:
    statuses(tenant, LIMIT)
    body, key = agent_body(), uuid4().hex
    check_problem(post(tenant, body, key), 429, "rate_limited")
    with unit_of_work(tenant.ctx):
        assert not IdempotentResponse.objects.filter(key=key).exists()
    breaker.client().delete(*keys(tenant))
    again = post(tenant, body, key)
    assert again.status_code == 201
    assert "Idempotent-Replayed" not in again


def test_a_replay_counts_as_any_request_does(tenant: Persona) -> None:
    body, key = agent_body(), uuid4().hex
    assert [post(tenant, body, key).status_code for _ in range(LIMIT + 1)] == [201, 201, 429]


def test_refusals_are_counted_by_tier(tenant: Persona) -> None:
    before = counters.read("requests_refused").get((LIMITED,), 0)
    statuses(tenant, LIMIT + 3)
    counted = counters.read("requests_refused")
    assert counted[(LIMITED,)] - before == 3
    assert all(len(labels) == 1 for labels in counted)


def test_without_redis_requests_pass_and_are_counted_when_it_is_back(
    tenant: Persona, owner: Persona, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever passed before this test is counted now.
    statuses(owner, 1)
    before = counters.read("requests_unlimited").get((), 0)
    there = settings.REDIS_URL
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    answers = [tenant.api.get(AGENTS) for _ in range(LIMIT + 3)]
    assert [answer.status_code for answer in answers] == [200] * (LIMIT + 3)
    assert not any("RateLimit" in answer for answer in answers)
    settings.REDIS_URL = there
    monkeypatch.setattr(breaker, "_silent_until", 0.0)
    assert statuses(tenant, LIMIT + 1) == [200, 200, 429]
    assert counters.read("requests_unlimited")[()] - before == LIMIT + 3


def test_what_is_refused_before_it_is_counted_is_told_nothing(tenant: Persona) -> None:
    _, narrow = services.issue_key(tenant.ctx, name="narrow", scopes=["usage"])
    refused = [
        tenant.api.get(AGENTS, headers={"Accept": "text/html"}),
        tenant.api.get("/api/v1/no-such-thing"),
        client("nbl_" + "0" * 10 + "_" + "0" * 64).get(AGENTS),
        client(narrow).get(AGENTS),
    ]
    with operator_scope("test"):
        Tenant.objects.filter(pk=tenant.tenant.pk).update(is_active=False)
    refused.append(tenant.api.get(AGENTS))
    assert [answer.status_code for answer in refused] == [406, 404, 401, 403, 403]
    assert not any({"RateLimit", "RateLimit-Policy"} & set(answer.headers) for answer in refused)
    assert keys(tenant) == []


@pytest.mark.parametrize(("seconds", "told"), [(0.2, "1"), (1.0, "1"), (1.2, "2"), (60.0, "60")])
def test_a_wait_is_told_in_whole_seconds_and_never_shortened(seconds: float, told: str) -> None:
    problem = RateLimitedError()
    problem.retry_after = seconds
    assert exceptions.handle(problem, {})["Retry-After"] == told


@pytest.mark.parametrize("operation", openapi.operations(), ids=str)
def test_the_schema_declares_the_headers_where_an_answer_may_have_them(operation: openapi.Operation) -> None:
    for status, said in operation.spec["responses"].items():
        declared = {"RateLimit", "RateLimit-Policy"} & said.get("headers", {}).keys()
        assert declared == (set() if status == "401" else {"RateLimit", "RateLimit-Policy"})
        assert ("Retry-After" in said.get("headers", {})) == (status == "429")
