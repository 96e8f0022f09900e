from apps.core.errors import ConflictError, NoobleError, NotAuthenticatedError, PermissionDeniedError


class TenantMismatchError(PermissionDeniedError):
    """The request names another tenant than its key's."""

    code = "tenant_mismatch"


class TierMismatchError(PermissionDeniedError):
    """The request names another tier than its tenant's."""

    code = "tier_mismatch"


class TenantInactiveError(PermissionDeniedError):
    """The tenant is switched off."""

    code = "tenant_inactive"


class InvalidApiKeyError(NotAuthenticatedError):
    """The API key is unknown, revoked or expired."""

    code = "invalid_api_key"


class MissingScopeError(PermissionDeniedError):
    """The key lacks the scope that this call needs."""

    code = "missing_scope"


class AddressNotSetError(ConflictError):
    """An operator has to set the address that the key is for first."""

    code = "address_not_set"


class CredentialUnreadableError(NoobleError):
    """The paying tenant's own key for the provider cannot be read."""

    code = "credential_unreadable"
    status = 503
    # Another host may have what this one lacks, as while the keys of credentials are rotated.
    retryable = True
