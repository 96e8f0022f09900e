"""What only Cohere does, and what it must not be asked for."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from apps.providers import registry
from apps.providers.base import ChatChunk, ChatMessage, ChatRequest, ChatResult, EmbeddingRequest, InputType
from apps.providers.errors import ProviderError, ProviderRefusedError, ProviderTimeoutError, ProviderUnavailableError
from tests.conformance.conftest import API_KEY
from tests.fakes.process import FakeProvider


@pytest.fixture(autouse=True)
def deployment(fake: FakeProvider) -> Iterator[None]:
    with override_settings(NOOBLE_PROVIDERS={"cohere": {"api_key": API_KEY, "base_url": fake.url}}):
        yield


def question(model: str = "command-a-03-2025", **fields: Any) -> ChatRequest:
    messages = (ChatMessage(role="user", content="How heavy is the pump?"),)
    return ChatRequest(model=model, messages=messages, max_tokens=100, **fields)


def whole(request: ChatRequest) -> ChatResult:
    return registry.chat("cohere").complete(request, request_id="nbl-1", timeout=30)


def streamed(request: ChatRequest) -> list[ChatChunk]:
    return list(registry.chat("cohere").stream(request, request_id="nbl-1", timeout=30))


def embed(*texts: str, model: str = "embed-v4.0", input_type: InputType = "document", size: int | None = None) -> Any:
    request = EmbeddingRequest(model=model, texts=texts, input_type=input_type, dimensions=size)
    return registry.embedding("cohere").embed(request, request_id="nbl-1", timeout=30)


@pytest.mark.parametrize("suffix", ["", "/", "/v2", "/v2/"])
def test_the_base_url_may_be_the_one_of_the_reference(fake: FakeProvider, suffix: str) -> None:
    with override_settings(NOOBLE_PROVIDERS={"cohere": {"api_key": API_KEY, "base_url": fake.url + suffix}}):
        whole(question())
    assert fake.arrivals()[0]["path"] == "/v2/chat"


def test_cohere_is_told_who_calls(fake: FakeProvider) -> None:
    whole(question())
    assert fake.arrivals()[0]["headers"]["x-client-name"] == "nooble"


def test_the_highest_temperature_goes_out_as_it_is(fake: FakeProvider) -> None:
    # The fake refuses more than 2, as Cohere does.
    whole(question(temperature=2.0))
    assert fake.arrivals()[0]["body"]["temperature"] == 2.0


def test_what_was_thought_is_no_part_of_the_answer() -> None:
    request = question("command-a-reasoning-08-2025")
    answer = whole(request).text
    assert answer.startswith("According")
    assert "".join(chunk.delta for chunk in streamed(request)) == answer


def test_what_is_billed_counts_and_not_what_the_model_saw(fake: FakeProvider) -> None:
    result = whole(question())
    assert result.usage is not None
    assert result.usage.total_tokens == fake.tally()[0]["total"]
    assert result.raw_usage["tokens"]["input_tokens"] > result.usage.input_tokens


def test_of_what_is_not_told_to_be_billed_nothing_is_made_up(fake: FakeProvider) -> None:
    seen = {"tokens": {"input_tokens": 71, "output_tokens": 9}}
    fake.fail("usage", usage=seen, times=2)
    for told in (whole(question()), streamed(question())[-1]):
        assert (told.usage, told.raw_usage) == (None, seen)


@pytest.mark.parametrize(("prompt", "believed"), [(9.0, 9), (9.5, None), (True, None), (float("inf"), None)])
def test_a_number_with_a_point_counts_when_it_is_whole(fake: FakeProvider, prompt: Any, believed: int | None) -> None:
    fake.fail("usage", usage={"prompt_tokens": prompt, "completion_tokens": 4.0})
    usage = whole(question()).usage
    assert (usage and usage.input_tokens) == believed


@pytest.mark.parametrize(
    "seen", [{"input_tokens": 8, "output_tokens": 4}, {"input_tokens": 9, "output_tokens": 3}, {"input_tokens": "9"}]
)
def test_more_billed_than_the_model_saw_is_not_believed(fake: FakeProvider, seen: dict[str, Any]) -> None:
    fake.fail("usage", usage={"prompt_tokens": 9, "completion_tokens": 4, "tokens": seen})
    assert whole(question()).usage is None


@pytest.mark.parametrize(("prompt", "believed"), [(262_144, True), (1_000_000, False)])
def test_a_little_more_than_the_window_that_is_written_is_believed(
    fake: FakeProvider, prompt: int, believed: bool
) -> None:
    fake.fail("usage", usage={"prompt_tokens": prompt, "completion_tokens": 4}, times=2)
    for told in (whole(question()), streamed(question())[-1]):
        assert (told.usage is not None) is believed


def test_what_the_model_saw_need_not_be_told_in_full(fake: FakeProvider) -> None:
    fake.fail("usage", usage={"prompt_tokens": 9, "completion_tokens": 4, "tokens": {"output_tokens": 4}})
    usage = whole(question()).usage
    assert usage
    assert usage.total_tokens == 13


@pytest.mark.parametrize("ask", [whole, streamed])
@pytest.mark.parametrize(("reason", "error"), [("ERROR", ProviderUnavailableError), ("TIMEOUT", ProviderTimeoutError)])
def test_an_answer_that_cohere_broke_off_is_an_error_with_what_it_counted(
    fake: FakeProvider, ask: Any, reason: str, error: type[ProviderError]
) -> None:
    fake.fail("finish", reason=reason)
    with pytest.raises(error) as caught:
        ask(question())
    assert caught.value.usage
    assert caught.value.usage.total_tokens == fake.tally()[0]["total"]
    assert caught.value.provider_request_id


@pytest.mark.parametrize("reason", ["STOP_SEQUENCE", "SOMETHING_NEW"])
def test_other_reasons_to_end_keep_their_names(fake: FakeProvider, reason: str) -> None:
    fake.fail("finish", reason=reason, times=2)
    assert whole(question()).finish_reason == streamed(question())[-1].finish_reason == reason


@pytest.mark.parametrize(("input_type", "told"), [("document", "search_document"), ("query", "search_query")])
def test_documents_and_questions_are_told_apart(fake: FakeProvider, input_type: InputType, told: str) -> None:
    embed("a pump", input_type=input_type)
    assert fake.arrivals()[0]["body"]["input_type"] == told


def test_a_length_is_sent_as_coheres_own_parameter(fake: FakeProvider) -> None:
    assert embed("a pump", size=512).vectors.shape == (1, 512)
    assert fake.arrivals()[0]["body"]["output_dimension"] == 512


def test_a_text_that_is_too_long_is_refused_and_not_cut(fake: FakeProvider) -> None:
    with pytest.raises(ProviderRefusedError, match="longer than the model takes"):
        embed("a pump", "a heavy pump " * 400, model="embed-english-v3.0")
    assert fake.tally() == []


def test_as_many_texts_as_one_call_takes_are_embedded() -> None:
    assert embed(*["a pump"] * 96, size=256).vectors.shape == (96, 256)


def test_more_texts_than_one_call_takes_are_refused_before_it(fake: FakeProvider) -> None:
    with pytest.raises(ProviderRefusedError, match="at most 96 texts in one call, not 97") as caught:
        embed(*["a pump"] * 97)
    assert caught.value.uncounted
    assert fake.arrivals() == []
