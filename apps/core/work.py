"""The work list: rows that PostgreSQL owns and Celery wakes up.

A run, a document, an embedding batch is a row with a state, a lease and the signed context, committed with the request
that asked for it. When it gets a message is said in ``publication``. That may be lost, doubled or late: :func:`claim`
lets one delivery in.
"""

from datetime import timedelta
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Greatest, Now

from apps.core import dispatch
from apps.core.context import ExecutionContext, restore
from apps.core.errors import BusyError, NoobleError
from apps.core.leases import LEASE, Leased
from apps.core.models import DeadLetter


class WorkFailedError(NoobleError):
    """The work was tried several times and its worker died each time."""

    code = "work_failed"


class LeaseLostError(BusyError):
    """Another worker has taken the work over."""

    code = "lease_lost"


class WorkItem(Leased):
    """A row of the work list. A subclass has a ``status`` and says which of its values are unfinished."""

    #: The task that does the work; its one argument is ``<model name>_id``.
    task_name: ClassVar[str]
    unfinished: ClassVar[frozenset[str]]
    #: Whether an error that may pass is waited out; otherwise somebody is waiting, and is told at once.
    patient: ClassVar[bool] = False
    #: How long the calls of one delivery may take together.
    seconds: ClassVar[float] = 120.0

    id: Any
    tenant_id: Any
    status: Any

    signed_context = models.TextField(editable=False)
    deliveries = models.PositiveSmallIntegerField(default=0)
    available_at = models.DateTimeField(db_default=Now())
    published_at = models.DateTimeField(db_default=Now())
    #: How often it was published since it was last put off; 0: it has no message, and waits for its tenant's share.
    publications = models.PositiveSmallIntegerField(default=0)
    #: The Celery task that worked on it last, as django-celery-results shows it.
    task_id = models.CharField(max_length=255, blank=True, default="")

    class Meta:
        abstract = True

    @property
    def context(self) -> ExecutionContext:
        return restore(self.signed_context)

    def publish(self) -> None:
        """Wake somebody up for this row when the open transaction commits."""
        ctx = self.context
        dispatch.publish_on_commit(
            self.task_name,
            signed_context=self.signed_context,
            tier=ctx.tenant_tier,
            ids={f"{self._meta.model_name}_id": str(self.id)},
        )


Item = TypeVar("Item", bound=WorkItem)


def work_indexes(name: str, unfinished: Q) -> list[models.Index]:
    """The indexes that a table of the work list needs, each of what is ``unfinished`` only."""
    return [
        # Serves the metrics: how much there is, and since when the oldest is due.
        models.Index(fields=["available_at"], name=f"{name}_unfinished", condition=unfinished),
        # Serves the count of a tenant's share, and the sweeper, which looks for what nobody works on.
        models.Index(fields=["tenant_id"], name=f"{name}_under_way", condition=unfinished & Q(publications__gt=0)),
        # Serves the choice of the next: a tenant's oldest, and the sweeper, which looks for each tenant's.
        models.Index(fields=["tenant_id", "id"], name=f"{name}_waiting", condition=unfinished & Q(publications=0)),
    ]


def claim(model: type[Item], item_id: UUID, *, task_id: str) -> Item | None:
    """Take the row for this delivery, or None when it is finished, not due, or somebody alive has it.

    One conditional UPDATE decides: of ten deliveries at once the one whose UPDATE comes first raises the epoch, the
    others see the new lease and get None. The caller is in the row's unit of work.
    """
    won = (
        free(model)
        .filter(pk=item_id)
        .update(
            lease_epoch=F("lease_epoch") + 1,
            lease_expires_at=Now() + LEASE,
            # Of its tenant's share, though the message was of an earlier publication.
            publications=Greatest(F("publications"), 1),
            deliveries=F("deliveries") + 1,
            task_id=task_id,
        )
    )
    return model._default_manager.get(pk=item_id) if won else None


def advance(item: WorkItem, **values: Any) -> bool:
    """Change the row if the epoch we claimed it under still stands; False: somebody else has it, stop."""
    mine: dict[str, Any] = {"lease_epoch": item.lease_epoch, "status__in": item.unfinished}
    rows = type(item)._default_manager.filter(pk=item.pk, **mine)
    if not rows.update(**values):
        return False
    for name, value in values.items():
        setattr(item, name, value)
    return True


def bury(item: WorkItem, error: NoobleError) -> None:
    """Keep a note of work that killed its workers, for whoever looks into it; in the row's unit of work."""
    if isinstance(error, WorkFailedError):
        DeadLetter.objects.create(
            tenant_id=item.context.tenant_id,
            task_name=item.task_name,
            row_id=item.pk,
            task_id=item.task_id,
            reason=error.detail,
        )


def postpone(item: WorkItem, *, seconds: float) -> bool:
    """Give the row back, to be driven again after ``seconds``. The sweeper wakes it: no message waits that long."""
    return advance(item, lease_expires_at=None, available_at=Now() + timedelta(seconds=seconds), publications=0)


def free(model: type[Item]) -> models.QuerySet[Item]:
    """The rows that are due and that nobody works on."""
    unleased = Q(lease_expires_at__isnull=True) | Q(lease_expires_at__lt=Now())
    return model._default_manager.filter(unleased, status__in=model.unfinished, available_at__lte=Now())
