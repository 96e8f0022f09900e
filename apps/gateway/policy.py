"""When a call that failed is made again. A write that must not be lost is repeated by ``apps.core.persistence``."""

import random
from collections.abc import Sequence

from apps.core.errors import NoobleError
from apps.providers.errors import ProviderCircuitOpenError, ProviderError

#: A provider that asks for a longer pause than this gets it from the work list, not from a sleeping worker.
MAX_PAUSE_SECONDS = 20.0
#: Where none asks for one: the first, which doubles with every round, the most that chance adds, and the longest.
FIRST_PAUSE_SECONDS, JITTER_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 1.0, 5.0


def pause(error: NoobleError, rounds: int) -> float | None:
    """Seconds after which the models are called again that failed with this, so many rounds before it; None: not now.

    An exponential backoff with jitter, so that those who failed together do not come back together.
    """
    if not isinstance(error, ProviderError) or not error.retryable or isinstance(error, ProviderCircuitOpenError):
        return None
    if error.retry_after is not None:
        return error.retry_after if error.retry_after <= MAX_PAUSE_SECONDS else None
    jitter = random.uniform(0, JITTER_SECONDS)  # noqa: S311 - nobody gains by guessing it
    return min(FIRST_PAUSE_SECONDS * 2.0**rounds + jitter, LONGEST_PAUSE_SECONDS)


def telling(errors: Sequence[NoobleError]) -> NoobleError:
    """Of what the models failed with, in their order, the error that says how it goes on.

    That is one after which they are worth calling again in a moment; else one after which they are later. Of several
    such, the one with the shortest pause. Else it is the first of all: that of the model that was chosen.
    """
    return min(errors, key=_hopelessness)


def _hopelessness(error: NoobleError) -> tuple[bool, bool, float]:
    waits = error.retry_after or 0.0 if error.retryable else 0.0
    return pause(error, 0) is None, not error.retryable, waits
