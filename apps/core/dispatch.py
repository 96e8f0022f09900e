"""Waking up work: publish a task by name once the transaction that wrote its row has committed.

The row is the fact and the message only wakes somebody up, so a message may be lost (the sweeper publishes again) and
may arrive twice (the row's lease lets one in). A broker that is down therefore never fails a request.
"""

import logging
from typing import Any

from celery import current_app
from django.db import transaction

from apps.core import counters
from apps.core.errors import NoobleError

logger = logging.getLogger(__name__)

CONTEXT_HEADER = "nooble_context"
#: Seconds after which an undelivered message is worthless: the sweeper has published another by then.
EXPIRES_SECONDS = 3600
#: The sizes of contexts that are told apart, in bytes; 16 KiB is the most that travels.
CONTEXT_BYTES = (512, 1024, 2048, 4096, 8192, 16384)
#: The queue of what no tenant asked for.
MAINTENANCE = "maintenance"
#: Domains whose queues are not divided by tier.
UNTIERED_DOMAINS = frozenset({MAINTENANCE})


class PayloadRefusedError(NoobleError):
    """The task's message is not one that the task understands."""

    code = "payload_refused"


def queue(name: str, tier: str) -> str:
    """The queue of a task: ``query.answer`` of a ``free`` tenant waits in ``query.free``."""
    domain = name.partition(".")[0]
    return domain if domain in UNTIERED_DOMAINS else f"{domain}.{tier}"


def publish_on_commit(name: str, *, signed_context: str, tier: str, ids: dict[str, str]) -> None:
    """Publish the task ``name`` with ``ids`` when the open transaction commits; at once when there is none."""
    # Resolved by name through the registry, not by ``send_task``, which would ignore eager mode and misspellings.
    task = current_app.tasks[name]

    def publish() -> None:
        _publish(task, {CONTEXT_HEADER: signed_context}, queue(name, tier), ids)
        counters.observe("context_bytes", len(signed_context), buckets=CONTEXT_BYTES)

    # Robust: whatever the client of a broken broker raises, the row is committed and the other messages go out.
    transaction.on_commit(publish, robust=True)


def publish_maintenance_on_commit(name: str, *, ids: dict[str, str]) -> None:
    """Publish a task that no tenant asked for, and that so carries no context, when the open transaction commits."""
    task = current_app.tasks[name]
    transaction.on_commit(lambda: _publish(task, {}, MAINTENANCE, ids), robust=True)


def _publish(task: Any, headers: dict[str, str], queue_name: str, ids: dict[str, str]) -> None:
    try:
        task.apply_async(kwargs=ids, headers=headers, queue=queue_name, expires=EXPIRES_SECONDS)
    except task.OperationalError:
        logger.warning("broker unreachable: left to beat", extra={"task": task.name, "ids": ids})
