"""The workers' application: nooble's own, in which questions that say so are answered piece by piece.

Nothing in the product passes the pieces of an answer on yet; the gateway can. So a run whose question's marker says so
buys its answer as a client would that reads along, or that reads no further, and everything around it, from the work
list to the settled run, is as it is.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import django

from nooble.celery import app

django.setup()

from apps.core.context import ExecutionContext  # noqa: E402 - models need the settings
from apps.core.errors import NoobleError  # noqa: E402
from apps.gateway import services, streaming  # noqa: E402
from apps.gateway.services import Completion  # noqa: E402
from apps.gateway.streaming import Cancelled, Delta, Done, Reset  # noqa: E402
from apps.ledger.types import Charge  # noqa: E402
from apps.providers.base import ChatRequest  # noqa: E402

__all__ = ["app"]

_WAY = re.compile(r"-(stream|cancel)-\d")
_PIECES_BEFORE_CANCELLING = 3
_at_once = services.complete


class StoppedError(NoobleError):
    """Whoever asked wanted the answer no more."""

    code = "stopped"


def complete(
    ctx: ExecutionContext,
    charge: Charge,
    request: ChatRequest,
    *,
    provider: str,
    cancelled: Callable[[], bool] = lambda: False,
) -> Completion:
    """Stands in for ``services.complete``."""
    way = _WAY.search(str(charge.payload["question"]))
    if way is None:
        return _at_once(ctx, charge, request, provider=provider, cancelled=cancelled)
    shown: list[str] = []
    events = streaming.stream(
        ctx,
        charge,
        request,
        provider=provider,
        cancelled=lambda: way[1] == "cancel" and len(shown) >= _PIECES_BEFORE_CANCELLING,
    )
    with closing(events):
        return _read(events, shown)


def _read(events: Iterator[Any], shown: list[str]) -> Completion:
    """What a client does: show deltas, forget them at a reset, end with the last event."""
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
                return event.completion
    raise AssertionError("a stream ended without a last event")


services.complete = complete
