from collections.abc import Mapping
from typing import Any, Self

from apps.core.errors import BusyError, ConflictError, NoobleError, NotFoundError


class BudgetExceededError(NoobleError):
    """The budget does not cover this."""

    code = "budget_exceeded"
    status = 402

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """The refusal, from limit, spent, held, needed, period and the moment the budget starts anew."""
        detail = (
            f"This needs up to {facts['needed_tokens']} tokens; of {facts['limit_tokens']} a {facts['period']} "
            f"{facts['spent_tokens']} are spent and {facts['held_tokens']} set aside for work in progress. "
            f"The budget starts anew at {facts['resets_at']}."
        )
        return cls(detail, **facts)


class IdempotencyConflictError(ConflictError):
    """The idempotency key belongs to an operation with other content."""

    code = "idempotency_conflict"


class OperationInProgressError(BusyError):
    """A live worker is on this operation."""

    code = "operation_in_progress"


#: What an operation says that no error has ended: nobody wanted it any more, or nobody drove it.
WITHOUT_ERROR = frozenset({"", "cancelled", "abandoned"})


class OperationEndedError(ConflictError):
    """The operation has failed or was cancelled, for good."""

    code = "operation_ended"

    def __init__(self, detail: str = "", *, ended_with: str = "") -> None:
        """``ended_with`` is the operation's own ``error_code``."""
        super().__init__(detail)
        self._ended_with = ended_with

    @property
    def reason(self) -> str:
        """The error that it failed with, as whoever was told then was told."""
        return self._ended_with if self._ended_with not in WITHOUT_ERROR else self.code


class InvalidUsageError(NoobleError):
    """The usage that was reported cannot be booked."""

    code = "invalid_usage"
    status = 400


class LedgerRowNotFoundError(NotFoundError):
    """The books have no such row."""

    code = "ledger_row_not_found"


class AdjustmentRefusedError(NoobleError):
    """The adjustment cannot be made."""

    code = "adjustment_refused"
    status = 400


class PriceRefusedError(NoobleError):
    """The price cannot be set."""

    code = "price_refused"
    status = 400


class InvalidMetadataError(NoobleError):
    """An operation was described in words that its kind does not have."""

    code = "invalid_metadata"


class SpoolUnavailableError(NoobleError):
    """The database is away, and the spool cannot be written: the usage is not recorded."""

    code = "spool_unavailable"
    status = 503
    retryable = True
