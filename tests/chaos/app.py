"""The workers' application: nooble's own, with somebody who reads along, and who calls some answers off.

Nothing in the product passes the pieces of an answer on yet. So what a client would see is checked here, and a question
whose marker says so is called off after some pieces; everything around it, from the work list to the settled run, is
as it is.
"""

from collections.abc import Generator
from contextlib import closing
from typing import Any

import django

from nooble.celery import app

django.setup()

from apps.core.context import ExecutionContext  # noqa: E402 - models need the settings
from apps.core.errors import NoobleError  # noqa: E402
from apps.gateway import streaming  # noqa: E402
from apps.gateway.streaming import Cancelled, Choice, Delta, Done, Event, Reset  # noqa: E402
from apps.ledger.types import Charge  # noqa: E402

__all__ = ["app"]

_PIECES_BEFORE_CANCELLING = 3
_bought = streaming.stream


class StoppedError(NoobleError):
    """Whoever asked wanted the answer no more."""

    code = "stopped"


def stream(ctx: ExecutionContext, charge: Charge, *choices: Choice, **options: Any) -> Generator[Event, None, None]:
    """Stands in for ``streaming.stream``: shows deltas, forgets them at a reset, ends with the last event."""
    shown: list[str] = []
    if "-cancel-" in str(charge.payload["question"]):
        options |= {"cancelled": lambda: len(shown) >= _PIECES_BEFORE_CANCELLING, "look_seconds": 0.0}
    with closing(_bought(ctx, charge, *choices, **options)) as events:
        for event in events:
            match event:
                case Delta():
                    shown.append(event.text)
                case Reset():
                    shown.clear()
                case Cancelled():
                    raise StoppedError
                case Done():
                    assert "".join(shown) == event.completion.text, "what was shown is not what was bought"
            yield event


streaming.stream = stream
