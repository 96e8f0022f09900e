"""What only Anthropic's Messages do."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.test import override_settings

from apps.providers.base import ChatChunk, ChatMessage, ChatRequest, ChatResult, Role
from apps.providers.errors import ProviderInterruptedError
from tests.conformance.conftest import API_KEY, QUESTION, Tried
from tests.conformance.subjects import SUBJECTS
from tests.fakes import answers
from tests.fakes.process import FakeProvider

#: A usage with all that Anthropic tells apart.
TOLD: dict[str, Any] = {
    "input_tokens": 20,
    "cache_read_input_tokens": 64,
    "cache_creation_input_tokens": 16,
    "cache_creation": {"ephemeral_5m_input_tokens": 16, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 40,
    "output_tokens_details": {"thinking_tokens": 30},
    "service_tier": "standard",
}
Way = Callable[[Tried, ChatRequest], ChatResult | ChatChunk]
WAYS: dict[str, Way] = {
    "whole": lambda tried, request: tried.complete(request),
    "streamed": lambda tried, request: list(tried.stream(request))[-1],
}
BOTH_WAYS = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@pytest.fixture
def claude(deployed: None) -> Tried:
    [subject] = [subject for subject in SUBJECTS if subject.name == "anthropic"]
    return Tried(subject=subject, request_id="nbl-claude")


def said(*turns: tuple[Role, str]) -> ChatRequest:
    messages = tuple(ChatMessage(role=role, content=content) for role, content in turns)
    return ChatRequest(model="claude-sonnet-5-5", messages=messages, max_tokens=50)


# What goes out


def test_what_the_system_says_stands_beside_the_messages(claude: Tried, fake: FakeProvider) -> None:
    claude.complete(said(("system", "Be brief."), ("user", QUESTION), ("system", "Be polite.")))
    body = fake.arrivals()[0]["body"]
    assert body["system"] == "Be brief.\n\nBe polite."
    assert body["messages"] == [{"role": "user", "content": QUESTION}]


def test_without_a_system_there_is_none(claude: Tried, fake: FakeProvider) -> None:
    claude.complete(said(("system", " "), ("user", QUESTION)))
    assert "system" not in fake.arrivals()[0]["body"]


def test_turns_that_anthropic_does_not_take_are_left_out(claude: Tried, fake: FakeProvider) -> None:
    # The beginning was cut off, and an answer was refused: the fake refuses either, as Anthropic does.
    claude.complete(said(("assistant", "Green."), ("user", "Why?"), ("assistant", ""), ("user", QUESTION)))
    assert [message["content"] for message in fake.arrivals()[0]["body"]["messages"]] == ["Why?", QUESTION]


def test_a_stream_is_asked_for_without_options(claude: Tried, fake: FakeProvider) -> None:
    list(claude.stream())
    body = fake.arrivals()[0]["body"]
    assert body.keys() == {"model", "messages", "max_tokens", "system", "stream"}
    assert body["stream"] is True


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_the_base_url_may_be_the_one_that_openais_sdk_takes(claude: Tried, fake: FakeProvider, suffix: str) -> None:
    with override_settings(NOOBLE_PROVIDERS={"anthropic": {"api_key": API_KEY, "base_url": fake.url + suffix}}):
        claude.complete()
    assert fake.arrivals()[0]["path"] == "/v1/messages"


# What comes back


@BOTH_WAYS
def test_every_token_is_in_one_bucket(claude: Tried, fake: FakeProvider, way: Way) -> None:
    fake.fail("usage", usage=TOLD)
    told = way(claude, claude.question())
    assert told.usage is not None
    assert (told.usage.fresh_input_tokens, told.usage.cached_input_tokens, told.usage.cache_write_tokens) == (
        20,
        64,
        16,
    )
    assert (told.usage.plain_output_tokens, told.usage.reasoning_tokens) == (10, 30)
    assert told.usage.total_tokens == 140
    assert told.raw_usage == TOLD


@BOTH_WAYS
@pytest.mark.parametrize(
    "members",
    [
        {"input_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0},
        {"cache_creation_input_tokens": -1},
        {"cache_read_input_tokens": "64"},
        {"output_tokens_details": {"thinking_tokens": 41}},
        {"output_tokens": 0, "output_tokens_details": None},
        {"output_tokens": None, "output_tokens_details": None},
        {"cache_read_input_tokens": 1_000_000},
    ],
    ids=str,
)
def test_what_cannot_be_is_not_believed(claude: Tried, fake: FakeProvider, way: Way, members: dict[str, Any]) -> None:
    fake.fail("usage", usage={**TOLD, **members})
    assert way(claude, claude.question()).usage is None


@BOTH_WAYS
def test_a_cache_of_which_nothing_is_told_was_not_used(claude: Tried, fake: FakeProvider, way: Way) -> None:
    fake.fail("usage", usage={"input_tokens": 7, "output_tokens": 3, "cache_read_input_tokens": None})
    told = way(claude, claude.question())
    assert told.usage is not None
    assert (told.usage.fresh_input_tokens, told.usage.total_tokens) == (7, 10)


@BOTH_WAYS
def test_what_was_thought_is_counted_and_no_part_of_the_answer(claude: Tried, fake: FakeProvider, way: Way) -> None:
    request = replace(claude.question(), model="claude-fable-5-2")
    told = way(claude, request)
    assert told.usage is not None
    assert told.usage.reasoning_tokens == answers.REASONING_TOKENS
    assert told.usage.total_tokens == fake.tally()[-1]["total"]
    assert claude.complete(request).text.startswith("According to")
    assert "".join(chunk.delta for chunk in claude.stream(request)).startswith("According to")


@BOTH_WAYS
@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause_turn"),
    ],
)
def test_why_an_answer_ends_is_told_in_the_words_of_the_others(
    claude: Tried, fake: FakeProvider, way: Way, reason: str, finish: str
) -> None:
    fake.fail("finish", reason=reason)
    assert way(claude, claude.question()).finish_reason == finish


@BOTH_WAYS
def test_a_refusal_without_a_word_is_an_answer_at_what_is_told(claude: Tried, fake: FakeProvider, way: Way) -> None:
    fake.fail("finish", reason="refusal", text="")
    told = way(claude, claude.question())
    assert told.finish_reason == "content_filter"
    assert told.usage is not None


def test_a_stream_that_does_not_tell_why_it_ends_is_interrupted(claude: Tried, fake: FakeProvider) -> None:
    fake.fail("finish", reason=None)
    with pytest.raises(ProviderInterruptedError):
        list(claude.stream())


def test_a_stream_that_lacks_only_its_last_event_is_interrupted(claude: Tried, fake: FakeProvider) -> None:
    moments = 1 + len(answers.words(claude.complete().text)) + 1
    fake.fail("end_early", events=moments)
    with pytest.raises(ProviderInterruptedError):
        list(claude.stream())
    fake.fail("end_early", events=moments + 1)
    assert list(claude.stream())[-1].finish_reason == "stop"


def test_the_id_of_a_call_is_the_one_that_support_asks_for(claude: Tried) -> None:
    assert claude.complete().provider_request_id.startswith("req_")
    assert list(claude.stream())[-1].provider_request_id.startswith("req_")
