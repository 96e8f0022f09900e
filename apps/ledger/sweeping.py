"""What the sweeper does in the ledger: close what no living worker will. It releases no hold: that takes proof."""

import logging
from datetime import timedelta

from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from apps.core.db import operator_scope
from apps.ledger.models import Attempt, Operation
from apps.ledger.types import AttemptState, OperationState

#: An operation that nobody has driven for this long ends; the work list would have driven it again long before.
ABANDONED_AFTER = timedelta(hours=1)


def close_abandoned() -> int:
    """Mark the open attempts of dead workers unknown and end operations that nobody drives; returns how many changed.

    Locks operation before attempt, as the till does; a live worker's lease keeps its operation out.
    """
    with operator_scope("sweeper", level=logging.DEBUG):
        expired = Operation.objects.filter(state=OperationState.PENDING, lease_expires_at__lt=Now())
        operations = list(
            expired.filter(_unclosed())
            .select_for_update(skip_locked=True, no_key=True)
            .values_list("pk", flat=True)[:500]
        )
        unknown = Attempt.objects.filter(operation__in=operations, state=AttemptState.OPEN).update(
            state=AttemptState.UNKNOWN, error_code="worker_lost"
        )
        ended = expired.filter(lease_expires_at__lt=Now() - ABANDONED_AFTER).update(
            state=OperationState.FAILED,
            error_code="abandoned",
            error_detail="No worker finished it.",
            finished_at=Now(),
        )
    return unknown + ended


def _unclosed() -> Exists:
    return Exists(Attempt.objects.filter(operation=OuterRef("pk"), state=AttemptState.OPEN))
