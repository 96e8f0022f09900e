"""Who may share an agent, what is said about it, and what the other tenant sees of the agent."""

from typing import Any
from uuid import uuid4

import pytest
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext

from apps.agents import shares
from apps.agents.models import Agent, AgentShare, AgentVersion
from apps.collections.models import Collection
from apps.core.db import operator_scope, unit_of_work
from apps.tenants.models import Tenant
from tests.api.test_authentication import check_problem
from tests.personas import MakeTenant, Persona

API = "/api/v1"
PROMPT = "Whisper the secret of the house."


@pytest.fixture
def consumer(make_tenant: MakeTenant) -> Persona:
    """The guest with a share."""
    return make_tenant()


@pytest.fixture
def collection(owner: Persona) -> str:
    return made(owner, "/collections", {"slug": "cellar", "name": "Cellar"})


@pytest.fixture
def agent(owner: Persona, collection: str) -> str:
    body = {"slug": "butler", "name": "Butler", "prompt": PROMPT, "rag": {"collections": [collection]}}
    return made(owner, "/agents", body)


@pytest.fixture
def share(owner: Persona, consumer: Persona, agent: str) -> str:
    return made(owner, f"/agents/{agent}/shares", {"tenant_id": str(consumer.tenant.pk), "payer": "owner"})


def made(persona: Persona, path: str, body: dict[str, Any]) -> str:
    response = persona.api.post(f"{API}{path}", body, format="json")
    assert response.status_code == 201, response.json()
    return str(response.json()["id"])


def post_share(persona: Persona, agent: str, tenant_id: Any, payer: str = "owner", **headers: str) -> Any:
    body = {"tenant_id": str(tenant_id), "payer": payer}
    return persona.api.post(f"{API}/agents/{agent}/shares", body, format="json", headers=headers)


def ask(persona: Persona, agent: str, **more: Any) -> Any:
    return persona.api.post(f"{API}/chat", {"agent_id": agent, "message": "Hello?", **more}, format="json")


def listed(persona: Persona, path: str) -> list[dict[str, Any]]:
    response = persona.api.get(f"{API}{path}")
    assert response.status_code == 200, response.json()
    found: list[dict[str, Any]] = response.json()["results"]
    return found


def test_an_owner_shares_lists_and_revokes(owner: Persona, consumer: Persona, agent: str) -> None:
    response = post_share(owner, agent, consumer.tenant.pk, "consumer")
    assert response.status_code == 201
    shown = response.json()
    assert (shown["tenant_id"], shown["payer"]) == (str(consumer.tenant.pk), "consumer")
    path = f"/agents/{agent}/shares"
    assert listed(owner, path) == [shown]
    assert owner.api.delete(f"{API}{path}/{shown['id']}").status_code == 204
    assert listed(owner, path) == []
    check_problem(owner.api.delete(f"{API}{path}/{shown['id']}"), 404, "share_not_found")


def test_an_agent_is_shared_with_a_tenant_once(owner: Persona, consumer: Persona, agent: str, share: str) -> None:
    for payer in ("owner", "consumer"):
        check_problem(post_share(owner, agent, consumer.tenant.pk, payer), 409, "already_shared")
    assert [row["payer"] for row in listed(owner, f"/agents/{agent}/shares")] == ["owner"]


def test_a_share_that_is_sent_twice_with_a_key_is_made_once(owner: Persona, consumer: Persona, agent: str) -> None:
    key = {"Idempotency-Key": "share-1"}
    first, second = (post_share(owner, agent, consumer.tenant.pk, **key) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert second["Idempotent-Replayed"] == "true"
    assert first.json() == second.json()
    check_problem(post_share(owner, agent, consumer.tenant.pk, "consumer", **key), 422, "idempotency_key_reused")


def test_a_tenant_does_not_share_with_itself(owner: Persona, agent: str) -> None:
    body = check_problem(post_share(owner, agent, owner.tenant.pk), 400, "invalid_request")
    assert [(error["field"], error["code"]) for error in body["errors"]] == [("tenant_id", "own_tenant")]


def test_the_answer_does_not_say_whether_there_is_such_a_tenant(
    owner: Persona, consumer: Persona, make_tenant: MakeTenant, agent: str
) -> None:
    switched_off = make_tenant()
    with operator_scope("test"):
        Tenant.objects.filter(pk=switched_off.tenant.pk).update(is_active=False)
    answers = []
    for tenant_id in (consumer.tenant.pk, switched_off.tenant.pk, uuid4()):
        response = post_share(owner, agent, tenant_id)
        own = {"id": None, "tenant_id": None, "created_at": None}
        answers.append((response.status_code, response.json() | own))
        assert post_share(owner, agent, tenant_id).status_code == 409
    assert answers[0] == answers[1] == answers[2]
    assert len(listed(owner, f"/agents/{agent}/shares")) == 3


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"tenant_id": str(uuid4())},
        {"payer": "owner"},
        {"tenant_id": "not-an-id", "payer": "owner"},
        {"tenant_id": None, "payer": "owner"},
        {"tenant_id": "\0", "payer": "owner"},
        {"tenant_id": str(uuid4()), "payer": "stranger"},
        {"tenant_id": str(uuid4()), "payer": ""},
        {"tenant_id": str(uuid4()), "payer": None},
        {"tenant_id": [str(uuid4())], "payer": {"no": "text"}},
        ["a list"],
        "a string",
        None,
    ],
)
def test_a_malformed_share_is_refused(owner: Persona, agent: str, body: Any) -> None:
    path = f"/agents/{agent}/shares"
    check_problem(owner.api.post(f"{API}{path}", body, format="json"), 400, "invalid_request")
    assert listed(owner, path) == []


@pytest.mark.parametrize("query", ["shared=maybe", "shared=%00", "shared=2"])
def test_a_malformed_question_for_shared_agents_is_refused(owner: Persona, query: str) -> None:
    check_problem(owner.api.get(f"{API}/agents?{query}"), 400, "invalid_request")


@pytest.mark.parametrize("who", ["stranger", "consumer"])
def test_only_its_owner_shares_an_agent(
    request: pytest.FixtureRequest, owner: Persona, agent: str, share: str, who: str
) -> None:
    other: Persona = request.getfixturevalue(who)
    path = f"{API}/agents/{agent}/shares"
    check_problem(other.api.get(path), 404, "agent_not_found")
    check_problem(post_share(other, agent, uuid4()), 404, "agent_not_found")
    check_problem(other.api.delete(f"{path}/{share}"), 404, "agent_not_found")
    assert [row["id"] for row in listed(owner, f"/agents/{agent}/shares")] == [share]


def test_a_share_is_revoked_on_its_own_agent_only(owner: Persona, agent: str, share: str) -> None:
    other = made(owner, "/agents", {"slug": "other", "name": "Other"})
    check_problem(owner.api.delete(f"{API}/agents/{other}/shares/{share}"), 404, "share_not_found")
    assert len(listed(owner, f"/agents/{agent}/shares")) == 1


def test_a_consumer_sees_whose_agent_it_is_and_nothing_of_what_it_is_made_of(
    owner: Persona, consumer: Persona, agent: str, share: str
) -> None:
    [shown] = listed(consumer, "/agents?shared=true")
    assert shown == consumer.api.get(f"{API}/agents/{agent}").json()
    assert (shown["id"], shown["slug"], shown["name"]) == (agent, "butler", "Butler")
    assert shown["shared"] == {"owner_tenant_id": str(owner.tenant.pk), "payer": "owner"}
    assert [shown[name] for name in ("prompt", "llm", "rag", "fallback_models")] == [None] * 4
    assert listed(consumer, "/agents") == []


def test_an_owner_sees_its_own_agent_whole(owner: Persona, agent: str, share: str) -> None:
    [shown] = listed(owner, "/agents")
    assert shown == owner.api.get(f"{API}/agents/{agent}").json()
    assert (shown["prompt"], shown["shared"]) == (PROMPT, None)
    assert listed(owner, "/agents?shared=true") == []


def test_a_list_of_shared_agents_takes_as_many_queries_for_six_as_for_two(owner: Persona, consumer: Persona) -> None:
    taken = []
    for expected in (2, 6):
        for number in range(expected):
            agent = made(owner, "/agents", {"slug": f"a-{expected}-{number}", "name": "A"})
            assert post_share(owner, agent, consumer.tenant.pk).status_code == 201
        with CaptureQueriesContext(connection) as queries:
            assert len(listed(consumer, "/agents?shared=true")) >= expected
        taken.append(len(queries))
    assert taken[0] == taken[1]


def test_a_consumer_changes_nothing_of_the_agent(owner: Persona, consumer: Persona, agent: str, share: str) -> None:
    path = f"{API}/agents/{agent}"
    before = owner.api.get(path).json()
    check_problem(consumer.api.patch(path, {"name": "Mine"}, format="json"), 404, "agent_not_found")
    check_problem(consumer.api.delete(path), 404, "agent_not_found")
    assert owner.api.get(path).json() == before


def test_a_share_opens_the_agent_to_one_tenant_until_it_is_revoked(
    owner: Persona, consumer: Persona, stranger: Persona, agent: str, share: str
) -> None:
    check_problem(ask(stranger, agent), 404, "agent_not_found")
    assert ask(consumer, agent).status_code == 202
    assert owner.api.delete(f"{API}/agents/{agent}/shares/{share}").status_code == 204
    check_problem(ask(consumer, agent), 404, "agent_not_found")
    check_problem(consumer.api.get(f"{API}/agents/{agent}"), 404, "agent_not_found")
    assert listed(consumer, "/agents?shared=true") == []


def test_the_header_names_a_shared_agent_as_the_body_does(consumer: Persona, agent: str, share: str) -> None:
    body = {"message": "Hello?"}
    response = consumer.api.post(f"{API}/chat", body, format="json", headers={"X-Agent-ID": agent})
    assert response.status_code == 202


def test_a_share_ends_with_its_agent(owner: Persona, consumer: Persona, agent: str, share: str) -> None:
    assert owner.api.delete(f"{API}/agents/{agent}").status_code == 204
    check_problem(ask(consumer, agent), 404, "agent_not_found")
    with operator_scope("test"):
        assert not AgentShare.objects.filter(pk=share).exists()


def test_the_agent_of_a_tenant_that_is_switched_off_answers_nobody(
    owner: Persona, consumer: Persona, agent: str, share: str
) -> None:
    with operator_scope("test"):
        Tenant.objects.filter(pk=owner.tenant.pk).update(is_active=False)
    check_problem(ask(consumer, agent), 404, "agent_not_found")


def test_a_consumer_narrows_what_is_searched_and_does_not_widen_it(
    owner: Persona, consumer: Persona, collection: str, agent: str, share: str
) -> None:
    private = made(owner, "/collections", {"slug": "private", "name": "Private"})
    own = made(consumer, "/collections", {"slug": "own", "name": "Own"})
    told = set()
    for foreign in (private, own, str(uuid4())):
        body = check_problem(ask(consumer, agent, collections=[collection, foreign]), 404, "collection_not_found")
        told.add(body["detail"].replace(foreign, "…"))
        header = {"X-RAG-Collections": f'["{foreign}"]'}
        body = {"agent_id": agent, "message": "Hello?"}
        response = consumer.api.post(f"{API}/chat", body, format="json", headers=header)
        check_problem(response, 404, "collection_not_found")
    assert len(told) == 1
    assert ask(consumer, agent, collections=[collection]).status_code == 202
    assert ask(consumer, agent, collections=[]).status_code == 202
    assert ask(owner, agent, collections=[private]).status_code == 202


def test_the_database_lets_a_consumer_read_its_share_and_write_none(
    owner: Persona, consumer: Persona, stranger: Persona, agent: str, share: str
) -> None:
    post_share(owner, agent, stranger.tenant.pk)
    with unit_of_work(consumer.ctx):
        assert [str(row.pk) for row in AgentShare.objects.all()] == [share]
        assert [str(row.pk) for row in Agent.objects.all()] == [agent]
        assert not AgentVersion.objects.exists()
        assert not Collection.objects.exists()
        assert AgentShare.objects.update(payer="consumer") == 0
        assert Agent.objects.update(name="Mine") == 0
        assert AgentShare.objects.all()._raw_delete("default") == 0
    forged = {"tenant_id": owner.tenant.pk, "agent_id": agent, "consumer_id": uuid4(), "payer": "owner"}
    with pytest.raises(DatabaseError, match="row-level security"), unit_of_work(consumer.ctx):
        AgentShare.objects.create(**forged)


def test_the_database_lets_a_consumer_that_uses_an_agent_change_nothing_of_its_owner(
    owner: Persona, consumer: Persona, stranger: Persona, agent: str, share: str
) -> None:
    post_share(owner, agent, stranger.tenant.pk)
    ctx = shares.using(consumer.ctx, Agent(pk=agent).pk)
    assert (ctx.owner_tenant_id, ctx.payer_tenant_id) == (owner.tenant.pk, owner.tenant.pk)
    with unit_of_work(ctx):
        assert AgentVersion.objects.get().prompt == PROMPT
        assert [str(row.pk) for row in AgentShare.objects.all()] == [share]
        for model in (Agent, AgentVersion, AgentShare, Collection):
            assert model.objects.update(tenant_id=owner.tenant.pk) == 0
            assert model.objects.all()._raw_delete("default") == 0
    for tenant_id in (owner.tenant.pk, consumer.tenant.pk):
        with pytest.raises(DatabaseError, match="row-level security"), unit_of_work(ctx):
            Collection.objects.create(tenant_id=tenant_id, slug="planted", name="Planted")


def test_a_share_with_the_owner_itself_is_none_for_the_database(owner: Persona, agent: str) -> None:
    with pytest.raises(DatabaseError, match="share_with_another_tenant"), unit_of_work(owner.ctx):
        AgentShare.objects.create(tenant_id=owner.tenant.pk, agent_id=agent, consumer_id=owner.tenant.pk, payer="owner")
