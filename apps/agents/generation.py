"""Buying an answer, so that it can be left on its way, and is taken as its agent wants when it breaks off."""

import functools
import logging
from collections import deque
from collections.abc import Callable

from django.db import Error

from apps.core.context import ExecutionContext, LLMConfig
from apps.gateway import streaming
from apps.gateway.errors import CallCancelledError
from apps.gateway.services import Completion
from apps.gateway.streaming import Cancelled, Choice, Done
from apps.gateway.types import Charge
from apps.providers import choices
from apps.providers.base import ChatRequest

logger = logging.getLogger(__name__)

#: How late, at most, it is seen that an answer on its way is wanted no more: a look is a transaction.
LOOK_SECONDS = 1.0


def models(ctx: ExecutionContext) -> list[LLMConfig]:
    """The configurations that may answer: the one that was chosen, then those of its fallback models."""
    assert ctx.llm_config is not None
    named = (choices.named(each) for each in ctx.fallback_models)
    others = [ctx.llm_config.model_copy(update={"provider": name, "model": model}) for name, model in named]
    return [ctx.llm_config, *others]


def buy(
    ctx: ExecutionContext,
    charge: Charge,
    request: Callable[[LLMConfig], ChatRequest],
    *,
    cancelled: Callable[[], bool],
) -> Completion:
    """The answer to ``request``, bought once. What is not whole has the finish reason ``interrupted``.

    ``request`` makes what a model is sent, when it is its turn. Raises what ``gateway.stream`` raises;
    CallCancelledError when ``cancelled`` says that nobody wants it any more. It is asked before every call and while
    one is on its way, which is then ended and charged at an estimate.

    Nobody reads the pieces yet. But only a stream can be left when it is wanted no more, and breaks off with something.
    """
    assert ctx.llm_config is not None
    events = streaming.stream(
        ctx,
        charge,
        *(
            Choice(provider=each.provider, model=each.model, request=functools.partial(request, each))
            for each in models(ctx)
        ),
        partial="keep" if ctx.llm_config.on_interrupted_stream == "partial" else "retry",
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
