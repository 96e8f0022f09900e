"""Which rows of the work list have a message: of each tenant's as many as its share, the oldest first.

Rows are written without one. :func:`admit` publishes what there is room for: it is called in the transaction that
writes rows, by each delivery when it has ended, and by the sweeper. So what stands in a queue before a tenant's work is
at most the share of every other tenant, however much those have in the database.

From the count to the commit an advisory lock of the tenant's is held for each table: of two that admit at once the
second counts what the first has published. Whoever holds it waits for no row, those that somebody has locked are passed
over; so take it last.
"""

import logging
from datetime import timedelta
from uuid import UUID

from django.db import models
from django.db.models import F, Min, Q
from django.db.models.functions import Now

from apps.core import db, work
from apps.core.context import ContextRefusedError, ExecutionContext
from apps.core.work import Item, WorkItem

logger = logging.getLogger(__name__)

#: The share of a tenant whose context does not say: that of rows that cannot be read.
SHARE = 1
#: How long a published row may wait for a worker before it is published again; doubles with every publication.
REPUBLISH_AFTER = timedelta(seconds=10)
MAX_REPUBLISH_DOUBLINGS = 5
#: Until a row that cannot be published is tried again.
UNREADABLE_FOR = timedelta(seconds=300)


def admit(ctx: ExecutionContext, model: type[WorkItem]) -> int:
    """Publish the tenant's oldest waiting rows while there is room in its share; returns how many.

    The caller is in the context's unit of work, and has done there what else it does.
    """
    return admit_of(model, ctx.tenant_id, _share(ctx))


def admit_of(model: type[WorkItem], tenant_id: UUID, share: int) -> int:
    """The same of any tenant; the caller is in the operator's scope, and admits one tenant in a transaction."""
    db.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{model._meta.db_table} {tenant_id}"])
    room = _room(model, tenant_id, share)
    if room <= 0:
        return 0
    waiting = _waiting(model).filter(Q(tenant_id=tenant_id)).order_by("id")
    return sum(_publish(item, 1) for item in waiting.select_for_update(skip_locked=True, no_key=True)[:room])


def left_waiting(model: type[WorkItem]) -> list[tuple[UUID, int]]:
    """The tenants of which work is due and waits although there is room for it, each with its share.

    That is work that was put off, and work whose predecessor's worker died. The caller is in the operator's scope. One
    look into the index for each tenant: a backlog of thousands is passed over.
    """
    found, last = [], UUID(int=0)
    while item := _waiting(model).filter(Q(tenant_id__gt=last)).order_by("tenant_id", "id").first():
        last, share = item.tenant_id, _share_of(item)
        if _room(model, last, share) > 0:
            found.append((last, share))
    return found


def republish(model: type[WorkItem], *, limit: int = 500) -> int:
    """Publish rows again that have a message and that nobody works on; returns how many.

    A row whose lease ran out had a worker that died: it goes at once. A row that was never claimed may only be waiting
    in a long queue, so each publication doubles the time to the next. The caller is in the operator's scope.
    """
    # That they have a message goes without saying, but not for the index of those that have one.
    due = work.free(model).filter(_worker_died() | _message_late(), publications__gt=0).order_by("published_at")
    items = due.select_for_update(skip_locked=True, no_key=True)[:limit]
    # A worker that died had been reached: what is waited for anew is one message.
    return sum(_publish(item, F("publications") + 1 if item.lease_expires_at is None else 1) for item in items)


def unfinished(model: type[WorkItem]) -> tuple[int, float]:
    """How many rows are not finished, and for how many seconds the oldest that nobody works on has been due."""
    rows = model._default_manager.filter(Q(status__in=model.unfinished))
    oldest = work.free(model).aggregate(waits=Now() - Min("available_at"))["waits"]
    return rows.count(), oldest.total_seconds() if oldest else 0.0


def _room(model: type[WorkItem], tenant_id: UUID, share: int) -> int:
    """How many more of the tenant's rows may have a message."""
    own = Q(tenant_id=tenant_id, status__in=model.unfinished)
    return share - model._default_manager.filter(own, publications__gt=0).count()


def _publish(item: WorkItem, publications: object) -> bool:
    """Give the row a message. One that cannot be read (damaged, or its key thrown away) keeps no others waiting."""
    row = type(item)._default_manager.filter(pk=item.pk)
    try:
        item.publish()
    except ContextRefusedError:
        logger.exception("work cannot be published", extra={"model": item._meta.label, "row": str(item.pk)})
        row.update(publications=0, lease_expires_at=None, available_at=Now() + UNREADABLE_FOR)
        return False
    row.update(publications=publications, lease_expires_at=None, published_at=Now())
    return True


def _share(ctx: ExecutionContext) -> int:
    return ctx.processing_config.concurrency if ctx.processing_config else SHARE


def _share_of(item: WorkItem) -> int:
    try:
        return _share(item.context)
    except ContextRefusedError:
        return SHARE


def _waiting(model: type[Item]) -> models.QuerySet[Item]:
    return work.free(model).filter(publications=0)


def _worker_died() -> Q:
    return Q(lease_expires_at__lt=Now())


def _message_late() -> Q:
    late = Q(pk__in=[])
    for doublings in range(MAX_REPUBLISH_DOUBLINGS + 1):
        published = Q(publications=doublings + 1)
        if doublings == MAX_REPUBLISH_DOUBLINGS:
            published = Q(publications__gt=doublings)
        late |= published & Q(published_at__lt=Now() - REPUBLISH_AFTER * 2**doublings)
    return Q(lease_expires_at__isnull=True) & late
