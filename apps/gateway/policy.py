"""When a call that failed is made again. A write that must not be lost is repeated by ``apps.core.persistence``."""

from collections.abc import Sequence

from apps.core.errors import NoobleError
from apps.core.persistence import written
from apps.providers.errors import ProviderCircuitOpenError, ProviderError

__all__ = ["MAX_PAUSE_SECONDS", "backoff", "telling", "written"]

#: A provider that asks for a longer pause than this gets it from the work list, not from a sleeping worker.
MAX_PAUSE_SECONDS = 20.0


def backoff(error: Exception) -> bool | float:
    """stamina's hook: whether to call again, and after how many seconds when the provider said so."""
    if not isinstance(error, ProviderError) or not error.retryable or isinstance(error, ProviderCircuitOpenError):
        return False
    if error.retry_after is None:
        return True
    return error.retry_after if error.retry_after <= MAX_PAUSE_SECONDS else False


def telling(errors: Sequence[NoobleError]) -> NoobleError:
    """Of what the models failed with, in their order, the error that says how it goes on.

    It is one after which it is worth asking them all again in a moment, or else later, that with the shortest pause; or
    else the first of all, which is the one of the model that was chosen.
    """
    return min(errors, key=lambda error: (backoff(error) is False, not error.retryable, error.retry_after or 0.0))
