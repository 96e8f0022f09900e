"""What a provider says it counted, believed only when it can be true."""

from collections.abc import Mapping
from typing import Any

from apps.providers.base import Usage

#: More tokens than any model takes in one request; the limit where the model's own is not known.
ABSURD_TOKENS = 20_000_000


def read(raw: Mapping[str, Any], *, answered: bool, at_most: int | None) -> Usage | None:
    """A usage of OpenAI's kind in exclusive buckets, or None when it is missing or cannot be.

    ``prompt_tokens`` include what was read from and written to the cache, ``completion_tokens`` include the reasoning.
    What cannot be: a number that is no whole number, an empty prompt, an answer of no tokens (``answered``: there was
    one), parts that exceed their whole, a total that is not the sum, and more than the model can hold (``at_most``).
    """
    prompt: Any = raw.get("prompt_tokens")
    completion: Any = raw.get("completion_tokens", 0)
    cached, written = _detail(raw, "prompt", "cached_tokens"), _detail(raw, "prompt", "cache_write_tokens")
    reasoning = _detail(raw, "completion", "reasoning_tokens")
    total = raw.get("total_tokens", "absent")
    numbers = (prompt, completion, cached, written, reasoning)
    if not all(type(number) is int and number >= 0 for number in numbers):
        return None
    possible = (
        prompt > 0
        and (completion > 0 or not answered)
        and cached + written <= prompt
        and reasoning <= completion
        and total in ("absent", prompt + completion)
        and prompt + completion <= (at_most or ABSURD_TOKENS)
    )
    if not possible:
        return None
    return Usage(
        fresh_input_tokens=prompt - cached - written,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        plain_output_tokens=completion - reasoning,
        reasoning_tokens=reasoning,
        raw=raw,
    )


def _detail(raw: Mapping[str, Any], side: str, name: str) -> Any:
    """A number of the breakdown; 0 when the provider gives none."""
    details = raw.get(f"{side}_tokens_details")
    value = details.get(name) if isinstance(details, Mapping) else None
    return 0 if value is None else value
