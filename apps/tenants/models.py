"""Who uses nooble: plans, the tenants on them, the people and the keys that act for a tenant."""

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from apps.core import configuration
from apps.core.configuration import Level
from apps.core.errors import NoobleError
from apps.core.ids import new_id
from apps.providers import choices
from apps.tenants.types import MemberRole, Scope
from apps.tenants.validators import validate_time_zone


class User(AbstractUser):
    """A person: an operator (``is_staff``) or a member of tenants."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)


class Tier(models.Model):
    """A plan: what a tenant on it may use, and how its work is configured unless it says otherwise."""

    #: Stands in contexts and queue names, so the four that exist are not renamed.
    name = models.SlugField(primary_key=True, max_length=32)
    title = models.CharField(max_length=100)
    position = models.PositiveSmallIntegerField(default=0)
    monthly_token_limit = models.BigIntegerField(null=True, blank=True, help_text="Empty: no limit.")
    daily_token_limit = models.BigIntegerField(null=True, blank=True, help_text="Empty: no limit.")
    max_output_tokens = models.PositiveIntegerField(default=4000)
    max_upload_bytes = models.PositiveBigIntegerField(default=20 * 1024 * 1024)
    max_question_characters = models.PositiveIntegerField(default=20_000)
    requests_per_minute = models.PositiveIntegerField(
        null=True, blank=True, help_text="Of a tenant, with all of its keys together. Empty: no limit."
    )
    models_allowed = ArrayField(
        models.CharField(max_length=200),
        default=list,
        blank=True,
        help_text="Patterns of provider/model, comma-separated, e.g. local/*,groq/*,openai/gpt-4o-mini. They must "
        "include what the tier's defaults, or else the deployment's, answer and embed with. Empty: all.",
    )
    defaults = models.JSONField(
        default=dict, blank=True, help_text='Settings for this tier, e.g. {"rag_config.max_results": 8}.'
    )

    class Meta:
        ordering = ["position", "name"]
        constraints = [models.CheckConstraint(condition=Q(requests_per_minute__gt=0), name="tier_requests_per_minute")]

    def __str__(self) -> str:
        return self.title

    def clean(self) -> None:
        """Refuse defaults that are none, and models that could not be asked with what the deployment says besides."""
        try:
            accepted = configuration.check(self.defaults, level=Level.TIER)
            resolved = configuration.resolve({Level.TIER: accepted})
            choices.require_chat(resolved, saved_at=Level.TIER)
            choices.require_embedding(resolved)
        except NoobleError as error:
            raise ValidationError({"defaults": error.detail}) from error
        if missing := choices.not_allowed(resolved, self.models_allowed):
            why = "which the tier's defaults, or else the deployment's, answer or embed with"
            step = "Add it, or name another one in the tier's defaults."
            raise ValidationError({"models_allowed": [f"They lack {model}, {why}. {step}" for model in missing]})


class Tenant(models.Model):
    """A customer. Its rows are seen in its own scope only."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    slug = models.SlugField(max_length=63, unique=True)
    name = models.CharField(max_length=200)
    tier = models.ForeignKey(Tier, on_delete=models.PROTECT, related_name="tenants")
    time_zone = models.CharField(
        max_length=64, default="UTC", validators=[validate_time_zone], help_text="Decides when its days and months end."
    )
    monthly_token_limit = models.BigIntegerField(null=True, blank=True, help_text="Empty: the tier's.")
    daily_token_limit = models.BigIntegerField(null=True, blank=True, help_text="Empty: the tier's.")
    hard_limit = models.BooleanField(default=True, help_text="Refuse work above the limit; otherwise only report it.")
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name


class Member(models.Model):
    """A person's place in a tenant: an invitation by name, until an operator says whose account that is."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="members")
    invited_as = models.CharField(max_length=150, blank=True, default="", editable=False)
    user = models.ForeignKey(
        User, on_delete=models.CASCADE, related_name="memberships", null=True, help_text="Whose account it is."
    )
    role = models.CharField(max_length=16, choices=MemberRole.choices, default=MemberRole.MEMBER)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "user"], name="one_membership_per_tenant"),
            models.UniqueConstraint(
                fields=["tenant", "invited_as"], condition=Q(user__isnull=True), name="one_invitation_per_name"
            ),
            models.CheckConstraint(condition=Q(user__isnull=False) | ~Q(invited_as=""), name="a_member_has_a_name"),
        ]

    def __str__(self) -> str:
        return f"{self.username} ({self.role})"

    @property
    def username(self) -> str:
        """The account's name; of an invitation the one that the tenant gave."""
        return self.user.username if self.user else self.invited_as


class ApiKey(models.Model):
    """A key that acts for a tenant. Only its SHA-256 is stored: the secret is 256 random bits, so no salt is needed."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    #: The public part, by which the key is found and recognised in lists.
    prefix = models.CharField(max_length=16, unique=True, editable=False)
    secret_hash = models.CharField(max_length=64, editable=False)
    scopes = ArrayField(models.CharField(max_length=16, choices=Scope.choices))
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.name} (nbl_{self.prefix}…)"

    @property
    def is_usable(self) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > timezone.now())


class ProviderCredential(models.Model):
    """A tenant's own key for a provider, which its calls are made with in place of the deployment's."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="provider_credentials", db_index=False)
    provider = models.CharField(max_length=64)
    #: As :mod:`apps.tenants.encryption` has it.
    encrypted_secret = models.BinaryField()
    #: The last four characters of the secret, by which it is recognised in lists.
    hint = models.CharField(max_length=4, editable=False)
    #: Operators set it, and nobody else: the database sees to that.
    base_url = models.CharField(
        max_length=500,
        blank=True,
        default="",
        help_text="Where the key is good; its tenant sees it. Empty: the deployment's address.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    rotated_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["tenant", "provider"], name="one_credential_per_provider")]

    def __str__(self) -> str:
        return f"{self.provider} (…{self.hint})"
