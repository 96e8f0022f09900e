from collections.abc import Iterator

from apps.core.errors import BusyError, NoobleError
from apps.ledger.errors import BudgetExceededError, OperationEndedError, OperationInProgressError
from apps.ledger.types import TokenCounts
from apps.providers.errors import (
    ProviderError,
    ProviderNotConfiguredError,
    UnknownProviderError,
    UnsupportedOperationError,
)
from apps.tenants.errors import CredentialUnreadableError


class CallInTransactionError(RuntimeError):
    """A provider was about to be called inside a database transaction: a defect, never a client's doing."""


class CallCancelledError(Exception):
    """The caller wants the result no more: how a purchase ends then, never an answer to a client.

    ``booked``: the estimate that was booked for what had been consumed; None when nothing was.
    """

    booked: TokenCounts | None = None


class ProviderStillRunningError(BusyError):
    """The provider is still at work on an earlier attempt."""

    code = "provider_still_running"
    status = 503
    #: A provider's call takes minutes at worst; six deliveries must not be over before it is.
    retry_after = 60.0


#: What is about a payer's account at a provider.
OF_THE_PAYERS_PROVIDER: tuple[type[NoobleError], ...] = (
    ProviderError,
    ProviderNotConfiguredError,
    CredentialUnreadableError,
)

#: What a purchase raises that its provider failed, now or for an earlier driver, or is none of this deployment's any
#: more. Whoever can do without goes on.
PROVIDER_FAILED: tuple[type[NoobleError], ...] = (
    *OF_THE_PAYERS_PROVIDER,
    UnknownProviderError,
    UnsupportedOperationError,
    OperationEndedError,
)


def _kinds(error: type[NoobleError]) -> Iterator[type[NoobleError]]:
    yield error
    for kind in error.__subclasses__():
        yield from _kinds(kind)


#: What a request that buys something may be answered, as far as it is a client's business.
PURCHASE_ERRORS: tuple[type[NoobleError], ...] = (
    BudgetExceededError,
    OperationInProgressError,
    ProviderNotConfiguredError,
    CredentialUnreadableError,
    *_kinds(ProviderError),
)
