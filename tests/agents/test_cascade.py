"""Request → agent → tier → deployment: which value a question is answered with, and who said so.

Whatever a tier, an agent, a body and headers say, together or against each other, a question is answered as the
strongest of them says, and its run tells; or it is refused, and nothing is begun.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.agents import configurations, services
from apps.agents.models import AgentVersion, Run
from apps.core import configuration
from apps.core.configuration import SETTINGS, InvalidSettingError, Level, Setting
from apps.core.db import operator_scope, unit_of_work
from apps.core.headers import HEADERS
from apps.providers import extras
from apps.tenants import services as tenants
from apps.tenants.models import Tier
from tests.api.test_headers import make_collection
from tests.personas import Persona

EDITED = "advance"
EXAMPLES = 150
#: What the tier allows.
MOST_TOKENS = 3000

MODELS = [("local", "extractive"), ("openai", "gpt-4o-mini"), ("groq", "llama-3.1-8b-instant")]
#: Chosen together.
CHOICE = ("llm_config.provider", "llm_config.model")
#: A question is embedded with the models of the collections that are searched: these are a new collection's.
NOT_OF_A_QUESTION = {name for name in SETTINGS if name.startswith("embedding_config.")}


def within(setting: Setting) -> st.SearchStrategy[Any] | None:
    """Values that the setting accepts, if its definition says all about them."""
    if setting.choices:
        return st.sampled_from(setting.choices)
    if setting.type is bool:
        return st.booleans()
    if setting.type not in (int, float) or setting.minimum is None or setting.maximum is None:
        return None
    if setting.type is int:
        return st.integers(int(setting.minimum), int(setting.maximum))
    return st.floats(setting.minimum, setting.maximum, allow_subnormal=False)


@st.composite
def some_extras(draw: st.DrawFn) -> dict[str, Any]:
    """Extras of one of the models: a level may set those of a model that another level chooses."""
    taken = extras.of(*draw(st.sampled_from(MODELS)))
    strategies = {name: strategy for name, extra in taken.items() if (strategy := within(extra)) is not None}
    return draw(st.fixed_dictionaries({}, optional=strategies))


#: Values of settings whose definition does not say all about them; and answers about as long as the tier allows.
OWN: dict[str, st.SearchStrategy[Any]] = {
    "llm_config.max_tokens": st.integers(1, 4000),
    "llm_config.extras": some_extras(),
    "fallback_models": st.lists(st.sampled_from(["/".join(each) for each in MODELS]), unique=True),
}
#: Values that a level may give to the settings of a question.
VALUES: Mapping[str, st.SearchStrategy[Any]] = OWN | {
    name: strategy
    for name, setting in SETTINGS.items()
    if name not in OWN.keys() | NOT_OF_A_QUESTION and (strategy := within(setting)) is not None
}


@st.composite
def layers(draw: st.DrawFn, level: Level) -> dict[str, Any]:
    """What the level says: of some of the settings that it may set, of all kinds of questions or of one."""
    settable = {name: values for name, values in VALUES.items() if level in SETTINGS[name].levels}
    if level != Level.REQUEST:
        settable |= {f"{name}.{kind}": VALUES[name] for name in settable for kind in SETTINGS[name].kinds}
    chosen = draw(st.none() | st.sampled_from(MODELS))
    said: dict[str, Any] = draw(st.fixed_dictionaries({}, optional=settable))
    return said | (dict(zip(CHOICE, chosen, strict=True)) if chosen else {})


BY_SETTING = {header.setting: name for name, header in HEADERS.items() if header.setting}
IN_BODY = ("llm_config.provider", "llm_config.model", "llm_config.temperature", "llm_config.max_tokens")
#: What any header may be sent with, besides what makes sense.
JUNK = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30)


@dataclass(frozen=True)
class World:
    """``theirs`` is a collection of somebody else's."""

    persona: Persona
    agent: str
    collection: str
    theirs: str


@pytest.fixture(scope="module")
def world(database: None) -> Iterator[World]:
    tier = Tier.objects.get(pk=EDITED)
    owner, stranger = (
        Persona(*tenants.create_tenant(slug=f"t-{uuid4().hex[:12]}", name="Test", tier=EDITED)) for _ in range(2)
    )
    mine, theirs = (str(make_collection(each).json()["id"]) for each in (owner, stranger))
    agent = services.create_agent(owner.ctx, slug="helper", name="Helper")
    yield World(persona=owner, agent=str(agent.pk), collection=mine, theirs=theirs)
    with operator_scope("test"):
        tier.save()


def configure(world: World, *, tier: dict[str, Any], agent: dict[str, Any], collections: list[str]) -> None:
    """What stands in the rows, however it came there."""
    with operator_scope("test"):
        Tier.objects.filter(pk=EDITED).update(defaults=tier, max_output_tokens=MOST_TOKENS)
    with unit_of_work(world.persona.ctx):
        said = {name: value for name, value in agent.items() if name != "fallback_models"}
        AgentVersion.objects.filter(agent=UUID(world.agent)).update(
            settings=said, collections=collections, fallback_models=agent.get("fallback_models")
        )
        configurations.forget(UUID(world.agent))


def ask(world: World, headers: dict[str, str], **body: Any) -> Any:
    question = {"agent_id": world.agent, "message": "Hello?", **body}
    return world.persona.api.post("/api/v1/chat", question, format="json", headers=headers)


def expected(said: Mapping[Level, Mapping[str, Any]], name: str, kind: str) -> tuple[Any, str]:
    """The cascade, written down once more: the value of a setting, and the level that it is from."""
    for level in (Level.REQUEST, Level.AGENT, Level.TIER):
        for each in (f"{name}.{kind}", name):
            if each in said[level]:
                return said[level][each], level.value
    defaults = {"llm_config.provider": "local", "llm_config.model": "extractive"}
    return defaults.get(name, SETTINGS[name].default), Level.DEPLOYMENT.value


def shown(config: dict[str, Any], name: str) -> Any:
    section, _, key = name.partition(".")
    if not key:
        return config[section]
    if key == "similarity_threshold":
        return next((each[key] for each in config["rag_config"]["collections"]), None)
    return config[section][key]


@st.composite
def requests(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, str], dict[str, Any]]:
    """The settings that a request asks for, and the headers and the body that say so between them."""
    sent = {name: value for name, value in draw(layers(Level.REQUEST)).items() if name in BY_SETTING}
    # A header about how documents are cut says nothing to a question.
    asked = {name: value for name, value in sent.items() if not name.startswith("processing_config.")}
    in_body = draw(st.sets(st.sampled_from(IN_BODY)))
    in_both = draw(st.booleans())
    preferences = {name: value for name, value in asked.items() if name in in_body}
    headers = {BY_SETTING[name]: str(value) for name, value in sent.items() if in_both or name not in in_body}
    body = {"model_preferences": {name.partition(".")[2]: value for name, value in preferences.items()}}
    return asked, headers, body


def test_there_are_values_of_every_setting_that_can_be_set_for_a_question() -> None:
    settable = {name for name, setting in SETTINGS.items() if setting.levels - {Level.DEPLOYMENT}}
    assert VALUES.keys() | set(CHOICE) == settable - NOT_OF_A_QUESTION


@given(tier=layers(Level.TIER), agent=layers(Level.AGENT), request=requests(), rag=st.booleans())
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
def test_every_setting_is_the_strongest_levels_and_the_run_says_which(
    world: World, tier: dict[str, Any], agent: dict[str, Any], request: Any, rag: bool
) -> None:
    asked, headers, body = request
    configure(world, tier=tier, agent=agent, collections=[world.collection] if rag else [])
    response = ask(world, headers, **body)
    said = {Level.REQUEST: asked, Level.AGENT: agent, Level.TIER: tier}
    if asked.get("llm_config.max_tokens", 0) > MOST_TOKENS:
        assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
        return
    assert response.status_code == 202, response.json()
    config = world.persona.api.get(f"/api/v1/runs/{response.json()['run_id']}").json()["config"]
    for name in (*CHOICE, *VALUES):
        value, source = expected(said, name, "rag" if rag else "chat")
        if name == "llm_config.max_tokens" and value > MOST_TOKENS:
            value, source = MOST_TOKENS, "tier"
        if name == "fallback_models":
            first = "/".join(shown(config, each) for each in CHOICE)
            value = [each for each in value if each != first]
        if name != "rag_config.similarity_threshold" or rag:
            assert shown(config, name) == value, name
        assert config["sources"][name] == source, name


def test_a_run_names_the_source_of_what_its_configuration_shows_and_of_nothing_else(world: World) -> None:
    configure(world, tier={"embedding_config.provider": "openai"}, agent={}, collections=[world.collection])
    run = ask(world, {}).json()["run_id"]
    config = world.persona.api.get(f"/api/v1/runs/{run}").json()["config"]
    sections = {name.partition(".")[0] for name in config["sources"]}
    assert sections == config.keys() - {"sources"}


@given(
    headers=st.dictionaries(st.sampled_from(sorted(HEADERS)), JUNK | st.sampled_from(["{theirs}", '["{theirs}"]', "7"]))
)
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
def test_no_header_brings_an_error_of_ours_or_anything_of_another_tenants(
    world: World, headers: dict[str, str]
) -> None:
    configure(world, tier={}, agent={}, collections=[world.collection])
    sent = {name: text.replace("{theirs}", world.theirs) for name, text in headers.items()}
    for response in (ask(world, sent), world.persona.api.get("/api/v1/collections", headers=sent)):
        assert response.status_code < 500
        if response.status_code >= 400:
            assert response["Content-Type"] == "application/problem+json"
    with unit_of_work(world.persona.ctx):
        contexts = [run.context for run in Run.objects.order_by("-id")[:1]]
    for ctx in contexts:
        assert {ctx.tenant_id, ctx.payer_tenant_id, ctx.owner_tenant_id} == {world.persona.tenant.pk}
        assert ctx.tenant_tier == EDITED
        # Labels are the caller's own words, whatever they say.
        ours = ctx.model_dump(mode="json", exclude={"user_id", "session_id", "request_source", "client_version"})
        assert world.theirs not in json.dumps(ours)


def test_who_may_not_set_something_does_not_set_it_by_kind_either() -> None:
    for level, accepted in ((Level.AGENT, True), (Level.TIER, True), (Level.REQUEST, False)):
        assert _takes({"llm_config.temperature.rag": 0.1}, level) == accepted
        assert not _takes({"llm_config.temperature.code": 0.1}, level)
        assert not _takes({"llm_config.max_tokens.rag": 1}, level)


def _takes(values: dict[str, Any], level: Level) -> bool:
    try:
        return configuration.check(values, level=level) == values
    except InvalidSettingError:
        return False
