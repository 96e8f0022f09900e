"""The work list: rows that PostgreSQL owns and Celery wakes up.

A run, a document, an embedding batch is a row with a state, a lease and the signed context, committed with the request
that asked for it. Its message may be lost, doubled or late: :func:`claim` lets one delivery in, :func:`republish` finds
what nobody works on.
"""

import logging
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from django.db import models
from django.db.models import F, Min, Q
from django.db.models.functions import Now

from apps.core import dispatch
from apps.core.context import ContextRefusedError, ExecutionContext, restore
from apps.core.db import unit_of_work
from apps.core.errors import BusyError, NoobleError
from apps.core.leases import LEASE, Leased, kept
from apps.core.models import DeadLetter

logger = logging.getLogger(__name__)

#: A row is delivered this often before it counts as poison.
MAX_DELIVERIES = 6
#: The first pause of work that waits something out; doubles with every delivery.
POSTPONE_SECONDS = 5.0
MAX_POSTPONE_SECONDS = 300.0
#: How long a published row may wait for a worker before it is published again; doubles with every publication.
REPUBLISH_AFTER = timedelta(seconds=10)
MAX_REPUBLISH_DOUBLINGS = 5


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
    status: Any

    signed_context = models.TextField(editable=False)
    deliveries = models.PositiveSmallIntegerField(default=0)
    available_at = models.DateTimeField(db_default=Now())
    published_at = models.DateTimeField(db_default=Now())
    publications = models.PositiveSmallIntegerField(default=1)
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


def drive(
    ctx: ExecutionContext,
    model: type[Item],
    item_id: UUID,
    *,
    task_id: str,
    perform: Callable[[ExecutionContext, Item], None],
    give_up: Callable[[ExecutionContext, Item, NoobleError], None],
) -> bool:
    """Do the work of one row for one delivery: claim it, keep its lease, perform, and postpone or give up on an error.

    An error that is not ours is a defect or an outage: it goes to the log, the lease runs out, and the row is driven
    again, :data:`MAX_DELIVERIES` times at most. Returns False when there was nothing to do for this delivery.
    """
    with unit_of_work(ctx):
        item = claim(model, item_id, task_id=task_id)
    if item is None:
        return False
    # The row's own context: work that was asked for again has a newer one than a message that lay around.
    ctx = item.context.renewed(model.seconds)
    with kept(ctx, model, item_id, item.lease_epoch):
        try:
            _refuse_poison(item)
            perform(ctx, item)
        except NoobleError as error:
            logger.warning("work failed", extra={"row": str(item_id), "code": error.code}, exc_info=True)
            if not _put_off(ctx, item, error):
                give_up(ctx, item, error)
        except Exception:
            # What a deleted row's work stumbles over is no defect.
            if _exists(ctx, item):
                raise
            logger.info("deleted while it was worked on", extra={"row": str(item_id)})
    return True


def _exists(ctx: ExecutionContext, item: WorkItem) -> bool:
    with unit_of_work(ctx):
        return type(item)._default_manager.filter(pk=item.pk).exists()


def _refuse_poison(item: WorkItem) -> None:
    if item.deliveries > MAX_DELIVERIES:
        raise WorkFailedError(f"It was tried {MAX_DELIVERIES} times and its worker died or failed each time.")


def _put_off(ctx: ExecutionContext, item: WorkItem, error: NoobleError) -> bool:
    waits = isinstance(error, BusyError) or (error.retryable and item.patient)
    if not waits or item.deliveries >= MAX_DELIVERIES:
        return False
    # What somebody else is at will be over, or its worker's lease will be, in seconds.
    doublings = 0 if isinstance(error, BusyError) else item.deliveries - 1
    pause = min(max(error.retry_after or 0.0, POSTPONE_SECONDS * 2**doublings), MAX_POSTPONE_SECONDS)
    with unit_of_work(ctx):
        return postpone(item, seconds=pause)


def claim(model: type[Item], item_id: UUID, *, task_id: str) -> Item | None:
    """Take the row for this delivery, or None when it is finished, not due, or somebody alive has it.

    One conditional UPDATE decides: of ten deliveries at once the one whose UPDATE comes first raises the epoch, the
    others see the new lease and get None. The caller is in the row's unit of work.
    """
    won = (
        _free(model)
        .filter(pk=item_id)
        .update(
            lease_epoch=F("lease_epoch") + 1,
            lease_expires_at=Now() + LEASE,
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


def republish(model: type[WorkItem], *, limit: int = 500) -> int:
    """Publish rows that are due and that nobody works on; returns how many. The caller is in the operator's scope.

    A row whose lease ran out had a worker that died: it goes at once. A row that was never claimed may only be waiting
    in a long queue, so each publication doubles the time to the next.
    """
    due = _free(model).filter(_worker_died() | _message_late()).order_by("published_at")
    items: Iterable[WorkItem] = due.select_for_update(skip_locked=True, no_key=True)[:limit]
    count = 0
    for item in items:
        # A worker that died had been reached: what is waited for anew is one message.
        publications = F("publications") + 1 if item.lease_expires_at is None else 1
        model._default_manager.filter(pk=item.pk).update(
            published_at=Now(), publications=publications, lease_expires_at=None
        )
        count += _published(item)
    return count


def unfinished(model: type[WorkItem]) -> tuple[int, float]:
    """How many rows are not finished, and for how many seconds the oldest that nobody works on has been due."""
    rows = model._default_manager.filter(Q(status__in=model.unfinished))
    oldest = _free(model).aggregate(waits=Now() - Min("available_at"))["waits"]
    return rows.count(), oldest.total_seconds() if oldest else 0.0


def _published(item: WorkItem) -> bool:
    try:
        item.publish()
    except ContextRefusedError:
        # One row that cannot be understood (a damaged one, a key thrown away) must not keep all others waiting.
        logger.exception("work cannot be published", extra={"model": item._meta.label, "row": str(item.pk)})
        return False
    return True


def _free(model: type[Item]) -> models.QuerySet[Item]:
    unleased = Q(lease_expires_at__isnull=True) | Q(lease_expires_at__lt=Now())
    return model._default_manager.filter(unleased, status__in=model.unfinished, available_at__lte=Now())


def _worker_died() -> Q:
    return Q(lease_expires_at__lt=Now())


def _message_late() -> Q:
    late = Q(publications=0)
    for doublings in range(MAX_REPUBLISH_DOUBLINGS + 1):
        published = Q(publications=doublings + 1)
        if doublings == MAX_REPUBLISH_DOUBLINGS:
            published = Q(publications__gt=doublings)
        late |= published & Q(published_at__lt=Now() - REPUBLISH_AFTER * 2**doublings)
    return Q(lease_expires_at__isnull=True) & late
