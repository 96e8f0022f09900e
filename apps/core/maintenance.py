"""What has to be done now and then in every tenant: republish work, forget what is kept for a time only.

Two beats do no harm. A sweep's changes are conditional UPDATEs under row locks, each of which one sweep makes; it takes
no slot, since slots go by a worker's clock, which may jump back, and dead work must not wait for that.
"""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from django.db import IntegrityError, transaction

from apps.core import clock, publication
from apps.core.api import idempotency
from apps.core.db import operator_scope
from apps.core.models import PeriodicSlot
from apps.core.work import WorkItem

SLOTS_KEPT = timedelta(days=2)


def republish(models: Iterable[type[WorkItem]]) -> int:
    """Publish the rows of the work list that are due, have room, and that nobody works on; returns how many."""
    return sum(_republish(model) for model in models)


def unfinished(model: type[WorkItem]) -> tuple[int, float]:
    """How many rows of the work list are not finished, and for how many seconds the oldest that is due has waited."""
    with operator_scope("metrics", level=logging.DEBUG):
        return publication.unfinished(model)


def purge() -> int:
    """Delete remembered responses and periodic slots that are past their time; returns how many responses."""
    with operator_scope("purge", level=logging.DEBUG):
        PeriodicSlot.objects.filter(starts_at__lt=clock.now() - SLOTS_KEPT).delete()
        return idempotency.forget_old()


def claim_slot(name: str, *, seconds: int) -> bool:
    """Take the present period of a periodic task; False when another beat's task has it. Two beats do it once."""
    present = int(clock.now().timestamp()) // seconds * seconds
    try:
        with transaction.atomic():
            PeriodicSlot.objects.create(name=name, starts_at=datetime.fromtimestamp(present, UTC))
    except IntegrityError:
        return False
    return True


def _republish(model: type[WorkItem]) -> int:
    with operator_scope("sweeper", level=logging.DEBUG):
        count = publication.republish(model)
        left = publication.left_waiting(model)
    for tenant_id, share in left:
        # A transaction each: until it ends, whoever hands in work of that tenant waits for it.
        with operator_scope("sweeper", level=logging.DEBUG):
            count += publication.admit_of(model, tenant_id, share)
    return count
