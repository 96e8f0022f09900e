"""What can be done with tenants and keys."""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from apps.core.context import ExecutionContext
from apps.core.db import operator_scope, unit_of_work
from apps.core.errors import NotFoundError, SlugTakenError
from apps.core.ids import new_id
from apps.tenants import keys
from apps.tenants.errors import InvalidApiKeyError, TenantInactiveError
from apps.tenants.models import ApiKey, Tenant, Tier
from apps.tenants.types import Principal, Scope, TierLimits

#: ``last_used_at`` is written at most this often: it is for people, and not worth a write with every request.
LAST_USED_RESOLUTION = timedelta(minutes=1)
API_CONTEXT_SECONDS = 60

DEMO_SLUG = "demo"


def create_tenant(*, slug: str, name: str, tier: str = "free", time_zone: str = "UTC") -> tuple[Tenant, str]:
    """A new tenant and its first key, with every public scope. The key is shown here and never again."""
    tenant = Tenant(id=new_id(), slug=slug, name=name, tier=_tier(tier), time_zone=time_zone)
    tenant.clean_fields()
    try:
        with operator_scope("create a tenant"):
            tenant.save(force_insert=True)
    except IntegrityError as error:
        raise SlugTakenError(f"There is a tenant “{slug}” already. Choose another slug.") from error
    _, key = issue_key(context_of(tenant), name="first key", scopes=[Scope.CHAT, Scope.MANAGE, Scope.USAGE])
    return tenant, key


def issue_key(
    ctx: ExecutionContext, *, name: str, scopes: Iterable[str], expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """A new key of the context's tenant, and its text, which is not stored."""
    key = keys.generate()
    with unit_of_work(ctx):
        row = ApiKey.objects.create(
            tenant_id=ctx.tenant_id,
            name=name,
            prefix=key.prefix,
            secret_hash=key.secret_hash(),
            scopes=sorted(set(scopes)),
            expires_at=expires_at,
        )
    return row, str(key)


def revoke_key(ctx: ExecutionContext, key_id: UUID) -> None:
    """From now on the key opens nothing. Revoking twice is revoking once."""
    with unit_of_work(ctx):
        if not ApiKey.objects.filter(pk=key_id).exists():
            raise NotFoundError("There is no such API key.")
        ApiKey.objects.filter(pk=key_id, revoked_at__isnull=True).update(revoked_at=Now())


def authenticate(text: str) -> Principal:
    """The principal of an API key; raises InvalidApiKeyError or TenantInactiveError."""
    presented = keys.parse(text)
    # The tenant is not known yet, so nobody's scope can be opened: one of the few lookups that see every tenant.
    with operator_scope("authentication", level=logging.DEBUG):
        row = presented and ApiKey.objects.select_related("tenant__tier").filter(prefix=presented.prefix).first()
        if not presented or not row or not presented.proves(row.secret_hash) or not row.is_usable:
            raise InvalidApiKeyError("Create a key in the admin or with `manage.py create_tenant`.")
        stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=timezone.now() - LAST_USED_RESOLUTION)
        ApiKey.objects.filter(stale, pk=row.pk).update(last_used_at=Now())
    if not row.tenant.is_active:
        raise TenantInactiveError("Ask the operator of this service to activate it.")
    return principal_of(row.tenant, scopes=row.scopes, key_id=row.pk)


def principal_of(
    tenant: Tenant, *, scopes: Iterable[str], key_id: UUID | None = None, user_id: UUID | None = None
) -> Principal:
    """What the edge knows of a tenant, so that nothing behind it asks again."""
    tier = tenant.tier
    return Principal(
        tenant_id=tenant.id,
        tenant_slug=tenant.slug,
        tier=tier.name,
        scopes=frozenset(scopes),
        limits=TierLimits(
            max_output_tokens=tier.max_output_tokens,
            max_upload_bytes=min(tier.max_upload_bytes, settings.MAX_UPLOAD_BYTES),
            max_question_characters=tier.max_question_characters,
            requests_per_minute=tier.requests_per_minute,
            models_allowed=tuple(tier.models_allowed),
        ),
        tier_defaults=tier.defaults,
        key_id=key_id,
        user_id=user_id,
    )


def tier_of(ctx: ExecutionContext) -> Tier:
    """The plan that the context names, as that is now; the tenant may have been put on another one since."""
    return _tier(ctx.tenant_tier)


def context_of(tenant: Tenant) -> ExecutionContext:
    """A context that acts for a tenant in its own name: for commands and for work that no request started."""
    return ExecutionContext(
        context_type="api",
        deadline=timezone.now() + timedelta(seconds=API_CONTEXT_SECONDS),
        tenant_id=tenant.id,
        tenant_tier=tenant.tier_id,
        payer_tenant_id=tenant.id,
        owner_tenant_id=tenant.id,
    )


def context_of_id(tenant_id: UUID) -> ExecutionContext:
    """As :func:`context_of`, for an id; raises NotFoundError."""
    with operator_scope("context of a tenant", level=logging.DEBUG):
        tenant = Tenant.objects.filter(pk=tenant_id).first()
    if tenant is None:
        raise NotFoundError(f"There is no tenant {tenant_id}.")
    return context_of(tenant)


def demo_key(name: str) -> tuple[Tenant, str]:
    """The demonstration's tenant, made at its first use, and a new key of that name; the one before is revoked."""
    with operator_scope("demonstration", level=logging.DEBUG):
        tenant = Tenant.objects.filter(slug=DEMO_SLUG).first()
    if tenant is None:
        tenant, _ = create_tenant(slug=DEMO_SLUG, name="Demonstration", tier="professional")
    ctx = context_of(tenant)
    with unit_of_work(ctx):
        ApiKey.objects.filter(name=name, revoked_at__isnull=True).update(revoked_at=Now())
        _, key = issue_key(ctx, name=name, scopes=[Scope.CHAT, Scope.MANAGE, Scope.USAGE])
    return tenant, key


def _tier(name: str) -> Tier:
    tier = Tier.objects.filter(pk=name).first()
    if tier is None:
        known = ", ".join(Tier.objects.values_list("name", flat=True))
        raise NotFoundError(f"There is no tier “{name}”. There are: {known}.")
    return tier
