"""An agent is told at once which of its settings could not work."""

from typing import Any

import pytest

from apps.agents import services
from apps.agents.models import AgentVersion
from apps.core.configuration import SETTINGS, Level
from apps.core.db import unit_of_work
from tests.api.test_authentication import check_problem
from tests.personas import Persona

AGENTS = "/api/v1/agents"
WITH_EFFECT: list[dict[str, Any]] = [
    {"rag": {"query_expansion_enabled": True}},
    {"rag": {"query_expansion_enabled": False}},
    {"rag": {"query_expansion_enabled": None}},
    {"fallback_models": []},
    {"fallback_models": None},
]


#: What the catalogue says cannot be, with what the agent's tier and the deployment say besides.
IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"provider": "nobody"}, "unknown_provider"),
    ({"provider": "openai"}, "unknown_model"),
    ({"model": "gpt-4o-mini"}, "unknown_model"),
    ({"provider": "openai", "model": "text-embedding-3-small"}, "unknown_model"),
    ({"provider": "openai", "model": "gpt-4-turbo", "max_tokens": 4097}, "invalid_setting"),
    ({"max_tokens": 4097}, "invalid_setting"),
]


@pytest.mark.parametrize(("llm", "code"), IMPOSSIBLE)
def test_an_agent_that_could_not_answer_is_not_saved(owner: Persona, llm: dict[str, Any], code: str) -> None:
    body = {"slug": "helper", "name": "Helper"}
    check_problem(owner.api.post(AGENTS, {**body, "llm": llm}, format="json"), 400, code)
    agent = owner.api.post(AGENTS, body, format="json").json()
    check_problem(owner.api.patch(f"{AGENTS}/{agent['id']}", {"llm": llm}, format="json"), 400, code)
    assert owner.api.get(AGENTS).json()["results"] == [agent]


def test_an_answer_that_is_too_long_for_its_model_is_refused_where_it_was_sent(owner: Persona) -> None:
    body = {"slug": "helper", "name": "Helper", "llm": {"max_tokens": 4097}}
    problem = check_problem(owner.api.post(AGENTS, body, format="json"), 400, "invalid_setting")
    assert [error["field"] for error in problem["errors"]] == ["llm.max_tokens"]


@pytest.mark.parametrize(
    "name",
    [name for name, setting in SETTINGS.items() if setting.maximum is not None and Level.AGENT in setting.levels],
)
def test_a_number_out_of_its_settings_range_is_refused_as_the_schema_says(owner: Persona, name: str) -> None:
    section, _, member = name.partition("_config.")
    least, most = SETTINGS[name].minimum, SETTINGS[name].maximum
    assert least is not None
    assert most is not None
    for value in (least - 1, most + 1):
        body = {"slug": "helper", "name": "Helper", section: {member: value}}
        problem = check_problem(owner.api.post(AGENTS, body, format="json"), 400, "invalid_request")
        assert [error["field"] for error in problem["errors"]] == [f"{section}.{member}"]


def test_an_agent_says_how_long_a_call_may_take_and_how_often_it_is_made_again(owner: Persona) -> None:
    llm = {"timeout_seconds": 20, "retry_attempts": 0}
    agent = owner.api.post(AGENTS, {"slug": "helper", "name": "Helper", "llm": llm}, format="json").json()
    assert agent["llm"].items() >= llm.items()
    run = owner.api.post("/api/v1/chat", {"agent_id": agent["id"], "message": "Hello?"}, format="json").json()["run_id"]
    config = owner.api.get(f"/api/v1/runs/{run}").json()["config"]
    assert config["llm_config"].items() >= llm.items()
    assert {config["sources"][f"llm_config.{name}"] for name in llm} == {"agent"}
    taken_back = {"llm": dict.fromkeys(llm)}
    agent = owner.api.patch(f"{AGENTS}/{agent['id']}", taken_back, format="json").json()
    assert {agent["llm"][name] for name in llm} == {None}


#: What could be chosen once, and cannot any more.
OUTDATED: list[dict[str, Any]] = [
    {"settings": {"llm_config.provider": "local", "llm_config.model": "a-model-that-was"}},
    {"settings": {"llm_config.temperature": 99}},
    {"settings": {"a_setting_that_was": 1}},
    {"fallback_models": ["another"]},
]


@pytest.mark.parametrize("stored", OUTDATED)
def test_a_change_is_not_refused_for_what_it_leaves_alone(owner: Persona, stored: dict[str, Any]) -> None:
    agent = services.create_agent(owner.ctx, slug="helper", name="Helper")
    with unit_of_work(owner.ctx):
        AgentVersion.objects.filter(agent=agent).update(**stored)
    services.update_agent(owner.ctx, agent.pk, changes={"prompt": "Be brief."})
    services.update_agent(owner.ctx, agent.pk, changes={"settings": {"rag_config.max_results": 3}})
    with unit_of_work(owner.ctx):
        version = AgentVersion.objects.get(agent=agent, number=3)
    assert (version.prompt, version.settings["rag_config.max_results"]) == ("Be brief.", 3)
    assert version.settings.items() >= stored.get("settings", {}).items()
    assert version.fallback_models == stored.get("fallback_models")


def test_a_model_that_nobody_has_heard_of_is_taken_at_its_word(owner: Persona) -> None:
    llm = {"provider": "openai", "model": "gpt-99", "max_tokens": 128_000}
    response = owner.api.post(AGENTS, {"slug": "helper", "name": "Helper", "llm": llm}, format="json")
    assert response.status_code == 201, response.json()


@pytest.mark.parametrize("wanted", [{"model": "gpt-4o"}, {"provider": "openai"}])
def test_a_question_to_a_model_that_cannot_be_is_refused_before_it_costs(
    owner: Persona, wanted: dict[str, str]
) -> None:
    agent = owner.api.post(AGENTS, {"slug": "helper", "name": "Helper"}, format="json").json()["id"]
    body = {"agent_id": agent, "message": "Hello?", "model_preferences": wanted}
    check_problem(owner.api.post("/api/v1/chat", body, format="json"), 400, "unknown_model")
    assert owner.api.get("/api/v1/runs").json()["results"] == []


@pytest.mark.parametrize("wanted", WITH_EFFECT)
def test_an_agent_may_say_what_has_an_effect_or_is_so_anyway(owner: Persona, wanted: dict[str, Any]) -> None:
    response = owner.api.post(AGENTS, {"slug": "helper", "name": "Helper", **wanted}, format="json")
    assert response.status_code == 201, response.json()
    assert {"query_expansion_enabled", "max_results"} < response.json()["rag"].keys()
    assert response.json()["fallback_models"] == wanted.get("fallback_models")
