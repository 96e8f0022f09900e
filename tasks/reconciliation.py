"""The comparison of the books. No tenant asked for it, so it carries no context."""

from typing import Any
from uuid import UUID

from celery import shared_task

from apps.core import maintenance
from apps.ledger import reconciliation

HOUR = 3600


@shared_task(name="reconciliation.recent", ignore_result=True)
def recent() -> Any:
    """Compare this month's books, every hour, once however many beats there are; and what was asked for and lost."""
    if not maintenance.claim_slot("reconciliation.recent", seconds=HOUR):
        return {}
    for run in reconciliation.left_over():
        reconciliation.compare(run)
    return reconciliation.reconcile(started_by="beat", since=reconciliation.recent()).found


@shared_task(name="reconciliation.compare", ignore_result=True)
def compare(run_id: str) -> Any:
    """Compare what an operator asked for. Not twice: a finished run keeps what it found."""
    run = reconciliation.begun(UUID(run_id))
    return reconciliation.compare(run).found if run else {}


@shared_task(name="reconciliation.everything", ignore_result=True)
def everything() -> Any:
    """Compare all books from the first day on, once a day."""
    if not maintenance.claim_slot("reconciliation.everything", seconds=24 * HOUR):
        return {}
    return reconciliation.reconcile(started_by="beat").found
