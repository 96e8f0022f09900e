"""What a provider says it counted, believed only when it can be true."""

import math
from collections.abc import Mapping
from typing import Any

from apps.providers.base import Usage

#: More tokens than any model takes in one request; the limit where the model's own is not known.
ABSURD_TOKENS = 20_000_000

#: A usage has two levels at every provider.
_LEVELS = 6


def as_sent(usage: Any) -> Mapping[str, Any]:
    """The usage unread, to be kept; empty where there is none, or none that PostgreSQL can keep."""
    return usage if isinstance(usage, Mapping) and _can_be_kept(usage, levels=_LEVELS) else {}


def read(raw: Mapping[str, Any], *, answered: bool, at_most: int | None) -> Usage | None:
    """A usage of OpenAI's kind in exclusive buckets, or None when it is missing or cannot be (:func:`believed`).

    ``prompt_tokens`` include what was read from and written to the cache, ``completion_tokens`` include the reasoning.
    A total that is not their sum cannot be.
    """
    prompt: Any = raw.get("prompt_tokens")
    completion: Any = raw.get("completion_tokens", 0)
    cached = part(raw.get("prompt_tokens_details"), "cached_tokens")
    written = part(raw.get("prompt_tokens_details"), "cache_write_tokens")
    reasoning = part(raw.get("completion_tokens_details"), "reasoning_tokens")
    if not are_counts(prompt, completion, cached, written, reasoning):
        return None
    if raw.get("total_tokens", "absent") not in ("absent", prompt + completion):
        return None
    usage = Usage(
        fresh_input_tokens=prompt - cached - written,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        plain_output_tokens=completion - reasoning,
        reasoning_tokens=reasoning,
        raw=raw,
    )
    return believed(usage, answered=answered, at_most=at_most)


def believed(usage: Usage, *, answered: bool, at_most: int | None) -> Usage | None:
    """The usage, or None when it cannot be.

    What cannot be: an empty prompt, an answer of no tokens (``answered``: there was one), parts that exceed their
    whole, which leaves less than nothing in a bucket, and more than the model can hold (``at_most``).
    """
    possible = (
        usage.input_tokens > 0
        and (usage.output_tokens > 0 or not answered)
        and usage.fresh_input_tokens >= 0
        and usage.plain_output_tokens >= 0
        and usage.total_tokens <= (at_most or ABSURD_TOKENS)
    )
    return usage if possible else None


def are_counts(*numbers: Any) -> bool:
    """Whether each is a whole number and none is negative."""
    return all(type(number) is int and number >= 0 for number in numbers)


def part(told: Any, name: str) -> Any:
    """A number that need not be told, of a usage or of a breakdown in it; 0 when it is not."""
    value = told.get(name) if isinstance(told, Mapping) else None
    return 0 if value is None else value


def _can_be_kept(value: Any, *, levels: int) -> bool:
    """Whether it is JSON as PostgreSQL knows it, which has no NaN, and not nested without end."""
    if isinstance(value, float):
        return math.isfinite(value)
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return levels > 0 and all(_can_be_kept(inner, levels=levels - 1) for inner in inside)
