"""Hold → call → settle: how one operation is bought, whatever fails on the way.

The order is the promise. What a call can cost is set aside and committed before it is made; the call is made outside
any transaction; what it did cost is written afterwards, and a hold is released on proof only. A process that dies at
any instant leaves rows from which the next one goes on.
"""

import functools
import logging
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, Literal, Never
from uuid import UUID

import stamina
from django.db import transaction

from apps.core import clock, leases
from apps.core.context import ExecutionContext
from apps.core.db import outside_transactions, unit_of_work
from apps.core.errors import NoobleError
from apps.gateway.errors import CallCancelledError, CallInTransactionError, ProviderStillRunningError
from apps.gateway.offers import Bought, E, Offer, R, Received
from apps.gateway.policy import backoff, written
from apps.gateway.resolution import counts_of
from apps.ledger import till
from apps.ledger.errors import OperationEndedError, OperationInProgressError
from apps.ledger.models import Operation
from apps.ledger.types import (
    Admitted,
    Call,
    Charge,
    Held,
    OperationState,
    Replay,
    Settlement,
    TokenCounts,
    Unresolved,
)
from apps.providers import catalog
from apps.providers.base import Fate
from apps.providers.errors import ProviderBadResponseError, ProviderError

logger = logging.getLogger(__name__)

#: Seconds an attempt's deadline lies behind its call's time-out.
DEADLINE_SLACK = 5.0
DEFAULT_ATTEMPTS = 4


def buy(ctx: ExecutionContext, charge: Charge, make: Callable[[], Offer[Never, R]]) -> Bought:
    """Buy the operation that ``charge`` describes as ``make`` offers it, or return what was bought before.

    Raises the ledger's refusals (budget, conflict, in progress, ended) and, when the last attempt failed,
    its ProviderError. The operation has then ended as failed, or stays pending when a later call can succeed.
    """
    try:
        next(purchase(ctx, charge, make))
    except StopIteration as end:
        bought: Bought = end.value
        return bought
    raise AssertionError("a call at once passes nothing on")


def purchase(ctx: ExecutionContext, charge: Charge, make: Callable[[], Offer[E, R]]) -> Generator[E, None, Bought]:
    """Buy as :func:`buy` does, and pass on what comes on the way.

    ``make`` makes the offer. Where it raises, as there is no key for the provider any more, what was bought before is
    given all the same. When ``offer.cancelled`` says so, the operation is ended and CallCancelledError raised, with
    what was booked for it. Closing the generator early does the same. It runs in one thread, whose database connection
    it uses; no transaction is open while its caller has the word, and the operation's lease is kept until it is run to
    its end or closed.
    """
    if not outside_transactions():
        raise CallInTransactionError(f"{charge.operation} was called inside a transaction")
    try:
        offer = make()
    except NoobleError:
        if before := till.replay(ctx, charge):
            return _replayed(before)
        raise
    held = _hold(ctx, charge, offer)
    if isinstance(held, Replay):
        return _replayed(held)
    assert isinstance(held, Admitted | Unresolved)
    with leases.kept(ctx, Operation, held.operation_id, held.epoch) as lease:
        return (yield from _drive(ctx, charge, offer, held, lease))


def _drive(
    ctx: ExecutionContext, charge: Charge, offer: Offer[E, R], held: Admitted | Unresolved, lease: leases.Lease
) -> Generator[E, None, Bought]:
    """Bring the operation to its end under our lease, or let it go for the next driver."""
    try:
        return (yield from _attempts(ctx, charge, offer, held, lease))
    except CallCancelledError as cancelled:
        cancelled.booked = _cancel(ctx, offer, held.operation_id)
        raise
    except GeneratorExit:
        _cancel(ctx, offer, held.operation_id)
        raise
    except NoobleError as error:
        if error.retryable:
            # Whoever drives the work again goes on where this ended; if nobody does, the sweeper ends it.
            till.release(ctx, held.operation_id, epoch=lease.epoch)
        else:
            till.fail(ctx, held.operation_id, epoch=lease.epoch, code=error.code, detail=error.detail)
        raise


def _attempts(
    ctx: ExecutionContext, charge: Charge, offer: Offer[E, R], first: Admitted | Unresolved, lease: leases.Lease
) -> Generator[E, None, Bought]:
    """Attempt after attempt, until one settles or no other may follow."""
    held: Held | None = first
    retries = ctx.llm_config.retry_attempts if ctx.llm_config else DEFAULT_ATTEMPTS - 1
    for attempt in stamina.retry_context(on=backoff, attempts=retries + 1, timeout=_seconds_left(ctx)):
        with attempt:
            held = held or _hold_again(ctx, charge, offer, lease)
            while isinstance(held, Unresolved):
                # It stays unresolved when asking fails, so that nothing is called before the provider was asked.
                if settled := _ask_about(ctx, held, offer):
                    return _bought(settled)
                held = _hold_again(ctx, charge, offer, lease)
            if isinstance(held, Replay):
                # A worker that had been taken for dead has settled meanwhile.
                return _replayed(held)
            assert isinstance(held, Admitted)
            admitted, held = held, None
            return (yield from _attempt(ctx, offer, admitted))
    raise AssertionError("stamina lets the last error through")


def _attempt(ctx: ExecutionContext, offer: Offer[E, R], held: Admitted) -> Generator[E, None, Bought]:
    """One call and the record of it."""
    started = time.monotonic()
    try:
        result = yield from offer.send(held.attempt_id, _timeout(ctx, offer))
    except ProviderError as error:
        if bought := _after_failure(ctx, offer, held, error):
            return bought
        raise
    _check(ctx, offer, held.attempt_id, result)
    duration_ms = round((time.monotonic() - started) * 1000)
    return _bought(_settle(ctx, offer, held.attempt_id, result, execution_time_ms=duration_ms))


def _hold(ctx: ExecutionContext, charge: Charge, offer: Offer[E, R], *, epoch: int = 0) -> Held:
    if offer.cancelled():
        raise CallCancelledError
    return till.hold(ctx, charge, _call(ctx, offer), epoch=epoch, can_ask=offer.lookup is not None)


def _hold_again(ctx: ExecutionContext, charge: Charge, offer: Offer[E, R], lease: leases.Lease) -> Held:
    """Hold for the next call; if our lease was lost while we slept, as any other driver would.

    Whoever took the operation over wins while its lease lives: we are refused (OperationInProgressError), and what we
    then release or fail under our old epoch is nothing. If it has settled, we get its result. If it died or let go, we
    win the operation back under a new epoch, which is the one that the heartbeat renews and we release or fail from
    now on; what it had called is asked about first, where the provider can be asked.
    """
    held = _hold(ctx, charge, offer, epoch=lease.epoch)
    if isinstance(held, Admitted | Unresolved):
        lease.epoch = held.epoch
    return held


def _check(ctx: ExecutionContext, offer: Offer[E, R], attempt_id: UUID, result: R) -> None:
    """Raise for an answer that cannot be used; what the provider counted for it is on its attempt then.

    It is leakage: the hold is released, nobody is billed, another call may be made. When the provider did not say what
    it counted, the attempt is unknown and keeps its hold.
    """
    try:
        offer.check(result)
    except ProviderBadResponseError as error:
        logger.warning("an answer cannot be used", extra={"attempt": str(attempt_id), "code": error.code})
        counts, request_id = offer.counts(result), result.provider_request_id
        if result.usage:
            _report(ctx, attempt_id, counts, request_id, result.raw_usage)
        else:
            note = {"code": error.code, "detail": error.detail, "request_id": request_id}
            written(till.mark_unknown)(ctx, attempt_id, **note, seen=counts, raw_usage=result.raw_usage)
        raise


@written
def _settle(ctx: ExecutionContext, offer: Offer[E, R], attempt_id: UUID, result: R, **facts: Any) -> Settlement:
    """Record what the call cost, and with it what the caller keeps. Keyed by the attempt, so it may be repeated."""
    settle = functools.partial(
        till.settle,
        ctx,
        attempt_id,
        offer.counts(result),
        provider_request_id=result.provider_request_id,
        raw_usage=result.raw_usage,
        metadata={**offer.facts, **facts},
    )
    if not offer.keep_writes:
        return settle(result=offer.keep(result))
    with unit_of_work(ctx):
        before = transaction.savepoint()
        settlement = settle(result=offer.keep(result))
        if settlement.late:
            # The operation has another result, or none as yet: what was kept of this one goes, what it cost stays.
            transaction.savepoint_rollback(before)
            settlement = settle(result={})
        return settlement


def _report(
    ctx: ExecutionContext, attempt_id: UUID, counts: TokenCounts, request_id: str, raw_usage: Mapping[str, Any]
) -> None:
    written(till.report)(ctx, attempt_id, counts, provider_request_id=request_id, raw_usage=raw_usage)


def _after_failure(ctx: ExecutionContext, offer: Offer[E, R], held: Admitted, error: ProviderError) -> Bought | None:
    """Release the hold if it is proven that the provider did not count the call; otherwise keep it, and ask.

    Returns what the provider still has, or what was received if that is to be enough. None: neither.
    """
    logger.warning("provider call failed", extra={"attempt": str(held.attempt_id), "code": error.code})
    received = offer.received()
    request_id = error.provider_request_id or (received.provider_request_id if received else "")
    note: dict[str, Any] = {"code": error.code, "detail": error.detail, "request_id": request_id}
    if error.uncounted:
        written(till.void)(ctx, held.attempt_id, **note)
        return None
    if error.usage:
        _report(ctx, held.attempt_id, counts_of(error.usage), request_id, error.usage.raw)
        return None
    written(till.mark_unknown)(ctx, held.attempt_id, **note, seen=received.counts if received else None)
    try:
        settled = ask(ctx, offer, held.attempt_id)
    except ProviderError:
        logger.warning("provider could not be asked", extra={"attempt": str(held.attempt_id)}, exc_info=True)
        settled = None
    if settled:
        return _bought(settled)
    # If the operation has ended meanwhile, the next hold tells how.
    if received and offer.keep_received and _settle_partly(ctx, offer, received, OperationState.DONE):
        return Bought(operation_id=held.operation_id, result=received.result, counts=received.counts)
    return None


def _cancel(ctx: ExecutionContext, offer: Offer[E, R], operation_id: UUID) -> TokenCounts | None:
    """End the operation; book what its latest call consumed, as far as was seen. None: nothing was booked."""
    received = offer.received()
    if received and _settle_partly(ctx, offer, received, OperationState.CANCELLED):
        return received.counts
    # Nothing was seen, or the provider never saw the call. If the operation has ended, this changes nothing.
    written(till.cancel)(ctx, operation_id, detail="It was cancelled. Ask again with a new request.")
    return None


def _settle_partly(
    ctx: ExecutionContext,
    offer: Offer[E, R],
    received: Received,
    state: Literal[OperationState.DONE, OperationState.CANCELLED],
) -> bool:
    return written(till.settle_partly)(
        ctx,
        received.attempt_id,
        received.counts,
        state=state,
        result=received.result,
        provider_request_id=received.provider_request_id,
        metadata=offer.facts,
    )


def _ask_about(ctx: ExecutionContext, unresolved: Unresolved, offer: Offer[E, R]) -> Settlement | None:
    """Resolve what a dead worker left; the first attempt that the provider has a result of settles the operation."""
    for attempt_id in unresolved.attempt_ids:
        settled = ask(ctx, offer, attempt_id)
        if settled and not settled.late:
            return settled
    return None


def ask(ctx: ExecutionContext, offer: Offer[E, R], attempt_id: UUID) -> Settlement | None:
    """Settle or void an attempt by the provider's word. None: there is no answer that can be used, or no asking."""
    if offer.lookup is None:
        return None
    try:
        fate: Any = offer.lookup(str(attempt_id))
    except ProviderBadResponseError as error:
        if error.usage is None:
            raise
        _report(ctx, attempt_id, counts_of(error.usage), error.provider_request_id, error.usage.raw)
        return None
    if fate is Fate.RUNNING:
        raise ProviderStillRunningError("It is asked again when the work is driven again.")
    if fate is Fate.NOT_SEEN:
        written(till.void)(ctx, attempt_id, code="not_seen", detail="The provider never saw the request.")
        return None
    try:
        _check(ctx, offer, attempt_id, fate)
    except ProviderBadResponseError:
        # It would be no other if it were asked for again: what is left is another call.
        return None
    return _settle(ctx, offer, attempt_id, fate, resolved_by="lookup")


def _bought(settlement: Settlement) -> Bought:
    if settlement.state is OperationState.PENDING:
        # Whoever closed our attempt meanwhile took its call for lost, or for one that was never made.
        raise OperationInProgressError("Its attempt was closed before its answer came; the work is driven again.")
    if settlement.state is not OperationState.DONE:
        # Late, after an operation that failed or was cancelled meanwhile: there is nothing to answer with.
        raise OperationEndedError("It ended before its answer came. Send it again as a new request.")
    return Bought(operation_id=settlement.operation_id, result=settlement.result, counts=settlement.counts)


def _replayed(held: Replay) -> Bought:
    return Bought(operation_id=held.operation_id, result=held.result, counts=held.counts, replayed=True)


def _call(ctx: ExecutionContext, offer: Offer[E, R]) -> Call:
    return Call(
        provider=offer.provider,
        model=offer.model,
        model_family=catalog.model(offer.provider, offer.model).family or "",
        hold_tokens=offer.hold_tokens,
        deadline_seconds=_timeout(ctx, offer) + DEADLINE_SLACK,
    )


def _timeout(ctx: ExecutionContext, offer: Offer[E, R]) -> float:
    return max(1.0, min(offer.timeout, _seconds_left(ctx)))


def _seconds_left(ctx: ExecutionContext) -> float:
    return max(1.0, (ctx.deadline - clock.now()).total_seconds())
