"""Words of this room that are data, not rows."""

from dataclasses import dataclass, field
from uuid import UUID

from django.db import models


class Scope(models.TextChoices):
    """What an API key may do."""

    CHAT = "chat", "Ask agents, search, read and write conversations"
    MANAGE = "manage", "Manage agents, collections, documents, keys and members"
    USAGE = "usage", "Read usage, ledger and budget; report usage"
    INTERNAL = "internal", "Embeddings for trusted services"


class MemberRole(models.TextChoices):
    OWNER = "owner", "Owner"
    ADMIN = "admin", "Administrator"
    MEMBER = "member", "Member"


@dataclass(frozen=True, kw_only=True)
class TierLimits:
    """What the tenant's plan allows, as the edge checks it."""

    max_output_tokens: int
    max_upload_bytes: int
    max_question_characters: int
    #: None: no limit.
    requests_per_minute: int | None
    #: Patterns of ``provider/model``; none: all models.
    models_allowed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who a request acts for, once it is authenticated: a tenant, what may be done in its name, and its plan."""

    tenant_id: UUID
    tenant_slug: str
    tier: str
    scopes: frozenset[str]
    limits: TierLimits
    tier_defaults: dict[str, object]
    key_id: UUID | None = None
    user_id: UUID | None = None

    #: DRF asks for this of whatever it takes for the user.
    is_authenticated = True


@dataclass(frozen=True, kw_only=True)
class ProviderKey:
    """A tenant's own key for a provider, in the process that is about to call, and the address it is for, if any."""

    secret: str = field(repr=False)
    base_url: str
