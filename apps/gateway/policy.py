"""When a call that failed is made again. A write that must not be lost is repeated by ``apps.core.persistence``."""

from apps.core.persistence import written
from apps.providers.errors import ProviderError

__all__ = ["MAX_PAUSE_SECONDS", "backoff", "written"]

#: A provider that asks for a longer pause than this gets it from the work list, not from a sleeping worker.
MAX_PAUSE_SECONDS = 20.0


def backoff(error: Exception) -> bool | float:
    """stamina's hook: whether to call again, and after how many seconds when the provider said so."""
    if not isinstance(error, ProviderError) or not error.retryable:
        return False
    if error.retry_after is None:
        return True
    return error.retry_after if error.retry_after <= MAX_PAUSE_SECONDS else False
