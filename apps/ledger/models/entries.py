"""What was used: the books themselves."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Least, Now
from django.db.models.lookups import GreaterThanOrEqual

from apps.core.constraints import OneOf
from apps.core.ids import new_id
from apps.ledger.models.operations import Attempt, Operation
from apps.ledger.models.parties import Buckets, Parties
from apps.ledger.types import (
    BUCKETS,
    EntryKind,
    OperationKind,
    TokenSource,
    TokenType,
)


class Entry(Parties, Buckets):
    """What an operation cost, usage from elsewhere, or an adjustment. Append-only: a trigger refuses anything else."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    kind = models.CharField(max_length=16, choices=EntryKind.choices, default=EntryKind.USAGE)
    idempotency_key = models.CharField(max_length=255)
    payload_hash = models.CharField(max_length=64)
    #: Null for what the till did not buy: usage from elsewhere, chunking. An adjustment has that of what it corrects.
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
