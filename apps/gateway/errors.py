from apps.core.errors import BusyError


class CallInTransactionError(RuntimeError):
    """A provider was about to be called inside a database transaction: a defect, never a client's doing."""


class ProviderStillRunningError(BusyError):
    """The provider is still at work on an earlier attempt."""

    code = "provider_still_running"
    status = 503
