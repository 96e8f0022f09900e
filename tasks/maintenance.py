"""Periodic work. No tenant asked for it, so it carries no context and opens the operator's scope itself."""

from celery import shared_task

from apps.agents.models import Run
from apps.collections.models import Document, EmbeddingBatch
from apps.core import leftovers, maintenance
from apps.gateway import resolution
from apps.ledger import spool, sweeping


@shared_task(name="maintenance.sweep", ignore_result=True)
def sweep() -> dict[str, int]:
    """Wake up work that nobody is doing, and close what no living worker will."""
    return {
        "republished": maintenance.republish([Run, EmbeddingBatch, Document]),
        "abandoned": sweeping.close_abandoned(),
        "lost": sweeping.give_up(),
        "replayed": spool.replay().booked,
    }


@shared_task(name="maintenance.resolve", ignore_result=True)
def resolve() -> dict[str, int]:
    """Ask providers what became of calls whose outcome nobody saw. Apart from the sweep: a provider may be slow."""
    return {"resolved": resolution.resolve_unknown()}


@shared_task(name="maintenance.purge", ignore_result=True)
def purge() -> dict[str, int]:
    """Delete what is kept for a time only, once an hour however many beats there are."""
    if not maintenance.claim_slot("purge", seconds=3600):
        return {"responses": 0, "keys": 0}
    return {"responses": maintenance.purge(), "keys": leftovers.sweep()}
