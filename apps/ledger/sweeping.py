"""What the sweeper does in the ledger: close what no living worker will, and give up what nobody will ever know."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import Now

from apps.core.db import operator_scope
from apps.ledger import functions, till
from apps.ledger.models import Attempt, Operation
from apps.ledger.types import AttemptState, OperationState, TokenCounts

logger = logging.getLogger(__name__)

#: An operation that nobody has driven for this long ends; the work list would have driven it again long before.
ABANDONED_AFTER = timedelta(hours=1)
#: How long a provider is left in peace before it is asked about the same attempt again.
ASK_AGAIN_AFTER = timedelta(minutes=1)
#: At most so many rows in one round; the next comes in seconds.
ROUND = 200


@dataclass(frozen=True, kw_only=True)
class UnknownAttempt:
    """An attempt to ask its provider about, with the scope it is closed in."""

    id: UUID
    provider: str
    tenant_id: UUID
    owner_tenant_id: UUID
    payer_tenant_id: UUID


def close_abandoned() -> int:
    """Mark the open attempts of dead workers unknown and end operations that nobody drives; returns how many changed.

    Locks operation before attempt, as the till does; a live worker's lease keeps its operation out. Releases no hold.
    """
    with operator_scope("sweeper", level=logging.DEBUG):
        expired = Operation.objects.filter(state=OperationState.PENDING, lease_expires_at__lt=Now())
        operations = list(
            expired.filter(_unclosed())
            .select_for_update(skip_locked=True, no_key=True)
            .values_list("pk", flat=True)[:ROUND]
        )
        unknown = Attempt.objects.filter(operation__in=operations, state=AttemptState.OPEN).update(
            state=AttemptState.UNKNOWN, error_code="worker_lost"
        )
        # Not one that was locked just now, and so passed by: its attempt would stay open behind an ended operation.
        ended = expired.filter(~_unclosed(), lease_expires_at__lt=Now() - ABANDONED_AFTER).update(
            state=OperationState.FAILED,
            error_code="abandoned",
            error_detail="No worker finished it.",
            finished_at=Now(),
        )
    return unknown + ended


def unknown_providers() -> list[str]:
    """The providers of attempts that are unknown and that no driver will ask about any more."""
    with operator_scope("sweeper", level=logging.DEBUG):
        return list(_unknown().order_by("provider").values_list("provider", flat=True).distinct())


def take_unknown(providers: Sequence[str]) -> Iterator[UnknownAttempt]:
    """Unknown attempts of these providers that nobody else asks about now: each is handed out once a minute."""
    columns = ("id", "provider", "tenant_id", "owner_tenant_id", "payer_tenant_id")
    due = Q(asked_at__isnull=True) | Q(asked_at__lt=Now() - ASK_AGAIN_AFTER)
    with operator_scope("sweeper", level=logging.DEBUG):
        rows = list(
            _unknown()
            .filter(due, provider__in=providers)
            .order_by(F("asked_at").asc(nulls_first=True))
            .select_for_update(skip_locked=True, no_key=True, of=("self",))
            .values(*columns)[:ROUND]
        )
        Attempt.objects.filter(pk__in=[row["id"] for row in rows]).update(asked_at=Now())
    return (UnknownAttempt(**row) for row in rows)


def unresolved() -> dict[str, tuple[int, int]]:
    """How many attempts are open and unknown, and how many tokens their holds keep, by state."""
    states = (AttemptState.OPEN, AttemptState.UNKNOWN)
    with operator_scope("metrics", level=logging.DEBUG):
        rows = Attempt.objects.filter(state__in=states).order_by().values("state")
        found = {
            row["state"]: (row["count"], row["held"])
            for row in rows.annotate(count=Count("pk"), held=Sum("held_tokens"))
        }
    return {state.value: found.get(state.value, (0, 0)) for state in states}


def resolve(attempt: Attempt, told: TokenCounts | None) -> str:
    """End the doubt about an attempt by what an operator learned: it cost so much, or (None) it was never counted.

    Returns the attempt's state after it; what became known meanwhile stands.
    """
    if told is None:
        till.void(attempt, attempt.pk, code="not_counted", detail="An operator learned that it was not counted.")
    else:
        till.report(attempt, attempt.pk, told)
    return str(Attempt.objects.values_list("state", flat=True).get(pk=attempt.pk))


def give_up() -> int:
    """Release the holds of attempts that stayed unknown past their grace period; returns how many were lost."""
    grace = timedelta(seconds=settings.UNKNOWN_GRACE_SECONDS)
    with operator_scope("sweeper", level=logging.DEBUG):
        lost = functions.rows("ledger_give_up", grace, ROUND)
    for row in lost:
        logger.error(
            "attempt given up as lost",
            extra={"attempt": str(row["attempt_id"]), "payer": str(row["payer_tenant_id"]), "held": row["held_tokens"]},
        )
    return len(lost)


def _unclosed() -> Exists:
    return Exists(Attempt.objects.filter(operation=OuterRef("pk"), state=AttemptState.OPEN))


def _unknown() -> QuerySet[Attempt]:
    return Attempt.objects.filter(state=AttemptState.UNKNOWN).exclude(operation__state=OperationState.PENDING)
