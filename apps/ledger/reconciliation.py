"""The night's question: do the books agree? What does not is written down, and repaired where that is safe.

Safe means that the truth is in the books already: entries say what statistics and budgets must be, a settled attempt
says what its missing entry must be, and a call whose worker is gone can be called unknown. An entry is never changed.
The sums are moved by the difference that was found, under a lock that lets one reconciliation repair at a time; because
it is a difference, what others settle meanwhile is not disturbed.
"""

import json
import logging
from collections import Counter
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Count
from django.db.models.functions import Now

from apps.core import clock, db
from apps.core.db import operator_scope
from apps.core.ids import NO_ID
from apps.ledger import functions, repairs
from apps.ledger.checks import CHECKS, Check
from apps.ledger.models import Discrepancy, ReconciliationRun
from apps.ledger.types import DiscrepancyKind, DiscrepancyState

logger = logging.getLogger(__name__)

#: What a run of every hour compares: the days in which anything usually moves.
RECENT_DAYS = 3
#: Before anything that is in the books.
BEGINNING = date(1970, 1, 1)
#: A run that takes longer is taken for lost.
GIVEN_TIME = timedelta(minutes=30)
#: So many differences of one kind are written down at once; the next run finds the rest.
MAX_DIFFERENCES = 1000
#: Two runs at once would both add the same difference. Any number that nobody else uses.
LOCK = 0x6E6F6F62


# What cannot be repaired stays where it is, and must not take the place of what is new.
_TO_BE_NOTED = """
    SELECT f.* FROM ({find}) f WHERE (%(repair)s AND NOT f.evidence @> '{{"attempt_id": null}}') OR NOT EXISTS (
        SELECT FROM ledger_discrepancy d
         WHERE d.tenant_id = f.tenant_id AND d.kind = %(kind)s AND d.subject = f.subject AND d.state <> 'repaired'
           AND d.amount_tokens = f.amount AND d.evidence = f.evidence)
"""
# What followed from another difference goes with it. Prices and task results come and go without anything having been
# put right.
_COME_AND_GO = {DiscrepancyKind.UNPRICED_MODEL, DiscrepancyKind.TASK_RESULT}
_GONE = """
    UPDATE ledger_discrepancy d
       SET state = 'repaired', resolved_at = clock_timestamp(), resolution = 'It is not there any more.'
     WHERE d.kind = %(kind)s AND d.state = 'open'
       AND NOT EXISTS (SELECT FROM ({find}) f WHERE f.tenant_id = d.tenant_id AND f.subject = d.subject)
"""


def recent() -> date:
    """The first day that an hourly run compares: the days before, in whole months so that months can be compared."""
    return (clock.now().date() - timedelta(days=RECENT_DAYS)).replace(day=1)


def begin(*, started_by: str, since: date | None = None) -> ReconciliationRun:
    """The row of a run that is about to compare the books from ``since`` on; None: from the beginning."""
    first = (since or BEGINNING).replace(day=1)
    with operator_scope("reconciliation"):
        return ReconciliationRun.objects.create(started_by=started_by, read={"since": first.isoformat()})


def begun(run_id: UUID) -> ReconciliationRun | None:
    """A run that has not finished."""
    with operator_scope("reconciliation"):
        return ReconciliationRun.objects.filter(pk=run_id, finished_at=None).first()


def left_over() -> list[ReconciliationRun]:
    """Runs that somebody asked for and that no worker has finished: their message was lost, or the worker died."""
    with operator_scope("reconciliation"):
        begun = ReconciliationRun.objects.filter(finished_at=None, started_at__lt=Now() - GIVEN_TIME)
        return list(begun.order_by("pk"))


def remaining(run: ReconciliationRun) -> set[str]:
    """The kinds of which a run has found something new that it could not repair."""
    with operator_scope("reconciliation"):
        found = Discrepancy.objects.filter(state=DiscrepancyState.OPEN, last_seen_at__gte=run.started_at)
        return set(found.filter(kind__in=run.found).values_list("kind", flat=True))


def reconcile(*, started_by: str, since: date | None = None, repair: bool = True) -> ReconciliationRun:
    """Begin a run and compare."""
    return compare(begin(started_by=started_by, since=since), repair=repair)


def compare(run: ReconciliationRun, *, repair: bool = True) -> ReconciliationRun:
    """Compare the books, write down and repair what does not agree.

    One transaction for each kind, so that nothing is locked for longer than it takes to look. The run that is returned
    says what was found and repaired; a failed one keeps what it had found and its error.
    """
    since = date.fromisoformat(run.read["since"])
    found: Counter[str] = Counter()
    repaired: Counter[str] = Counter()
    try:
        for check in CHECKS:
            for is_new, is_repaired in _compared(check, since, repair=repair):
                found[check.kind.value] += is_new
                repaired[check.kind.value] += is_repaired
    except Exception as error:
        _finish(run, found, repaired, error=type(error).__name__)
        raise
    _finish(run, found, repaired)
    return run


def outstanding() -> dict[str, int]:
    """How many differences are open, by kind."""
    with operator_scope("metrics", level=logging.DEBUG):
        rows = Discrepancy.objects.filter(state=DiscrepancyState.OPEN).order_by().values_list("kind")
        found = dict(rows.annotate(count=Count("pk")))
    return {kind.value: found.get(kind.value, 0) for kind in DiscrepancyKind}


def last_finished() -> dict[str, datetime | None]:
    """When a run last compared to its end: one of everything, and any."""
    with operator_scope("metrics", level=logging.DEBUG):
        done = ReconciliationRun.objects.filter(error="", finished_at__isnull=False).order_by("-pk")
        moments = done.values_list("finished_at", flat=True)
        whole = moments.filter(read__since=BEGINNING.isoformat())
        return {"everything": whole.first(), "any": moments.first()}


def resolve(discrepancy: Discrepancy, *, reason: str, actor: str) -> None:
    """Note that an operator has looked into a discrepancy; it comes back if what is found changes."""
    with operator_scope("discrepancy resolved"):
        Discrepancy.objects.filter(pk=discrepancy.pk, state=DiscrepancyState.OPEN).update(
            state=DiscrepancyState.RESOLVED, resolved_at=Now(), resolution=f"{actor}: {reason}"[:500]
        )


def _finish(run: ReconciliationRun, found: Counter[str], repaired: Counter[str], *, error: str = "") -> None:
    run.found = {kind: count for kind, count in found.items() if count}
    run.repaired = {kind: count for kind, count in repaired.items() if count}
    run.error = error
    with operator_scope("reconciliation"):
        run.read |= _sizes()
        ReconciliationRun.objects.filter(pk=run.pk).update(
            found=run.found, repaired=run.repaired, read=run.read, error=error, finished_at=Now()
        )
    if run.found.keys() - {DiscrepancyKind.UNPRICED_MODEL}:
        logger.error("the books differ", extra={"run": str(run.pk), "found": run.found, "repaired": run.repaired})


def _compared(check: Check, since: date, *, repair: bool) -> list[tuple[bool, bool]]:
    """Look, write down, repair; says of each difference whether it is new, and whether it was repaired."""
    parameters = {
        "repair": repair and check.kind in repairs.SAFE,
        "since": since,
        "grace": timedelta(seconds=settings.UNKNOWN_GRACE_SECONDS),
        "limit": MAX_DIFFERENCES,
        "nobody": NO_ID,
        "kind": check.kind.value,
    }
    find = _TO_BE_NOTED.format(find=check.find)
    with operator_scope("reconciliation"):
        db.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        differences = db.fetch_all(f"{find} LIMIT %(limit)s", parameters)
        noted = [_noted(check, difference, repair=repair) for difference in differences]
        if since == BEGINNING and check.kind not in _COME_AND_GO:
            _close_what_is_gone(check, parameters)
        return noted


def _close_what_is_gone(check: Check, parameters: Mapping[str, Any]) -> None:
    if Discrepancy.objects.filter(kind=check.kind, state=DiscrepancyState.OPEN).exists():
        db.execute(_GONE.format(find=check.find), parameters)


def _noted(check: Check, difference: Mapping[str, Any], *, repair: bool) -> tuple[bool, bool]:
    # Money among it: never a float.
    evidence = json.loads(difference["evidence"], parse_float=Decimal)
    noted = functions.call(
        "ledger_note",
        difference["tenant_id"],
        check.kind.value,
        difference["subject"],
        difference["amount"],
        difference["evidence"],
    )
    resolution = repairs.SAFE[check.kind](evidence) if repair and repairs.is_safe(check.kind, evidence) else ""
    if resolution:
        repairs.close(difference["tenant_id"], check.kind, difference["subject"], resolution)
    return bool(noted["ledger_note"]), bool(resolution)


def _sizes() -> dict[str, int]:
    """How many rows each table had, as the database's statistics know it: counting them would take longer than this."""
    tables = ("ledger_entry", "ledger_usagedaily", "ledger_usagemonthly", "ledger_budget", "ledger_attempt")
    rows = db.fetch_all(
        "SELECT relname, greatest(reltuples, 0)::bigint AS rows FROM pg_class WHERE relname = ANY(%s)", [list(tables)]
    )
    return {row["relname"]: row["rows"] for row in rows}
