"""Hold → call → settle: how one operation is bought, whatever fails on the way.

The order is the promise. What a call can cost is set aside and committed before it is made; the call is made outside
any transaction; what it did cost is written afterwards, and a hold is released on proof only. A process that dies at
any instant leaves rows from which the next one goes on.
"""

import functools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

import stamina

from apps.core import clock, leases
from apps.core.context import ExecutionContext
from apps.core.db import outside_transactions, unit_of_work
from apps.core.errors import NoobleError
from apps.gateway.errors import CallInTransactionError, ProviderStillRunningError
from apps.gateway.policy import backoff, written
from apps.ledger import till
from apps.ledger.models import Operation
from apps.ledger.types import Admitted, Call, Charge, Held, Replay, Settlement, TokenCounts, Unresolved
from apps.providers import catalog
from apps.providers.base import ChatResult, EmbeddingResult, Fate
from apps.providers.errors import ProviderError

logger = logging.getLogger(__name__)

R = TypeVar("R", ChatResult, EmbeddingResult)

#: Seconds an attempt's deadline lies behind its call's time-out.
DEADLINE_SLACK = 5.0
DEFAULT_ATTEMPTS = 4


@dataclass(frozen=True, kw_only=True)
class Offer(Generic[R]):
    """One call that can be bought: what it costs at most, how it is made, and what is kept of its result."""

    provider: str
    model: str
    hold_tokens: int
    timeout: float
    #: Makes the call; is given our request id and the seconds it may take.
    send: Callable[[str, float], R]
    #: Raises ProviderBadResponseError for an answer that cannot be used, whether it was sent or looked up.
    check: Callable[[R], None] = lambda _: None
    counts: Callable[[R], TokenCounts]
    #: What the operation keeps, so that a repeated delivery needs no call. Runs in settle's transaction and may write.
    keep: Callable[[R], Mapping[str, Any]]
    keep_writes: bool = False
    #: Asks the provider what became of a request; None when it cannot be asked.
    lookup: Callable[[str], ChatResult | EmbeddingResult | Fate] | None = None


@dataclass(frozen=True, kw_only=True)
class Bought:
    """The operation's result. ``replayed``: it was there already, nothing was called."""

    operation_id: UUID
    result: Mapping[str, Any]
    counts: TokenCounts
    replayed: bool = False


def buy(ctx: ExecutionContext, charge: Charge, offer: Offer[R]) -> Bought:
    """Buy the operation that ``charge`` describes, or return what was bought before.

    Raises the ledger's refusals (budget, conflict, in progress, ended) and, when the last attempt failed,
    its ProviderError. The operation has then ended as failed, or stays pending when a later call can succeed.
    """
    if not outside_transactions():
        raise CallInTransactionError(f"{charge.operation} was called inside a transaction")
    held = till.hold(ctx, charge, _call(ctx, offer), can_ask=offer.lookup is not None)
    if isinstance(held, Unresolved):
        with leases.kept(ctx, Operation, held.operation_id, held.epoch):
            settled = _ask_about(ctx, held, offer)
        if settled:
            return _bought(settled)
        held = till.hold(ctx, charge, _call(ctx, offer), epoch=held.epoch)
    if isinstance(held, Replay):
        return _replayed(held)
    assert isinstance(held, Admitted)
    with leases.kept(ctx, Operation, held.operation_id, held.epoch):
        return _attempts(ctx, charge, offer, held)


def _attempts(ctx: ExecutionContext, charge: Charge, offer: Offer[R], first: Admitted) -> Bought:
    """Attempt after attempt under one lease, until one settles or no other may follow."""
    held: Held | None = first
    retries = ctx.llm_config.retry_attempts if ctx.llm_config else DEFAULT_ATTEMPTS - 1
    try:
        for attempt in stamina.retry_context(on=backoff, attempts=retries + 1, timeout=_seconds_left(ctx)):
            with attempt:
                current = held or till.hold(ctx, charge, _call(ctx, offer), epoch=first.epoch)
                held = None
                if isinstance(current, Replay):
                    # A worker that had been taken for dead has settled meanwhile.
                    return _replayed(current)
                assert isinstance(current, Admitted)
                return _bought(_attempt(ctx, offer, current))
    except NoobleError as error:
        if error.retryable:
            # Whoever drives the work again goes on where this ended; if nobody does, the sweeper ends it.
            till.release(ctx, first.operation_id, epoch=first.epoch)
        else:
            till.fail(ctx, first.operation_id, epoch=first.epoch, code=error.code, detail=error.detail)
        raise
    raise AssertionError("stamina lets the last error through")


def _attempt(ctx: ExecutionContext, offer: Offer[R], held: Admitted) -> Settlement:
    """One call and the record of it."""
    started = time.monotonic()
    try:
        result = offer.send(str(held.attempt_id), _timeout(ctx, offer))
        offer.check(result)
    except ProviderError as error:
        settled = _after_failure(ctx, offer, held.attempt_id, error)
        if settled:
            return settled
        raise
    duration_ms = round((time.monotonic() - started) * 1000)
    return _settle(ctx, offer, held.attempt_id, result, {"execution_time_ms": duration_ms})


@written
def _settle(
    ctx: ExecutionContext, offer: Offer[R], attempt_id: UUID, result: R, metadata: Mapping[str, Any]
) -> Settlement:
    """Record what the call cost, and with it what the caller keeps. Keyed by the attempt, so it may be repeated."""
    settle = functools.partial(
        till.settle,
        ctx,
        attempt_id,
        offer.counts(result),
        provider_request_id=result.provider_request_id,
        raw_usage=result.raw_usage,
        metadata=metadata,
    )
    if not offer.keep_writes:
        return settle(result=offer.keep(result))
    with unit_of_work(ctx):
        return settle(result=offer.keep(result))


def _after_failure(ctx: ExecutionContext, offer: Offer[R], attempt_id: UUID, error: ProviderError) -> Settlement | None:
    """Release the hold if it is proven that the provider did not count the call; otherwise ask it, or keep the hold."""
    logger.warning("provider call failed", extra={"attempt": str(attempt_id), "code": error.code})
    note = {"code": error.code, "detail": error.detail, "request_id": error.provider_request_id}
    if error.uncounted:
        written(till.void)(ctx, attempt_id, **note)
        return None
    written(till.mark_unknown)(ctx, attempt_id, **note)
    try:
        return _ask(ctx, offer, attempt_id)
    except ProviderError:
        logger.warning("provider could not be asked", extra={"attempt": str(attempt_id)}, exc_info=True)
        return None


def _ask_about(ctx: ExecutionContext, unresolved: Unresolved, offer: Offer[R]) -> Settlement | None:
    """Resolve what a dead worker left; the first attempt that the provider has a result of settles the operation."""
    for attempt_id in unresolved.attempt_ids:
        settled = _ask(ctx, offer, attempt_id)
        if settled and not settled.late:
            return settled
    return None


def _ask(ctx: ExecutionContext, offer: Offer[R], attempt_id: UUID) -> Settlement | None:
    """Settle or void an attempt by the provider's word. None: it was never seen there, or cannot be asked about."""
    if offer.lookup is None:
        return None
    fate: Any = offer.lookup(str(attempt_id))
    if fate is Fate.RUNNING:
        raise ProviderStillRunningError("It is asked again when the work is driven again.")
    if fate is Fate.NOT_SEEN:
        written(till.void)(ctx, attempt_id, code="not_seen", detail="The provider never saw the request.")
        return None
    offer.check(fate)
    return _settle(ctx, offer, attempt_id, fate, {"resolved_by": "lookup"})


def _bought(settlement: Settlement) -> Bought:
    if not settlement.result:
        # Late, after an operation that ended without a result: there is nothing to answer with.
        raise ProviderStillRunningError("The operation ended before its answer came.")
    return Bought(operation_id=settlement.operation_id, result=settlement.result, counts=settlement.counts)


def _replayed(held: Replay) -> Bought:
    return Bought(operation_id=held.operation_id, result=held.result, counts=held.counts, replayed=True)


def _call(ctx: ExecutionContext, offer: Offer[R]) -> Call:
    return Call(
        provider=offer.provider,
        model=offer.model,
        model_family=catalog.model(offer.provider, offer.model).family or "",
        hold_tokens=offer.hold_tokens,
        deadline_seconds=_timeout(ctx, offer) + DEADLINE_SLACK,
    )


def _timeout(ctx: ExecutionContext, offer: Offer[R]) -> float:
    return max(1.0, min(offer.timeout, _seconds_left(ctx)))


def _seconds_left(ctx: ExecutionContext) -> float:
    return max(1.0, (ctx.deadline - clock.now()).total_seconds())
