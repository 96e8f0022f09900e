from apps.core.errors import BusyError, ConflictError, NoobleError


class BudgetExceededError(NoobleError):
    """The budget does not cover this."""

    code = "budget_exceeded"
    status = 402


class IdempotencyConflictError(ConflictError):
    """The idempotency key belongs to an operation with other content."""

    code = "idempotency_conflict"


class OperationInProgressError(BusyError):
    """A live worker is on this operation."""

    code = "operation_in_progress"


class OperationEndedError(ConflictError):
    """The operation has failed or was cancelled, for good."""

    code = "operation_ended"


class AttemptClosedError(NoobleError):
    """The attempt is closed already, another way."""

    code = "attempt_closed"


class InvalidUsageError(NoobleError):
    """The usage that was reported cannot be booked."""

    code = "invalid_usage"
    status = 400
