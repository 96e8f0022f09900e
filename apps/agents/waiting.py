"""Waiting for a run in the request that asked for it (``Prefer: wait=N``, RFC 7240)."""

import re
import time
from uuid import UUID

from django.db import connection

from apps.agents.models import Run
from apps.agents.runs import get_run
from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work

MAX_WAIT_SECONDS = 60
_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,4})(?:$|[,;\s])")
#: The first look comes soon, since a local answer takes milliseconds; later ones cost less than they delay.
_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.02, 0.25, 1.3


def wanted_seconds(prefer: str | None) -> int:
    """The seconds a ``Prefer`` header asks to wait, at most 60; 0 when it does not."""
    match = _WAIT.search(prefer or "")
    return min(int(match[1]), MAX_WAIT_SECONDS) if match else 0


def wait_for(ctx: ExecutionContext, run_id: UUID, *, seconds: float) -> Run:
    """The run once it has finished, or as it is when the time is up."""
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE
    while True:
        with unit_of_work(ctx):
            run = get_run(ctx, run_id)
        left = deadline - time.monotonic()
        if run.status not in Run.unfinished or left <= 0:
            return run
        # Somebody else can use the connection meanwhile: with a pool this gives it back.
        connection.close()
        time.sleep(min(pause, left))
        pause = min(pause * _GROWTH, _LONGEST_PAUSE)
