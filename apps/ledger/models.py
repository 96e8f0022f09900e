"""The books. What moves tokens is never written through the ORM: ``apps.ledger.till`` calls the functions that do.

On every row ``tenant_id`` is the consumer, the tenant that asked; owner and payer stand beside it.
"""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Least, Now
from django.db.models.lookups import GreaterThanOrEqual

from apps.core.constraints import OneOf
from apps.core.ids import NO_ID, new_id
from apps.core.leases import Leased
from apps.ledger.types import (
    AttemptState,
    DiscrepancyKind,
    DiscrepancyState,
    EntryKind,
    OperationKind,
    OperationState,
    TokenSource,
    TokenType,
)


class Parties(models.Model):
    """Who asked, whose agent it was, who pays."""

    tenant_id = models.UUIDField()
    owner_tenant_id = models.UUIDField()
    payer_tenant_id = models.UUIDField()

    class Meta:
        abstract = True


BUCKETS = (
    "fresh_input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "plain_output_tokens",
    "reasoning_tokens",
)


class Buckets(models.Model):
    """Tokens in exclusive buckets. Adjustments are negative where they take back."""

    fresh_input_tokens = models.BigIntegerField(default=0)
    cached_input_tokens = models.BigIntegerField(default=0)
    cache_write_tokens = models.BigIntegerField(default=0)
    plain_output_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)

    class Meta:
        abstract = True

    @property
    def input_tokens(self) -> int:
        return self.fresh_input_tokens + self.cached_input_tokens + self.cache_write_tokens

    @property
    def output_tokens(self) -> int:
        return self.plain_output_tokens + self.reasoning_tokens


class Operation(Parties, Leased):
    """One unit of work with one permanent idempotency key. ``pending → done | failed | cancelled``."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    idempotency_key = models.CharField(max_length=255)
    payload_hash = models.CharField(max_length=64)
    token_type = models.CharField(max_length=16, choices=TokenType.choices)
    operation = models.CharField(max_length=16, choices=OperationKind.choices)
    billable = models.BooleanField(default=True)
    state = models.CharField(max_length=16, choices=OperationState.choices, default=OperationState.PENDING)
    #: The answer, kept so that a repeated delivery gets it without a call.
    result = models.JSONField(null=True)
    error_code = models.CharField(max_length=64, blank=True, default="")
    error_detail = models.TextField(blank=True, default="")
    agent_id = models.UUIDField(null=True)
    collection_id = models.UUIDField(null=True)
    document_id = models.UUIDField(null=True)
    conversation_id = models.UUIDField(null=True)
    run_id = models.UUIDField(null=True)
    context_id = models.UUIDField(null=True)
    metadata = models.JSONField(default=dict)
    created_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant_id", "idempotency_key"], name="one_operation_per_key"),
            models.CheckConstraint(condition=OneOf("token_type", TokenType.values), name="operation_token_type"),
            models.CheckConstraint(condition=OneOf("operation", OperationKind.values), name="operation_kind"),
            models.CheckConstraint(condition=OneOf("state", OperationState.values), name="operation_state"),
        ]
        indexes = [
            # Serves the sweeper: pending operations whose worker died.
            models.Index(fields=["lease_expires_at"], name="operation_expired", condition=Q(state="pending")),
            # Serves a run's page: what it cost, operation by operation.
            models.Index(fields=["run_id"], name="operation_of_run", condition=Q(run_id__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.operation} {self.id}"


class Attempt(Parties, Buckets):
    """One real call to a provider, written before the call. Its id is the request id that goes out with it.

    ``open → settled | void | unknown``, ``unknown → settled | void | lost``. ``open`` and ``unknown`` keep their hold.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    operation = models.ForeignKey(
        Operation, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="attempts"
    )
    number = models.PositiveSmallIntegerField()
    epoch = models.PositiveIntegerField()
    state = models.CharField(max_length=16, choices=AttemptState.choices, default=AttemptState.OPEN)
    provider = models.CharField(max_length=64)
    model = models.CharField(max_length=128)
    model_family = models.CharField(max_length=64, blank=True, default="")
    #: What was set aside before the call: the most it could cost.
    hold_tokens = models.BigIntegerField()
    #: What of it is still set aside: none once the attempt is settled, void or lost.
    held_tokens = models.BigIntegerField()
    #: The entry that was written at an estimate before the truth was known; the attempt is then ``unknown`` or settled.
    estimate_entry_id = models.UUIDField(null=True)
    #: The payer's local date when the hold was taken: the call counts in this day's and this month's books.
    day = models.DateField()
    token_source = models.CharField(max_length=16, choices=TokenSource.choices, blank=True, default="")
    #: By how much the true usage was above the hold; truth is never clipped.
    overage_tokens = models.BigIntegerField(default=0)
    provider_request_id = models.CharField(max_length=255, blank=True, default="")
    raw_usage = models.JSONField(null=True)
    error_code = models.CharField(max_length=64, blank=True, default="")
    error_detail = models.TextField(blank=True, default="")
    opened_at = models.DateTimeField(db_default=Now())
    deadline = models.DateTimeField()
    #: When the sweeper last asked the provider about it.
    asked_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["operation", "number"], name="attempt_number"),
            models.UniqueConstraint(fields=["operation"], name="one_open_attempt", condition=Q(state="open")),
            models.CheckConstraint(condition=OneOf("state", AttemptState.values), name="attempt_state"),
            models.CheckConstraint(condition=Q(held_tokens__gte=0), name="attempt_held_not_negative"),
            models.CheckConstraint(
                condition=Q(held_tokens=0) | Q(OneOf("state", ["open", "unknown"])),
                name="attempt_held_while_unresolved",
            ),
        ]
        indexes = [
            # Serves the sweeper and the budget's `unknown_tokens`: attempts that still keep a hold.
            models.Index(
                fields=["payer_tenant_id", "state"],
                name="attempt_unresolved",
                condition=Q(state__in=["open", "unknown"]),
            ),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.operation_id}"


class Entry(Parties, Buckets):
    """The ledger's row of a settled operation, or an adjustment. Append-only: a trigger refuses anything else."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    kind = models.CharField(max_length=16, choices=EntryKind.choices, default=EntryKind.USAGE)
    idempotency_key = models.CharField(max_length=255)
    payload_hash = models.CharField(max_length=64)
    #: Null for usage that happened elsewhere and for adjustments.
    operation_ref = models.ForeignKey(
        Operation,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        null=True,
        related_name="entries",
        db_column="operation_id",
    )
    attempt = models.ForeignKey(
        Attempt, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, null=True, related_name="entries"
    )
    corrects = models.ForeignKey(
        "self", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, null=True, related_name="corrections"
    )
    token_type = models.CharField(max_length=16, choices=TokenType.choices)
    operation = models.CharField(max_length=16, choices=OperationKind.choices)
    provider = models.CharField(max_length=64)
    model = models.CharField(max_length=128)
    model_family = models.CharField(max_length=64, blank=True, default="")
    total_tokens = models.BigIntegerField()
    token_source = models.CharField(max_length=16, choices=TokenSource.choices)
    billable = models.BooleanField()
    #: Null: the model has no price; never zero for that reason.
    cost_usd = models.DecimalField(max_digits=20, decimal_places=10, null=True)
    price_id = models.UUIDField(null=True)
    #: Why an adjustment was made, and who made it.
    reason = models.CharField(max_length=500, blank=True, default="")
    actor = models.CharField(max_length=150, blank=True, default="")
    #: The payer's local date in whose books it counts.
    day = models.DateField()
    agent_id = models.UUIDField(null=True)
    collection_id = models.UUIDField(null=True)
    document_id = models.UUIDField(null=True)
    conversation_id = models.UUIDField(null=True)
    run_id = models.UUIDField(null=True)
    context_id = models.UUIDField(null=True)
    provider_request_id = models.CharField(max_length=255, blank=True, default="")
    attempts = models.PositiveSmallIntegerField(default=0)
    occurred_at = models.DateTimeField()
    recorded_at = models.DateTimeField(db_default=Now())
    metadata = models.JSONField(default=dict)

    class Meta:
        verbose_name_plural = "entries"
        constraints = [
            models.UniqueConstraint(fields=["tenant_id", "idempotency_key"], name="one_entry_per_key"),
            models.CheckConstraint(condition=OneOf("token_type", TokenType.values), name="entry_token_type"),
            models.CheckConstraint(condition=OneOf("operation", OperationKind.values), name="entry_operation"),
            models.CheckConstraint(condition=OneOf("kind", EntryKind.values), name="entry_kind"),
            models.CheckConstraint(condition=OneOf("token_source", TokenSource.values), name="entry_token_source"),
            models.CheckConstraint(
                condition=Q(
                    total_tokens=models.F("fresh_input_tokens")
                    + models.F("cached_input_tokens")
                    + models.F("cache_write_tokens")
                    + models.F("plain_output_tokens")
                    + models.F("reasoning_tokens")
                ),
                name="entry_buckets_add_up",
            ),
            models.CheckConstraint(
                condition=Q(kind="adjustment", corrects__isnull=False)
                | Q(GreaterThanOrEqual(Least(*BUCKETS), 0), kind="usage"),
                name="entry_usage_not_negative",
            ),
        ]
        indexes = [
            # Each serves the ledger's pages of one role, newest first. A consumer's are in the order of the unique
            # (tenant_id, id) that foreign keys to entries refer to.
            models.Index(fields=["payer_tenant_id", "-id"], name="entry_of_payer"),
            models.Index(fields=["owner_tenant_id", "-id"], name="entry_of_owner"),
            # Serves the statement: a payer's entries of one month.
            models.Index(fields=["payer_tenant_id", "day"], name="entry_of_payer_day"),
            models.Index(fields=["run_id"], name="entry_of_run", condition=Q(run_id__isnull=False)),
            # Serves whoever corrects an entry: what was corrected before.
            models.Index(fields=["corrects"], name="entry_corrections", condition=Q(corrects__isnull=False)),
            # Serves the operator's list of what has no price.
            models.Index(fields=["id"], name="entry_unpriced", condition=Q(cost_usd__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"{self.operation} {self.total_tokens} tokens"


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


class Price(models.Model):
    """What a model costs from a moment on, in USD per million tokens of each bucket.

    ``tenant_id`` is the payer that the price is for, or the zero id: everybody. A payer's own price goes before. A row
    explains what entries cost, so a trigger lets nothing of it change but its end.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant_id = models.UUIDField(default=NO_ID)
    provider = models.CharField(max_length=64)
    model = models.CharField(max_length=128)
    starts_at = models.DateTimeField()
    #: Null: until the next one starts.
    ends_at = models.DateTimeField(null=True, blank=True)
    fresh_input_usd = models.DecimalField(max_digits=20, decimal_places=10)
    cached_input_usd = models.DecimalField(max_digits=20, decimal_places=10)
    cache_write_usd = models.DecimalField(max_digits=20, decimal_places=10)
    plain_output_usd = models.DecimalField(max_digits=20, decimal_places=10)
    reasoning_usd = models.DecimalField(max_digits=20, decimal_places=10)
    #: Where it comes from: a package and its version, or the operator who set it.
    source = models.CharField(max_length=150)

    class Meta:
        constraints = [
            # Also what settle looks the price of an entry up by.
            models.UniqueConstraint(
                fields=["provider", "model", "tenant_id", "starts_at"], name="one_price_per_model_and_start"
            ),
            models.CheckConstraint(
                condition=Q(ends_at__isnull=True) | Q(ends_at__gt=models.F("starts_at")), name="price_ends_after_start"
            ),
            models.CheckConstraint(
                condition=Q(
                    fresh_input_usd__gte=0,
                    cached_input_usd__gte=0,
                    cache_write_usd__gte=0,
                    plain_output_usd__gte=0,
                    reasoning_usd__gte=0,
                ),
                name="price_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider}/{self.model} from {self.starts_at:%Y-%m-%d}"


class Discrepancy(models.Model):
    """Something in the books that must be looked at: kind, amount, evidence and state. ``tenant_id`` is the payer."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant_id = models.UUIDField()
    kind = models.CharField(max_length=32, choices=DiscrepancyKind.choices)
    state = models.CharField(max_length=16, choices=DiscrepancyState.choices, default=DiscrepancyState.OPEN)
    #: What it is about, so that the same thing found again is the same row.
    subject = models.CharField(max_length=300)
    amount_tokens = models.BigIntegerField(default=0)
    evidence = models.JSONField(default=dict)
    times_seen = models.PositiveIntegerField(default=1)
    first_seen_at = models.DateTimeField(db_default=Now())
    last_seen_at = models.DateTimeField(db_default=Now())
    resolved_at = models.DateTimeField(null=True)
    #: How it ended: the adjustment that repaired it, or an operator's word.
    resolution = models.CharField(max_length=500, blank=True, default="")

    class Meta:
        verbose_name_plural = "discrepancies"
        constraints = [
            models.UniqueConstraint(fields=["tenant_id", "kind", "subject"], name="one_discrepancy_per_subject"),
            models.CheckConstraint(condition=OneOf("kind", DiscrepancyKind.values), name="discrepancy_kind"),
            models.CheckConstraint(condition=OneOf("state", DiscrepancyState.values), name="discrepancy_state"),
        ]
        indexes = [
            # Serves the operator's list of what is not resolved.
            models.Index(fields=["last_seen_at"], name="discrepancy_open", condition=Q(state="open")),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"


class ReconciliationRun(models.Model):
    """One comparison of the books: what it read, found and repaired."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    #: ``beat``, ``command`` or the operator who asked for it.
    started_by = models.CharField(max_length=150)
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)
    #: Rows by table, and the days that were compared.
    read = models.JSONField(default=dict)
    #: Discrepancies by kind.
    found = models.JSONField(default=dict)
    repaired = models.JSONField(default=dict)
    error = models.TextField(blank=True, default="")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"reconciliation of {self.started_at:%Y-%m-%d %H:%M}"
