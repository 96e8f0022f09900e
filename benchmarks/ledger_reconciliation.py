"""How long comparing the books takes, and which check it is that takes long."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from typing import Any

from benchmarks.windows import note


def comparisons() -> dict[str, Any]:
    """What beat has done every night and every hour; the second twice, since the first time may read from the disk."""
    from apps.ledger import reconciliation  # noqa: PLC0415 - settings first

    since = reconciliation.recent()
    return {"whole": _compared(None), "recent": [_compared(since), _compared(since)]}


def _compared(since: date | None) -> dict[str, Any]:
    """The seconds of one run, what it found, and the seconds of each check's statement, the longest first."""
    from apps.ledger import reconciliation  # noqa: PLC0415 - settings first

    with _statements_timed() as seconds:
        started = time.perf_counter()
        run = reconciliation.reconcile(started_by="benchmark", since=since)
        elapsed = time.perf_counter() - started
    longest_first = sorted(seconds, key=seconds.__getitem__, reverse=True)
    by_kind = {kind: round(seconds[kind], 2) for kind in longest_first}
    figures = {"seconds": round(elapsed, 2), "since": run.read["since"], "found": run.found, "by_kind": by_kind}
    note(f"reconciliation: {figures}")
    return figures


@contextmanager
def _statements_timed() -> Iterator[dict[str, float]]:
    """Seconds of this thread's statements by their ``kind``, which those of reconciliation have as a parameter."""
    from django.db import connection  # noqa: PLC0415 - settings first

    seconds: dict[str, float] = defaultdict(float)

    def timed(execute: Any, statement: Any, parameters: Any, many: Any, context: Any) -> Any:
        started = time.perf_counter()
        try:
            return execute(statement, parameters, many, context)
        finally:
            if isinstance(parameters, Mapping) and "kind" in parameters:
                seconds[parameters["kind"]] += time.perf_counter() - started

    with connection.execute_wrapper(timed):
        yield seconds
