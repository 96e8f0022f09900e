"""What can go wrong at a provider, sorted by the one question that matters to the books: can it have been counted?"""

from typing import Any, ClassVar

from apps.core.errors import InvalidRequestError, NoobleError, PermissionDeniedError
from apps.providers.base import Usage


class UnknownProviderError(InvalidRequestError):
    """There is no such provider."""

    code = "unknown_provider"


class UnsupportedOperationError(InvalidRequestError):
    """The provider does not do this kind of work."""

    code = "unsupported_operation"


class ModelNotAllowedError(PermissionDeniedError):
    """The tenant's plan does not have this model."""

    code = "model_not_allowed"


class ProviderNotConfiguredError(NoobleError):
    """The provider needs a key that neither the paying tenant nor this deployment has."""

    code = "provider_not_configured"
    status = 503


class ProviderError(NoobleError):
    """The provider did not answer as it should."""

    code = "provider_error"
    status = 502
    #: True only when it is proven that the provider did not count the call: a hold may then be released.
    uncounted: ClassVar[bool] = False

    def __init__(
        self,
        detail: str = "",
        *,
        provider_request_id: str = "",
        retry_after: float | None = None,
        usage: Usage | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail, **extra)
        self.provider_request_id = provider_request_id
        #: What the provider counted, when it said so in an answer that cannot be used; what it sent is in its ``raw``.
        self.usage = usage
        #: Seconds the provider asked us to wait, when it did.
        self.retry_after = retry_after


class ProviderRefusedError(ProviderError):
    """The provider refused the request."""

    code = "provider_refused"
    uncounted = True


class RequestNotSentError(ProviderRefusedError):
    """The provider is known to refuse the request, which was not sent."""


class UnknownModelError(RequestNotSentError):
    """The provider has no such model."""

    code = "unknown_model"
    status = 400


class UnsupportedDimensionsError(RequestNotSentError):
    """The embedding model does not make vectors of that size."""

    code = "unsupported_dimensions"
    status = 400


class ProviderReadRefusalError(ProviderError):
    """The provider read the request and refused it; it may charge for the reading."""

    code = "provider_read_refusal"


class PromptCutError(ProviderError):
    """The provider answered to a part of what it was sent."""

    code = "prompt_cut"


class ProviderAuthenticationError(ProviderRefusedError):
    """The provider did not accept the key."""

    code = "provider_authentication"


class ProviderRedirectedError(ProviderRefusedError):
    """The provider sent the call on to another address, and nobody follows."""

    code = "provider_redirected"


class ProviderRateLimitedError(ProviderRefusedError):
    """The provider asks us to slow down."""

    code = "provider_rate_limited"
    status = 503
    retryable = True


class ProviderUnreachableError(ProviderError):
    """No connection to the provider could be opened; the request was not sent."""

    code = "provider_unreachable"
    status = 503
    uncounted = True
    retryable = True


class ProviderCircuitOpenError(ProviderError):
    """The model has failed again and again, and is not called for a while; the request was not sent."""

    code = "provider_circuit_open"
    status = 503
    uncounted = True
    retryable = True


class ProviderUnavailableError(ProviderError):
    """The provider failed on its side."""

    code = "provider_unavailable"
    retryable = True


class ProviderTimeoutError(ProviderError):
    """The provider did not answer in time."""

    code = "provider_timeout"
    status = 504
    retryable = True


class ProviderInterruptedError(ProviderError):
    """The connection to the provider broke after the request was sent."""

    code = "provider_interrupted"
    retryable = True


class ProviderBadResponseError(ProviderError):
    """The provider sent something that could not be read."""

    code = "provider_bad_response"
    retryable = True
