"""What is bought, and each call that was made for it."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.core.constraints import OneOf
from apps.core.ids import new_id
from apps.core.leases import Leased
from apps.ledger.models.parties import Buckets, Parties
from apps.ledger.types import (
    AttemptState,
    OperationKind,
    OperationState,
    TokenSource,
    TokenType,
)


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
    #: The entry that was written at an estimate before the truth was known; it stays named whatever becomes of this.
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
