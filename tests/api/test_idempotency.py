"""A POST that is sent again does not happen again."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection

from apps.agents.models import Agent
from apps.core import maintenance
from apps.core.db import fetch_one, operator_scope, unit_of_work
from apps.core.headers import HEADERS
from apps.core.models import IdempotentResponse
from tests.api.test_authentication import check_problem
from tests.api.test_headers import make_collection, search
from tests.fakes.process import FakeProvider
from tests.faults.scene import Scene
from tests.personas import Persona

Post = Callable[..., Any]
#: Headers that decide what is done, each with something that it may say.
DECIDING = {
    **dict.fromkeys(("X-Agent-ID", "X-Conversation-ID", "X-Collection-ID"), "00000000-0000-7000-8000-000000000001"),
    "X-RAG-Collections": "[]",
    **dict.fromkeys(("X-LLM-Provider", "X-Embedding-Provider"), "local"),
    **dict.fromkeys(("X-LLM-Model", "X-Embedding-Model"), "a-model"),
    **dict.fromkeys(("X-LLM-Temperature", "X-RAG-Similarity-Threshold"), "0.5"),
    "X-LLM-Max-Tokens": "100",
    "X-Embedding-Dimensions": "64",
    "X-RAG-Results-Limit": "3",
    "X-RAG-Chunk-Size": "128",
}
#: Those that are only checked, or kept.
RECORDED = {
    **dict.fromkeys(("X-Session-ID", "X-User-ID", "X-Request-Source", "X-Client-Version"), "another"),
    "X-Context-Type": "chat",
}


def agent_body(**changes: Any) -> dict[str, Any]:
    return {"slug": f"a-{uuid4().hex[:8]}", "name": "Agent", **changes}


def post(persona: Persona, body: dict[str, Any], key: str, path: str = "/api/v1/agents", **headers: str) -> Any:
    return persona.api.post(path, body, format="json", headers={"Idempotency-Key": key, **headers})


def test_the_same_key_and_body_give_the_first_response_again(owner: Persona) -> None:
    body = agent_body()
    first, second = post(owner, body, "k-1"), post(owner, body, "k-1")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert "Idempotent-Replayed" not in first
    assert second["Idempotent-Replayed"] == "true"
    with unit_of_work(owner.ctx):
        assert Agent.objects.count() == 1


def test_the_same_key_with_another_body_is_refused(owner: Persona) -> None:
    post(owner, agent_body(), "k-2")
    check_problem(post(owner, agent_body(), "k-2"), 422, "idempotency_key_reused")


@pytest.mark.parametrize(("header", "value"), DECIDING.items())
def test_the_same_key_with_a_header_that_decides_what_is_done_is_refused(
    owner: Persona, header: str, value: str
) -> None:
    body = agent_body()
    post(owner, body, "k-11")
    check_problem(post(owner, body, "k-11", **{header: value}), 422, "idempotency_key_reused")


def test_the_same_key_with_another_record_of_who_asks_gives_the_first_response_again(owner: Persona) -> None:
    body = agent_body()
    first = post(owner, body, "k-12", **{"X-User-ID": "one"})
    own = {"X-Tenant-ID": str(owner.tenant.pk), "X-Tenant-Tier": owner.ctx.tenant_tier}
    for header, value in {**RECORDED, **own}.items():
        again = post(owner, body, "k-12", **{header: value})
        assert (again.json(), again["Idempotent-Replayed"]) == (first.json(), "true")
    assert {*DECIDING, *RECORDED, *own} == HEADERS.keys()


def test_a_question_to_another_agent_is_not_answered_with_the_firsts_run(owner: Persona) -> None:
    one, other = (post(owner, agent_body(), key).json()["id"] for key in ("k-13", "k-14"))
    body = {"message": "Hello?"}
    first, again = (post(owner, body, "k-15", "/api/v1/chat", **{"X-Agent-ID": one}) for _ in range(2))
    assert (first.status_code, again.json()) == (202, first.json())
    refused = post(owner, body, "k-15", "/api/v1/chat", **{"X-Agent-ID": other})
    check_problem(refused, 422, "idempotency_key_reused")


def test_a_search_with_other_headers_is_another(owner: Persona) -> None:
    collection = str(make_collection(owner).json()["id"])
    key = {"Idempotency-Key": "k-16"}
    limits = {limit: search(owner, collection, {**key, "X-RAG-Results-Limit": limit}) for limit in ("1", "2")}
    assert limits["1"].status_code == 200
    check_problem(limits["2"], 422, "idempotency_key_reused")


def test_a_request_that_failed_may_be_mended_under_its_key(owner: Persona) -> None:
    assert post(owner, agent_body(slug="not a slug"), "k-3").status_code == 400
    assert post(owner, agent_body(), "k-3").status_code == 201


def test_two_tenants_may_use_the_same_key(owner: Persona, stranger: Persona) -> None:
    body = agent_body()
    assert post(owner, body, "k-4").status_code == post(stranger, body, "k-4").status_code == 201


def test_sent_at_the_same_time_it_happens_once(owner: Persona) -> None:
    body = agent_body()

    def send(_: int) -> int:
        try:
            return int(post(owner, body, "k-5").status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        statuses = set(pool.map(send, range(6)))
    assert statuses <= {201, 409}
    with unit_of_work(owner.ctx):
        assert Agent.objects.count() == 1


def test_while_the_first_is_at_work_the_next_is_told_so(owner: Persona, stranger: Persona) -> None:
    """The first waits for its agent, which somebody else keeps locked."""
    agent = post(owner, agent_body(), "k-8").json()["id"]
    path, body = f"/api/v1/agents/{agent}/shares", {"tenant_id": str(stranger.tenant.pk), "payer": "owner"}
    with ThreadPoolExecutor(2) as pool:
        with unit_of_work(owner.ctx):
            Agent.objects.select_for_update().get(pk=agent)
            first = pool.submit(post_in_thread, owner, body, "k-9", path)
            while not first.done() and fetch_one("SELECT FROM pg_locks WHERE NOT granted") is None:
                pass
            second = pool.submit(post_in_thread, owner, body, "k-9", path)
            check_problem(second.result(), 409, "idempotency_key_in_use")
            assert not first.done()
        assert first.result().status_code == 201
    assert post(owner, body, "k-9", path)["Idempotent-Replayed"] == "true"


def test_while_a_search_is_at_work_the_next_is_told_so(owner: Persona, fake_provider: FakeProvider) -> None:
    """The first waits for the provider, and no transaction is open."""
    scene = Scene(persona=owner, fake=fake_provider, provider="fake")
    path, body = f"/api/v1/collections/{scene.collection()}/search", {"query": uuid4().hex}
    fake_provider.fail("hold", match={"contains": body["query"]})
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post_in_thread, owner, body, "k-10", path)
        while not first.done() and not fake_provider.running():
            pass
        second = post(owner, body, "k-10", path)
        fake_provider.release()
        check_problem(second, 409, "idempotency_key_in_use")
        assert first.result().status_code == 200
    assert post(owner, body, "k-10", path)["Idempotent-Replayed"] == "true"
    assert len(fake_provider.tally()) == 1


def post_in_thread(persona: Persona, body: dict[str, Any], key: str, path: str) -> Any:
    try:
        return post(persona, body, key, path)
    finally:
        connection.close()


def test_a_replay_does_not_show_a_secret_again(owner: Persona) -> None:
    body = {"name": "n", "scopes": ["chat"]}
    first = post(owner, body, "k-6", "/api/v1/api-keys").json()
    second = post(owner, body, "k-6", "/api/v1/api-keys").json()
    assert first["key"].startswith("nbl_")
    assert second == {**first, "key": None}


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "ключ".encode().decode("latin-1")])
def test_a_malformed_key_is_refused(owner: Persona, key: str) -> None:
    check_problem(post(owner, agent_body(), key), 400, "invalid_request")


def test_responses_are_forgotten_after_seven_days(owner: Persona) -> None:
    post(owner, agent_body(), "k-7")
    with operator_scope("test"):
        row = IdempotentResponse.objects.get(tenant_id=owner.tenant.pk)
        IdempotentResponse.objects.filter(pk=row.pk).update(created_at=row.created_at - timedelta(days=8))
    assert maintenance.purge() >= 1
    with unit_of_work(owner.ctx):
        assert not IdempotentResponse.objects.exists()
