"""Buying an answer, as its agent wants one to be taken that breaks off: asked for again, or kept as far as it came."""

import logging
from collections import deque
from collections.abc import Callable

from django.db import Error

from apps.core.context import ExecutionContext
from apps.gateway import services as gateway
from apps.gateway import streaming
from apps.gateway.errors import CallCancelledError
from apps.gateway.services import Completion
from apps.gateway.streaming import Cancelled, Done
from apps.gateway.types import Charge
from apps.providers.base import ChatRequest

logger = logging.getLogger(__name__)

#: How late, at most, it is seen that an answer on its way is wanted no more: a look is a transaction.
LOOK_SECONDS = 1.0


def buy(ctx: ExecutionContext, charge: Charge, request: ChatRequest, *, cancelled: Callable[[], bool]) -> Completion:
    """The answer to ``request``, bought once. What is not whole has the finish reason ``interrupted``.

    Raises what ``gateway.complete`` raises; CallCancelledError when ``cancelled`` says that nobody wants it any more.
    It is asked before every call. A call for an answer that would be kept in part is also ended on its way, and charged
    at an estimate; any other is charged as the provider counts it.
    """
    assert ctx.llm_config is not None
    if ctx.llm_config.on_interrupted_stream == "partial":
        return _streamed(ctx, charge, request, provider=ctx.llm_config.provider, cancelled=cancelled)
    # Nobody reads the pieces yet, and what an answer in one piece cost is told more reliably.
    return gateway.complete(ctx, charge, request, provider=ctx.llm_config.provider, cancelled=cancelled)


def _streamed(
    ctx: ExecutionContext, charge: Charge, request: ChatRequest, *, provider: str, cancelled: Callable[[], bool]
) -> Completion:
    events = streaming.stream(
        ctx,
        charge,
        request,
        provider=provider,
        partial="keep",
        cancelled=lambda: _known_to_be(cancelled),
        look_seconds=LOOK_SECONDS,
    )
    [last] = deque(events, maxlen=1)
    if isinstance(last, Cancelled):
        error = CallCancelledError()
        error.booked = last.counts
        raise error
    assert isinstance(last, Done)
    return last.completion


def _known_to_be(cancelled: Callable[[], bool]) -> bool:
    """A database that is away does not say so, and must not break off an answer that is being paid for."""
    try:
        return cancelled()
    except Error:
        logger.warning("could not look whether an answer is still wanted", exc_info=True)
        return False
