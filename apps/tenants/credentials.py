"""Tenants' own keys for providers: kept encrypted, read by whoever is about to call, and shown to nobody.

Whose tokens are billed is whose key is used: the payer's. It is read anew for every purchase, so that one that was
changed or taken back is used by no purchase that begins afterwards, in whichever process. One that has begun ends with
the key that it began with.
"""

import logging
from collections.abc import Iterator
from uuid import UUID

from django.conf import settings
from django.db.models.functions import Now

from apps.core.context import ExecutionContext
from apps.core.db import Scope, operator_scope, unit_of_work
from apps.core.errors import NotFoundError
from apps.core.ids import NO_ID
from apps.providers import catalog
from apps.tenants import encryption
from apps.tenants.errors import AddressNotSetError, CredentialUnreadableError
from apps.tenants.models import ProviderCredential
from apps.tenants.types import ProviderKey

logger = logging.getLogger(__name__)

HINT_CHARACTERS = 4
#: Rows that are encrypted anew in one transaction.
BATCH = 200


def takes_key(provider: str) -> bool:
    """Whether a tenant may have a key of its own there: where the deployment's entry has one, be it empty."""
    return "api_key" in settings.NOOBLE_PROVIDERS.get(provider, {})


def needs_address(provider: str) -> bool:
    """Whether a key is for an address of its tenant's own there: to the deployment's it would be given away."""
    return provider in catalog.PROVIDERS and catalog.PROVIDERS[provider].per_customer


def store(ctx: ExecutionContext, *, provider: str, secret: str) -> tuple[ProviderCredential, bool]:
    """Keep the secret of the context's tenant, in place of the one before; returns the row and whether it is new.

    Of two at once the later one stays. Raises NotFoundError for a provider that takes no tenant's key, and
    AddressNotSetError where it needs an address that operators have not set.
    """
    with unit_of_work(ctx):
        row, is_new = keep(ctx, provider=provider, secret=secret)
        if needs_address(provider) and not row.base_url:
            raise AddressNotSetError(
                f"Each customer of {provider} has an address of its own. Ask the operator to set yours, then store the "
                "key again."
            )
    return row, is_new


def keep(ctx: ExecutionContext, *, provider: str, secret: str) -> tuple[ProviderCredential, bool]:
    """As :func:`store`, whatever its address is: for operators, who :func:`point` it in the same transaction."""
    if not takes_key(provider):
        known = ", ".join(sorted(filter(takes_key, settings.NOOBLE_PROVIDERS))) or "none"
        raise NotFoundError(f"There is no provider {provider!r} that takes a key of yours. There are: {known}.")
    kept = {
        "encrypted_secret": encryption.encrypt(secret, tenant_id=ctx.tenant_id, provider=provider),
        "hint": secret[-HINT_CHARACTERS:],
    }
    with unit_of_work(ctx):
        row, is_new = ProviderCredential.objects.update_or_create(
            tenant_id=ctx.tenant_id,
            provider=provider,
            defaults={**kept, "rotated_at": Now()},
            create_defaults=kept,
        )
        row.refresh_from_db()
    return row, is_new


def find(ctx: ExecutionContext, provider: str) -> ProviderCredential:
    """What is known of the tenant's key; raises NotFoundError. The caller is in the context's unit of work."""
    row = ProviderCredential.objects.filter(tenant_id=ctx.tenant_id, provider=provider).first()
    if row is None:
        raise NotFoundError(f"There is no key of yours for {provider!r}. Store one with PUT.")
    return row


def remove(ctx: ExecutionContext, provider: str) -> None:
    """Forget the tenant's key; its calls are made with the deployment's from then on, if that has one."""
    with unit_of_work(ctx):
        find(ctx, provider).delete()


def of_payer(scope: Scope, provider: str) -> ProviderKey | None:
    """The key of whoever pays; None: it has none of its own. Raises CredentialUnreadableError.

    A key that cannot be read is not replaced by the deployment's: the tenant wants its calls on its own account.
    """
    if not takes_key(provider):
        return None
    with unit_of_work(scope):
        row = ProviderCredential.objects.filter(tenant_id=scope.payer_tenant_id, provider=provider).first()
    return ProviderKey(secret=_secret(row), base_url=row.base_url) if row else None


def point(credential_id: UUID, base_url: str) -> None:
    """Say where a tenant's key is good; the caller has checked the address, and is in the operator's scope."""
    ProviderCredential.objects.filter(pk=credential_id).update(base_url=base_url)


def encrypt_again() -> Iterator[tuple[ProviderCredential, bool]]:
    """Encrypt with the first key what another one had encrypted; gives each of those rows, and whether it could be.

    False: its secret cannot be read, and the row is as it was.
    """
    last = NO_ID
    while rows := _after(last):
        with operator_scope("encrypt credentials again", level=logging.DEBUG):
            done = [(row, _encrypted_again(row)) for row in rows if not _is_under_first_key(row)]
        yield from done
        last = rows[-1].pk


def _after(last: UUID) -> list[ProviderCredential]:
    with operator_scope("encrypt credentials again", level=logging.DEBUG):
        return list(ProviderCredential.objects.select_related("tenant").filter(pk__gt=last).order_by("pk")[:BATCH])


def _is_under_first_key(row: ProviderCredential) -> bool:
    try:
        return encryption.key_name(bytes(row.encrypted_secret)) == encryption.first_key()
    except encryption.UnreadableError:
        return False


def _encrypted_again(row: ProviderCredential) -> bool:
    try:
        secret = _secret(row)
    except CredentialUnreadableError:
        return False
    encrypted = encryption.encrypt(secret, tenant_id=row.tenant_id, provider=row.provider)
    # A secret that its tenant stores meanwhile wins.
    as_it_was = ProviderCredential.objects.filter(pk=row.pk, encrypted_secret=row.encrypted_secret)
    as_it_was.update(encrypted_secret=encrypted)
    return True


def _secret(row: ProviderCredential) -> str:
    """The row's secret. Why it cannot be read stands in the log alone: who is told may be another tenant's guest."""
    try:
        return encryption.decrypt(bytes(row.encrypted_secret), tenant_id=row.tenant_id, provider=row.provider)
    except encryption.UnreadableError as error:
        whose = {"credential": str(row.pk), "tenant": str(row.tenant_id), "provider": row.provider}
        logger.exception("credential cannot be read", extra={**whose, "reason": str(error)})
        raise CredentialUnreadableError(
            f"The paying tenant's key for {row.provider} cannot be read just now. Try again later; if that does not "
            "help, it has to be stored again."
        ) from error
