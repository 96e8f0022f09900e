"""After which errors a call is made again, and when."""

from itertools import pairwise

import pytest

from apps.core.errors import NoobleError
from apps.gateway import policy
from apps.ledger.errors import BudgetExceededError
from apps.providers.errors import (
    ProviderAuthenticationError,
    ProviderCircuitOpenError,
    ProviderRateLimitedError,
    ProviderRefusedError,
    ProviderUnavailableError,
)


def test_pauses_grow_to_the_longest_and_are_never_the_same() -> None:
    pauses = [[policy.pause(ProviderUnavailableError(), rounds) or 0.0 for _ in range(200)] for rounds in range(10)]
    for rounds, drawn in enumerate(pauses):
        least = policy.FIRST_PAUSE_SECONDS * 2**rounds
        assert min(least, policy.LONGEST_PAUSE_SECONDS) <= min(drawn)
        assert max(drawn) <= min(least + policy.JITTER_SECONDS, policy.LONGEST_PAUSE_SECONDS)
    assert all(min(later) >= min(sooner) for sooner, later in pairwise(pauses[2:]))
    assert len(set(pauses[0])) > 100


def test_a_provider_has_the_pause_that_it_asks_for_unless_it_is_too_long_to_sleep() -> None:
    longest = policy.MAX_PAUSE_SECONDS
    assert policy.pause(ProviderRateLimitedError(retry_after=longest), 5) == longest
    assert policy.pause(ProviderRateLimitedError(retry_after=longest + 1), 0) is None


@pytest.mark.parametrize(
    "error", [ProviderRefusedError(retry_after=1), ProviderCircuitOpenError(retry_after=1), BudgetExceededError()]
)
def test_what_another_call_does_not_mend_is_not_called_again(error: NoobleError) -> None:
    assert policy.pause(error, 0) is None


UNWELL, SLOW, SLOWER = ProviderUnavailableError(), *(ProviderRateLimitedError(retry_after=n) for n in (5, 300))
OPEN, NO_KEY, REFUSED = ProviderCircuitOpenError(retry_after=9), ProviderAuthenticationError(), ProviderRefusedError()


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ([NO_KEY, SLOW, UNWELL], UNWELL),
        ([NO_KEY, SLOWER, SLOW], SLOW),
        ([NO_KEY, SLOWER, OPEN], OPEN),
        ([NO_KEY, REFUSED], NO_KEY),
        ([ProviderAuthenticationError("first", retry_after=5), REFUSED], None),
    ],
)
def test_of_several_errors_the_one_is_told_that_says_how_it_goes_on(
    errors: list[NoobleError], told: NoobleError | None
) -> None:
    assert policy.telling(errors) is (told or errors[0])
