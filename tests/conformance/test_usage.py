"""The provider's numbers, and what becomes of those that cannot be."""

from typing import Any

import pytest

from apps.providers.base import ChatChunk, ChatResult
from tests.conformance.conftest import Tried
from tests.fakes.faults import USAGES
from tests.fakes.process import FakeProvider

DETAILED = {
    "prompt_tokens": 100,
    "completion_tokens": 40,
    "total_tokens": 140,
    "prompt_tokens_details": {"cached_tokens": 64},
    "completion_tokens_details": {"reasoning_tokens": 30},
}


def both_ways(tried: Tried) -> list[ChatResult | ChatChunk]:
    return [tried.complete(), list(tried.stream())[-1]]


def test_cached_and_reasoning_tokens_are_counted_apart(remote: Tried, fake: FakeProvider) -> None:
    fake.fail("usage", usage=DETAILED, times=2)
    for told in both_ways(remote):
        assert told.usage is not None
        cached, thought = (64, 30) if remote.subject.tells_parts else (0, 0)
        assert (told.usage.fresh_input_tokens, told.usage.cached_input_tokens) == (100 - cached, cached)
        assert (told.usage.plain_output_tokens, told.usage.reasoning_tokens) == (40 - thought, thought)
        assert told.usage.total_tokens == 140


def test_the_tally_of_the_provider_is_what_its_usage_says(remote: Tried, fake: FakeProvider) -> None:
    for told in both_ways(remote):
        assert told.usage is not None
        line = fake.tally()[-1]
        assert (told.usage.input_tokens, told.usage.output_tokens) == (line["prompt_tokens"], line["completion_tokens"])


@pytest.mark.parametrize("kind", USAGES)
def test_a_usage_that_is_missing_or_cannot_be_is_none_and_is_kept_as_sent(
    remote: Tried, fake: FakeProvider, kind: str
) -> None:
    fake.fail(kind, times=2)
    for told in both_ways(remote):
        assert told.usage is None
        assert told.raw_usage == remote.subject.usage(USAGES[kind] or {})


def test_an_answer_without_usage_is_still_whole(remote: Tried, fake: FakeProvider) -> None:
    expected = remote.complete().text
    fake.fail("no_usage", times=2)
    assert remote.complete().text == expected
    *pieces, closing = remote.stream()
    assert "".join(piece.delta for piece in pieces) == expected
    assert closing.finish_reason == "stop"


def test_of_several_usages_in_a_stream_the_last_one_counts(remote: Tried, fake: FakeProvider) -> None:
    expected = remote.complete().usage
    fake.fail("repeated_usage")
    told: list[Any] = [chunk.usage for chunk in remote.stream() if chunk.usage]
    assert told == [expected]


def test_text_may_hold_what_unicode_calls_line_breaks(remote: Tried, fake: FakeProvider) -> None:
    fake.fail("line_breaks", times=2)
    whole = remote.complete().text
    assert "\u2028" in whole
    assert "\x85" in whole
    assert "".join(chunk.delta for chunk in remote.stream()) == whole


def test_null_characters_which_no_database_keeps_are_replaced(remote: Tried, fake: FakeProvider) -> None:
    fake.fail("null_characters", times=2)
    whole = remote.complete()
    assert "\0" not in whole.text + whole.finish_reason
    assert "\ufffd" in whole.text
    assert "".join(chunk.delta for chunk in remote.stream()) == whole.text


@pytest.mark.parametrize("usage", [{"prompt_tokens": float("nan")}, {"details": [[[[[[[[1]]]]]]]]}])
def test_usage_that_no_database_keeps_is_none(remote: Tried, fake: FakeProvider, usage: dict[str, Any]) -> None:
    fake.fail("usage", usage=usage, times=2)
    for told in both_ways(remote):
        assert (told.usage, told.raw_usage) == (None, {})


def test_a_connection_is_used_again(remote: Tried, fake: FakeProvider) -> None:
    remote.complete()
    list(remote.stream())
    remote.complete()
    assert len({arrival["peer"] for arrival in fake.arrivals()}) == 1


@pytest.mark.parametrize("kind", USAGES)
def test_vectors_whose_usage_cannot_be_are_vectors_without_usage(
    remote_embedding: Tried, fake: FakeProvider, kind: str
) -> None:
    fake.fail(kind)
    result = remote_embedding.embed()
    assert result.usage is None
    assert result.raw_usage == remote_embedding.subject.usage(USAGES[kind] or {})
    assert result.vectors.shape == (2, remote_embedding.subject.dimensions)
