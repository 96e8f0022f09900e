"""Which values settings accept, and at which levels."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError

from apps.core import configuration
from apps.core.configuration import SETTINGS, InvalidSettingError, Level
from apps.core.context import LLMConfig
from apps.tenants.models import Tier


def test_a_value_that_is_none_of_the_choices_is_refused() -> None:
    with pytest.raises(InvalidSettingError, match="must be one of end, start, middle"):
        SETTINGS["processing_config.truncation_strategy"].accept("beginning")


@pytest.mark.parametrize("value", [10**400, -(10**400), 3, -1, 2.5, float("nan")], ids=lambda value: f"{value}"[:6])
def test_a_number_that_is_out_of_range_is_refused_however_great_it_is(value: float) -> None:
    defaults = {"llm_config.temperature": value}
    with pytest.raises(InvalidSettingError, match="must be between 0 and 2"):
        configuration.check(defaults, level=Level.TIER)
    with pytest.raises(ValidationError, match="must be between 0 and 2"):
        Tier(name="new", title="New", defaults=defaults).full_clean(validate_unique=False, validate_constraints=False)


@pytest.mark.parametrize("member", [1, None, {"model": "gpt-4o"}, ["openai/gpt-4o"]])
def test_a_list_whose_members_are_no_texts_is_refused(member: Any) -> None:
    given = {"fallback_models": ["openai/gpt-4o", member]}
    for level in SETTINGS["fallback_models"].levels:
        with pytest.raises(InvalidSettingError, match="fallback_models must be a list of texts"):
            configuration.check(given, level=level)


def test_a_whole_number_is_taken_for_a_float() -> None:
    accepted = SETTINGS["llm_config.temperature"].accept(1)
    assert (accepted, type(accepted)) == (1.0, float)


def test_an_agent_or_its_tier_says_whether_questions_are_reworded_and_no_question_does() -> None:
    wanted = {"rag_config.query_expansion_enabled": True}
    for level in (Level.AGENT, Level.TIER):
        assert configuration.check(wanted, level=level) == wanted
    with pytest.raises(InvalidSettingError) as refusal:
        configuration.check(wanted, level=Level.REQUEST)
    assert [error.code for error in refusal.value.errors] == ["unknown_setting"]


@pytest.mark.parametrize("name", ["processing_config.batch_size", "processing_config.max_text_length"])
@pytest.mark.parametrize("level", [Level.REQUEST, Level.AGENT])
def test_how_documents_are_taken_in_is_not_for_questions_to_say(name: str, level: Level) -> None:
    with pytest.raises(InvalidSettingError):
        configuration.check({name: 100}, level=level)
    assert configuration.check({name: 100}, level=Level.TIER) == {name: 100}


POLICY = "llm_config.on_interrupted_stream"


@pytest.mark.parametrize("value", ["keep", "", "Partial", True, None])
def test_a_broken_answer_is_retried_or_taken_as_it_is_and_nothing_else(value: Any) -> None:
    for level in SETTINGS[POLICY].levels:
        with pytest.raises(InvalidSettingError, match=f"^{POLICY} must be"):
            configuration.check({POLICY: value}, level=level)
    tier = Tier(name="new", title="New", defaults={POLICY: value})
    with pytest.raises(ValidationError, match=f"{POLICY} must be"):
        tier.full_clean(validate_unique=False, validate_constraints=False)


def test_who_asks_does_not_say_whether_a_broken_answer_is_paid_for_again() -> None:
    with pytest.raises(InvalidSettingError) as refusal:
        configuration.check({POLICY: "partial"}, level=Level.REQUEST)
    assert [error.code for error in refusal.value.errors] == ["unknown_setting"]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ({}, ("retry", "deployment")),
        ({Level.TIER: {POLICY: "partial"}}, ("partial", "tier")),
        ({Level.TIER: {POLICY: "partial"}, Level.AGENT: {POLICY: "retry"}}, ("retry", "agent")),
    ],
)
def test_the_agent_says_what_becomes_of_a_broken_answer_before_its_tier(
    layers: dict[Level, dict[str, Any]], expected: tuple[str, str]
) -> None:
    resolved = configuration.resolve(layers)
    assert (resolved.values[POLICY], resolved.sources[POLICY]) == expected


def test_a_context_holds_whatever_becomes_of_a_broken_answer() -> None:
    llm = configuration.resolve({}).section("llm_config")
    for choice in SETTINGS[POLICY].choices:
        assert LLMConfig(**{**llm, "on_interrupted_stream": choice}).on_interrupted_stream == choice
    # Work that was signed before there was a choice is retried.
    del llm["on_interrupted_stream"]
    assert LLMConfig(**llm).on_interrupted_stream == "retry"
