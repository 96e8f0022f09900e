"""What only one provider takes, from the agent that sets it to the call that it goes out with."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.exceptions import ValidationError

from apps.agents import prompts
from apps.core import configuration
from apps.core.configuration import InvalidSettingError, Level
from apps.core.context import LLMConfig
from apps.tenants.models import Tier
from tests.api.test_authentication import check_problem
from tests.faults.scene import Scene
from tests.personas import Persona

AGENTS = "/api/v1/agents"
OPENAI = {"provider": "openai", "model": "gpt-4o"}
EXTRAS = {"seed": 7, "top_p": 0.5}


def make(owner: Persona, **llm: Any) -> Any:
    return owner.api.post(AGENTS, {"slug": "helper", "name": "Helper", "llm": llm}, format="json")


def change(owner: Persona, agent: Any, **llm: Any) -> Any:
    return owner.api.patch(f"{AGENTS}/{agent['id']}", {"llm": llm}, format="json")


def test_an_agent_has_extras_of_its_provider_as_a_whole_until_it_takes_them_back(owner: Persona) -> None:
    agent = make(owner, **OPENAI, extras=EXTRAS).json()
    assert agent["llm"]["extras"] == EXTRAS
    assert change(owner, agent, temperature=0.1).json()["llm"]["extras"] == EXTRAS
    assert change(owner, agent, extras={"top_p": 1}).json()["llm"]["extras"] == {"top_p": 1}
    assert change(owner, agent, extras={}).json()["llm"]["extras"] == {}
    assert change(owner, agent, extras=None).json()["llm"]["extras"] is None


@pytest.mark.parametrize(
    ("extras", "field"),
    [
        ({"n": 2}, "llm.extras.n"),
        ({"top_p": 7}, "llm.extras.top_p"),
        ({"top_p": 10**400}, "llm.extras.top_p"),
        ({"seed": "x" * 100_000}, "llm.extras.seed"),
        ({f"x{number}": 1 for number in range(17)}, "llm.extras"),
        ({"x" * 65: 1}, "llm.extras"),
        ([], "llm.extras"),
    ],
)
def test_an_agent_is_not_saved_with_what_its_provider_does_not_take(owner: Persona, extras: Any, field: str) -> None:
    refused = make(owner, **OPENAI, extras=extras)
    agent = make(owner, **OPENAI).json()
    for response in (refused, change(owner, agent, extras=extras)):
        assert response.status_code == 400
        assert [problem["field"] for problem in response.json()["errors"]] == [field]
        assert len(response.content) < 1000
    assert owner.api.get(AGENTS).json()["results"] == [agent]


def test_an_agent_that_goes_to_another_provider_changes_its_extras_too(owner: Persona) -> None:
    agent = make(owner, **OPENAI, extras=EXTRAS).json()
    claude = {"provider": "anthropic", "model": "claude-sonnet-5-5"}
    check_problem(change(owner, agent, **claude), 400, "invalid_setting")
    assert change(owner, agent, **claude, extras={"effort": "low"}).status_code == 200


def test_a_question_sets_none() -> None:
    with pytest.raises(InvalidSettingError, match="cannot be set here"):
        configuration.check({"llm_config.extras": EXTRAS}, level=Level.REQUEST)


def test_a_tier_is_not_saved_with_what_its_provider_does_not_take() -> None:
    tier = Tier(name="new", title="New", defaults={"llm_config.extras": EXTRAS})
    with pytest.raises(ValidationError, match="extractive takes none"):
        tier.full_clean(validate_unique=False, validate_constraints=False)


@pytest.mark.parametrize(
    ("provider", "model", "taken"),
    [
        ("openai", "gpt-4o", {"seed", "top_p", "frequency_penalty"}),
        ("openai", "gpt-5", {"seed"}),
        ("groq", "llama-3.1-8b-instant", {"seed", "top_p"}),
        ("local", "extractive", set()),
    ],
)
def test_whoever_is_asked_is_sent_what_it_takes(provider: str, model: str, taken: set[str]) -> None:
    config = LLMConfig(
        provider=provider,
        model=model,
        temperature=0,
        max_tokens=100,
        timeout_seconds=20,
        retry_attempts=0,
        extras={**EXTRAS, "frequency_penalty": 0.5},
    )
    request = prompts.build(config, prompt="", question="How heavy?", passages=[], history=[])
    assert request.extras == {name: config.extras[name] for name in taken}
    assert prompts.rewording(config, "How heavy?").extras == request.extras


# From the agent to the provider


@pytest.fixture
def agent(scene: Scene) -> str:
    llm = {"provider": "fake", "model": "fake-chat", "max_tokens": 200, "extras": EXTRAS}
    return str(scene.post("/agents", {"slug": "talker", "name": "Talker", "llm": llm})["id"])


def ask(scene: Scene, agent: str, question: str, **preferences: str) -> dict[str, Any]:
    """The run that has answered."""
    body = {"agent_id": agent, "message": question, "model_preferences": preferences}
    run = scene.wait_for_run(UUID(scene.post("/chat", body)["run_id"]))
    assert (run.status, run.error_detail) == ("succeeded", "")
    shown: dict[str, Any] = scene.persona.api.get(f"/api/v1/runs/{run.pk}").json()
    return shown


def test_a_question_goes_out_with_its_agents_extras_and_its_run_shows_them(scene: Scene, agent: str) -> None:
    question = uuid4().hex
    config = ask(scene, agent, question)["config"]
    assert (config["llm_config"]["extras"], config["sources"]["llm_config.extras"]) == (EXTRAS, Level.AGENT)
    [sent] = [each["body"] for each in scene.fake.arrivals() if question in str(each["body"])]
    assert {name: sent.get(name) for name in EXTRAS} == EXTRAS


def test_who_is_asked_instead_is_not_sent_what_it_does_not_take(scene: Scene, agent: str) -> None:
    run = ask(scene, agent, uuid4().hex, provider="local", model="extractive")
    # As it was set, like a temperature that a model does not take.
    assert run["config"]["llm_config"]["extras"] == EXTRAS
