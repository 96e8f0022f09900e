"""What was compared, and what must be looked at."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.core.constraints import OneOf
from apps.core.ids import new_id
from apps.ledger.types import (
    DiscrepancyKind,
    DiscrepancyState,
)


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
    #: How it ended: what the repair did, or which operator found out what.
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
