"""What a provider says it counted, and when it is not believed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.providers.adapters import metering

NUMBERS = st.one_of(st.integers(-5, 60), st.just(None), st.just(True), st.floats(), st.text(max_size=2))
DETAILS = st.one_of(
    st.none(), st.fixed_dictionaries({}, optional={"cached_tokens": NUMBERS, "reasoning_tokens": NUMBERS})
)


def usage(**members: Any) -> dict[str, Any]:
    return {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140, **members}


def test_the_buckets_are_exclusive_and_add_up() -> None:
    raw = usage(
        prompt_tokens_details={"cached_tokens": 64, "cache_write_tokens": 16, "audio_tokens": 0},
        completion_tokens_details={"reasoning_tokens": 30},
    )
    read = metering.read(raw, answered=True, at_most=None)
    assert read is not None
    assert (read.fresh_input_tokens, read.cached_input_tokens, read.cache_write_tokens) == (20, 64, 16)
    assert (read.plain_output_tokens, read.reasoning_tokens) == (10, 30)
    assert (read.input_tokens, read.output_tokens, read.total_tokens) == (100, 40, 140)
    assert read.raw == raw
    assert read.source == "api"


@pytest.mark.parametrize(
    "raw",
    [
        {"prompt_tokens": 7, "total_tokens": 7},
        {"prompt_tokens": 7, "completion_tokens": 0},
        usage(prompt_tokens_details=None, completion_tokens_details={"reasoning_tokens": None}),
    ],
    ids=["embedding", "no-total", "no-details"],
)
def test_what_is_left_out_is_not_held_against_it(raw: dict[str, Any]) -> None:
    assert metering.read(raw, answered="completion_tokens_details" in raw, at_most=None) is not None


@pytest.mark.parametrize(
    "raw",
    [
        {},
        usage(prompt_tokens=0, total_tokens=40),
        usage(completion_tokens=-1, total_tokens=99),
        usage(completion_tokens=0, total_tokens=100),
        usage(total_tokens=141),
        usage(prompt_tokens="100"),
        usage(prompt_tokens=100.0),
        usage(prompt_tokens=True, total_tokens=41),
        usage(prompt_tokens_details={"cached_tokens": 101}),
        usage(prompt_tokens_details={"cached_tokens": 60, "cache_write_tokens": 60}),
        usage(prompt_tokens_details={"cached_tokens": -1}),
        usage(completion_tokens_details={"reasoning_tokens": 41}),
        usage(prompt_tokens=10**12, total_tokens=10**12 + 40),
    ],
)
def test_what_cannot_be_is_not_believed(raw: dict[str, Any]) -> None:
    assert metering.read(raw, answered=True, at_most=None) is None


def test_more_than_the_model_can_hold_is_not_believed() -> None:
    assert metering.read(usage(), answered=True, at_most=140) is not None
    assert metering.read(usage(), answered=True, at_most=139) is None


@given(
    raw=st.fixed_dictionaries(
        {},
        optional={
            "prompt_tokens": NUMBERS,
            "completion_tokens": NUMBERS,
            "total_tokens": NUMBERS,
            "prompt_tokens_details": DETAILS,
            "completion_tokens_details": DETAILS,
        },
    )
)
def test_no_usage_makes_a_negative_bucket(raw: dict[str, Any]) -> None:
    read = metering.read(raw, answered=False, at_most=None)
    if read is not None:
        buckets = (read.fresh_input_tokens, read.cached_input_tokens, read.plain_output_tokens, read.reasoning_tokens)
        assert min(buckets) >= 0
        assert sum(buckets) == raw["prompt_tokens"] + raw.get("completion_tokens", 0)
