"""One delivery of a row of the work list: claimed, kept, performed, put off or given up."""

import logging
from collections.abc import Callable
from uuid import UUID

from apps.core import publication, work
from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work
from apps.core.errors import BusyError, NoobleError
from apps.core.leases import kept
from apps.core.work import Item, WorkFailedError, WorkItem

logger = logging.getLogger(__name__)

#: A row is delivered this often before it counts as poison.
MAX_DELIVERIES = 6
#: The first pause of work that waits something out; doubles with every delivery.
POSTPONE_SECONDS = 5.0
MAX_POSTPONE_SECONDS = 300.0


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
        item = work.claim(model, item_id, task_id=task_id)
    if item is None:
        # Finished, or deleted, before anybody came to it: what waits may take its place.
        _admit(ctx, model)
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
    _admit(ctx, model)
    return True


def _admit(ctx: ExecutionContext, model: type[WorkItem]) -> None:
    """The tenant has room for another row's message. If we die before, the sweeper finds it."""
    with unit_of_work(ctx):
        publication.admit(ctx, model)


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
        return work.postpone(item, seconds=pause)
