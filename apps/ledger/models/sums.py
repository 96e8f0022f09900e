"""Sums of entries, moved with them: budgets, and statistics by day and month."""

from django.db import models
from django.db.models import Q

from apps.core.ids import NO_ID
from apps.ledger.models.parties import Buckets, Parties


class Budget(models.Model):
    """What a payer may spend in one month, has spent, and has set aside. ``tenant_id`` is the payer.

    The row also keeps the latest day of the month that a hold or an entry counted in, so that a daily limit is decided
    by the same UPDATE. What earlier days spent stands in the daily statistics.
    """

    tenant_id = models.UUIDField()
    #: The first day of the month, in the payer's time zone.
    starts_on = models.DateField()
    #: The limit at the last hold; null: none. What decides is always the tenant's and tier's present limit.
    limit_tokens = models.BigIntegerField(null=True)
    spent_tokens = models.BigIntegerField(default=0)
    held_tokens = models.BigIntegerField(default=0)
    day = models.DateField(null=True)
    day_spent_tokens = models.BigIntegerField(default=0)
    day_held_tokens = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant_id", "starts_on"], name="one_budget_per_month"),
            models.CheckConstraint(
                condition=Q(held_tokens__gte=0, day_held_tokens__gte=0), name="budget_held_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.starts_on:%Y-%m}"


class UsageRow(Parties, Buckets):
    """Sums of entries that agree in every other column. "None" is the zero id, never null: it is part of the key."""

    provider = models.CharField(max_length=64)
    model = models.CharField(max_length=128)
    agent_id = models.UUIDField(default=NO_ID)
    collection_id = models.UUIDField(default=NO_ID)
    operation = models.CharField(max_length=16)
    token_type = models.CharField(max_length=16)
    token_source = models.CharField(max_length=16)
    billable = models.BooleanField()
    total_tokens = models.BigIntegerField(default=0)
    cost_usd = models.DecimalField(max_digits=24, decimal_places=10, default=0)
    entries = models.PositiveIntegerField(default=0)
    #: How many of the entries have no cost, because their model has no price.
    unpriced_entries = models.PositiveIntegerField(default=0)

    class Meta:
        abstract = True


GROUP = [
    "payer_tenant_id",
    "owner_tenant_id",
    "tenant_id",
    "provider",
    "model",
    "agent_id",
    "collection_id",
    "operation",
    "token_type",
    "token_source",
    "billable",
]


class UsageDaily(UsageRow):
    """A day's sums, in the payer's time zone."""

    day = models.DateField()

    class Meta:
        verbose_name_plural = "daily usage"
        constraints = [
            # Payer and day lead: the usage page of a payer reads a range of it.
            models.UniqueConstraint(fields=["payer_tenant_id", "day", *GROUP[1:]], name="usage_daily_key")
        ]
        indexes = [
            models.Index(fields=["owner_tenant_id", "day"], name="usage_daily_of_owner"),
            models.Index(fields=["tenant_id", "day"], name="usage_daily_of_consumer"),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.model}"


class UsageMonthly(UsageRow):
    """A month's sums, in the payer's time zone; ``month`` is its first day."""

    month = models.DateField()

    class Meta:
        verbose_name_plural = "monthly usage"
        constraints = [
            models.UniqueConstraint(fields=["payer_tenant_id", "month", *GROUP[1:]], name="usage_monthly_key")
        ]
        indexes = [
            models.Index(fields=["owner_tenant_id", "month"], name="usage_monthly_of_owner"),
            models.Index(fields=["tenant_id", "month"], name="usage_monthly_of_consumer"),
        ]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m} {self.model}"
