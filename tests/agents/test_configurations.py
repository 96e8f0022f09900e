"""An agent's configuration is read once for many questions, and never from before it was saved."""

from typing import Any
from uuid import UUID

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.agents import answering, configurations, services
from apps.agents.errors import AgentNotFoundError
from apps.core import caching, dispatch
from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work
from tests.api.test_authentication import check_problem
from tests.api.test_headers import ask, config_of, make_collection
from tests.personas import Persona

AGENTS = "/api/v1/agents"
#: Where configuration stands.
TABLES = ("agents_agent", "agents_agentversion", "agents_agentshare", "tenants_", "collections_collection")


@pytest.fixture(autouse=True)
def lost_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """No message reaches a worker: what is delivered is delivered here."""
    monkeypatch.setattr(dispatch, "_publish", lambda *_: None)


@pytest.fixture
def agent(owner: Persona) -> str:
    collection = make_collection(owner).json()["id"]
    body = {"slug": "helper", "name": "Helper", "rag": {"collections": [collection], "max_results": 3}}
    return str(owner.api.post(AGENTS, body, format="json").json()["id"])


@pytest.fixture(autouse=True)
def fresh() -> None:
    """A process that has read no prompt yet."""
    configurations._prompt.cache_clear()


def queries_of(tables: tuple[str, ...], captured: CaptureQueriesContext) -> list[str]:
    statements = [query["sql"] or "" for query in captured.captured_queries]
    return [sql for sql in statements if any(f'"{table}' in sql for table in tables)]


def results(persona: Persona, agent: str) -> int:
    return int(config_of(persona, ask(persona, agent, {}))["rag_config"]["max_results"])


def test_an_agent_is_read_in_one_query_and_the_next_time_in_none(owner: Persona, agent: str) -> None:
    cache.clear()
    for expected in (1, 0, 0):
        with CaptureQueriesContext(connection) as captured:
            configurations.current(owner.ctx, UUID(agent))
        assert len(queries_of(("agents_",), captured)) == expected


def test_a_question_asks_for_no_agent_that_is_remembered(owner: Persona, agent: str) -> None:
    ask(owner, agent, {})
    with CaptureQueriesContext(connection) as captured:
        assert ask(owner, agent, {}).status_code == 202
    assert queries_of(('agents_agent"', "agents_agentversion"), captured) == []


def test_a_change_counts_for_the_next_question(owner: Persona, agent: str) -> None:
    assert results(owner, agent) == 3
    for number in (4, 5):
        owner.api.patch(f"{AGENTS}/{agent}", {"rag": {"max_results": number}}, format="json")
        assert results(owner, agent) == number


def test_a_deleted_agent_is_gone_for_the_next_question(owner: Persona, agent: str) -> None:
    assert results(owner, agent) == 3
    assert owner.api.delete(f"{AGENTS}/{agent}").status_code == 204
    check_problem(ask(owner, agent, {}), 404, "agent_not_found")


def test_what_is_remembered_of_a_strangers_agent_is_not_told(owner: Persona, stranger: Persona, agent: str) -> None:
    assert results(owner, agent) == 3
    check_problem(ask(stranger, agent, {}), 404, "agent_not_found")
    with pytest.raises(AgentNotFoundError):
        configurations.current(stranger.ctx, UUID(agent))


def test_a_strangers_question_leaves_nothing_behind(owner: Persona, stranger: Persona, agent: str) -> None:
    configurations.forget(UUID(agent))
    check_problem(ask(stranger, agent, {}), 404, "agent_not_found")
    assert results(owner, agent) == 3


def test_a_worker_reads_no_configuration_but_the_prompt_and_that_once(owner: Persona, agent: str) -> None:
    seen: list[list[str]] = []
    for _ in range(2):
        run = UUID(ask(owner, agent, {}).json()["run_id"])
        with CaptureQueriesContext(connection) as captured:
            answering.answer(owner.ctx, run, task_id="")
        seen.append(queries_of(TABLES, captured))
        assert owner.api.get(f"/api/v1/runs/{run}").json()["status"] == "succeeded"
    first, second = seen
    assert ["agents_agentversion" in sql and "prompt" in sql for sql in first] == [True]
    assert second == []


def test_a_prompt_is_read_anew_for_each_version_and_each_owner(owner: Persona, stranger: Persona, agent: str) -> None:
    def told(ctx: ExecutionContext, version: int) -> str:
        with unit_of_work(ctx):
            return configurations.prompt(ctx, UUID(agent), version)

    services.update_agent(owner.ctx, UUID(agent), changes={"prompt": "Be brief."})
    assert told(owner.ctx, 2) == "Be brief."
    assert told(owner.ctx, 1) != "Be brief."
    with pytest.raises(AgentNotFoundError):
        told(stranger.ctx, 2)


@pytest.mark.parametrize("shape", [{"version": 1, "settings": {}}, {"answers_with": "gpt-4o"}, [1, 2], "an agent"])
def test_what_another_release_remembers_in_a_shape_of_its_own_is_read_anew(
    owner: Persona, agent: str, shape: Any
) -> None:
    caching.remembered(configurations._key(UUID(agent)), lambda: shape, seconds=60)
    assert results(owner, agent) == 3
    owner.api.patch(f"{AGENTS}/{agent}", {"rag": {"max_results": 4}}, format="json")
    assert results(owner, agent) == 4


def test_without_redis_questions_are_answered_all_the_same(owner: Persona, agent: str, settings: Any) -> None:
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1/0"}}
    assert results(owner, agent) == 3
    owner.api.patch(f"{AGENTS}/{agent}", {"rag": {"max_results": 4}}, format="json")
    assert results(owner, agent) == 4
