"""Rows that every room leans on: remembered responses, periodic slots, dead letters."""

from django.db import models
from django.db.models.functions import Now

from apps.core.ids import new_id


class IdempotentResponse(models.Model):
    """The first response to a POST that carried an ``Idempotency-Key``, kept for seven days."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant_id = models.UUIDField()
    key = models.CharField(max_length=255)
    request_hash = models.CharField(max_length=64)
    #: When the first request with this key came: the moment a repeated request counts from, too.
    created_at = models.DateTimeField(db_default=Now())
    #: Null while the first request is at work.
    status_code = models.PositiveSmallIntegerField(null=True)
    body = models.JSONField(null=True)
    #: A request whose process died is taken over by the next one with its key after this.
    lease_expires_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant_id", "key"], name="one_response_per_key")]
        # Serves the purge of what is older than seven days.
        indexes = [models.Index(fields=["created_at"], name="idempotent_response_age")]

    def __str__(self) -> str:
        return self.key


class PeriodicSlot(models.Model):
    """One period of one periodic task: whoever inserts the row does the work, so two beats do it once."""

    name = models.CharField(max_length=100)
    starts_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["name", "starts_at"], name="one_effect_per_slot")]

    def __str__(self) -> str:
        return f"{self.name} {self.starts_at:%Y-%m-%d %H:%M:%S}"


class DeadLetter(models.Model):
    """Work that was given up after its worker died too often, with what was known about it."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant_id = models.UUIDField()
    task_name = models.CharField(max_length=100)
    row_id = models.UUIDField()
    task_id = models.CharField(max_length=255, blank=True)
    reason = models.TextField()
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.task_name} {self.row_id}"
