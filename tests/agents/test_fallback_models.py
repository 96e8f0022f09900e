"""An agent names the models that are asked when the first one fails: which may be, and what its answers tell."""

from collections.abc import Iterator
from typing import Any

import pytest

from apps.agents import generation, prompts
from apps.agents.errors import ContextTooLongError
from apps.agents.models import Run
from apps.core.context import ExecutionContext
from apps.core.db import operator_scope
from apps.tenants.models import Tier
from tests.api.test_authentication import check_problem
from tests.faults.scene import Scene
from tests.personas import MakeTenant, Persona

AGENTS = "/api/v1/agents"
AGENT = {"slug": "helper", "name": "Helper"}


def create(persona: Persona, *models: str, **body: Any) -> Any:
    return persona.api.post(AGENTS, {**AGENT, "fallback_models": list(models), **body}, format="json")


def asked(persona: Persona, agent: str, **preferences: Any) -> Run:
    """A question's run, before anybody has answered it."""
    body = {"agent_id": agent, "message": "Hello?", "model_preferences": preferences}
    response = persona.api.post("/api/v1/chat", body, format="json")
    assert response.status_code == 202, response.json()
    with operator_scope("test"):
        return Run.objects.get(pk=response.json()["run_id"])


def context_of(run: Run) -> ExecutionContext:
    return run.context


def test_the_next_model_answers_when_the_first_one_fails(scene: Scene, question: str) -> None:
    llm = {"provider": "fake", "model": "fake-chat", "max_tokens": 200}
    agent = create(scene.persona, "askable/fake-large", llm=llm).json()["id"]
    scene.fake.fail("401", match={"path": "chat", "contains": question})
    run = scene.wait_for_run(scene.ask(agent, question))
    assert run.status == "succeeded"
    found = [(attempt.provider, attempt.model, attempt.state) for attempt in scene.attempts()]
    assert found == [("fake", "fake-chat", "void"), ("askable", "fake-large", "settled")]
    [entry] = scene.entries()
    assert (entry.provider, entry.model, entry.attempts) == ("askable", "fake-large", 2)
    assert entry.input_tokens == run.usage["input_tokens"]
    shown = scene.persona.api.get(f"/api/v1/runs/{run.pk}").json()
    assert shown["config"]["fallback_models"] == ["askable/fake-large"]
    assert shown["config"]["sources"]["fallback_models"] == "agent"


def test_a_question_is_too_long_when_none_of_the_models_can_hold_it(owner: Persona) -> None:
    context = context_of(asked(owner, create(owner, "openai/gpt-4o-mini").json()["id"]))
    _, large = generation.models(context)
    small = large.model_copy(update={"provider": "fake", "model": "fake-chat"})
    question = "The pump is blue. " * 5000
    prompts.require_room([small, large], prompt="", question=question)
    with pytest.raises(ContextTooLongError, match="fake-chat"):
        prompts.require_room([small, small], prompt="", question=question)


@pytest.mark.parametrize(
    ("models", "code", "why"),
    [
        *[([name], "invalid_setting", "provider/model") for name in ("gpt-4o-mini", "openai", "openai/", "/x")],
        (["nobody/gpt-4o-mini"], "invalid_setting", "nobody"),
        (["openai/text-embedding-3-small"], "invalid_setting", "text-embedding-3-small"),
        (["local/wordllama-256"], "invalid_setting", "wordllama-256"),
        (["openai/gpt-4o", "openai/gpt-4o"], "invalid_setting", "once"),
        ([f"openai/gpt-{number}" for number in range(6)], "invalid_request", "5"),
        ([""], "invalid_request", "blank"),
        ([None], "invalid_request", "null"),
    ],
)
def test_what_could_not_answer_is_refused_when_it_is_saved(
    owner: Persona, models: list[Any], code: str, why: str
) -> None:
    problem = check_problem(create(owner, *models), 400, code)
    assert all(error["field"].startswith("fallback_models") for error in problem["errors"])
    assert why in problem["errors"][0]["detail"]
    agent = owner.api.post(AGENTS, AGENT, format="json").json()
    check_problem(owner.api.patch(f"{AGENTS}/{agent['id']}", {"fallback_models": models}, format="json"), 400, code)
    assert owner.api.get(AGENTS).json()["results"] == [agent]


def set_models_allowed(*patterns: str) -> None:
    with operator_scope("test"):
        Tier.objects.filter(name="advance").update(models_allowed=list(patterns))


@pytest.fixture
def narrow(make_tenant: MakeTenant) -> Iterator[Persona]:
    """A tenant whose plan has few models."""
    set_models_allowed("local/*", "groq/*")
    yield make_tenant(tier="advance")
    set_models_allowed()


def test_a_plan_must_have_them(narrow: Persona) -> None:
    problem = check_problem(create(narrow, "groq/llama-3.1-8b-instant", "openai/gpt-4o"), 400, "invalid_setting")
    assert "openai/gpt-4o" in problem["errors"][0]["detail"]


def test_one_that_a_plan_has_no_longer_is_left_out(narrow: Persona) -> None:
    agent = create(narrow, "groq/llama-3.1-8b-instant").json()["id"]
    set_models_allowed("local/*")
    # The model that was chosen still answers.
    context = context_of(asked(narrow, agent))
    assert (context.fallback_models, context.config_sources["fallback_models"]) == ((), "tier")


def test_the_model_that_is_asked_first_is_not_its_own_fallback(owner: Persona) -> None:
    agent = create(owner, "local/extractive", "groq/llama-3.1-8b-instant").json()["id"]
    assert context_of(asked(owner, agent)).fallback_models == ("groq/llama-3.1-8b-instant",)
    chosen = context_of(asked(owner, agent, provider="groq", model="llama-3.1-8b-instant"))
    assert (chosen.fallback_models, chosen.config_sources["fallback_models"]) == (("local/extractive",), "agent")
    first, second = generation.models(chosen)
    assert (first.provider, second.provider) == ("groq", "local")
    assert second == first.model_copy(update={"provider": "local", "model": "extractive"})


@pytest.mark.parametrize("body", [{}, {"fallback_models": None}])
def test_an_agent_that_says_nothing_of_them_has_the_deployments(
    owner: Persona, settings: Any, body: dict[str, Any]
) -> None:
    settings.WORK_SETTINGS = {"fallback_models": ["groq/openai/gpt-oss-20b"]}
    agent = owner.api.post(AGENTS, {**AGENT, **body}, format="json").json()
    assert agent["fallback_models"] is None
    run = asked(owner, agent["id"])
    assert context_of(run).fallback_models == ("groq/openai/gpt-oss-20b",)
    assert context_of(run).config_sources["fallback_models"] == "deployment"
    assert [model.model for model in generation.models(context_of(run))] == ["extractive", "openai/gpt-oss-20b"]
    own = asked(owner, create(owner, "openai/gpt-4o", slug="own").json()["id"])
    assert context_of(own).fallback_models == ("openai/gpt-4o",)


def test_an_agent_that_wants_none_goes_to_no_other_model(owner: Persona, settings: Any) -> None:
    settings.WORK_SETTINGS = {"fallback_models": ["groq/openai/gpt-oss-20b"]}
    agent = create(owner).json()["id"]
    context = context_of(asked(owner, agent))
    assert (context.fallback_models, context.config_sources["fallback_models"]) == ((), "agent")
    owner.api.patch(f"{AGENTS}/{agent}", {"fallback_models": None}, format="json")
    assert context_of(asked(owner, agent)).fallback_models == ("groq/openai/gpt-oss-20b",)


def test_what_is_saved_is_shown(owner: Persona) -> None:
    agent = create(owner, "groq/llama-3.1-8b-instant", "openai/gpt-4o").json()
    assert agent["fallback_models"] == ["groq/llama-3.1-8b-instant", "openai/gpt-4o"]
    path = f"{AGENTS}/{agent['id']}"
    assert owner.api.patch(path, {"name": "New"}, format="json").json()["fallback_models"] == agent["fallback_models"]
    assert owner.api.patch(path, {"fallback_models": []}, format="json").json()["fallback_models"] == []
    assert owner.api.patch(path, {"fallback_models": None}, format="json").json()["fallback_models"] is None
