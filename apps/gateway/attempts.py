"""One call and the record of it: what it cost, or that nobody knows, or the proof that it cost nothing."""

import functools
import logging
import time
from collections.abc import Generator, Mapping
from typing import Any, Literal
from uuid import UUID

from django.db import transaction

from apps.core import clock
from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work
from apps.core.persistence import written
from apps.gateway.errors import ProviderStillRunningError
from apps.gateway.offers import Bought, Buyer, E, Offer, R, Received
from apps.gateway.resolution import counts_of
from apps.ledger import till
from apps.ledger.errors import OperationEndedError, OperationInProgressError
from apps.ledger.types import Admitted, OperationState, Settlement, TokenCounts
from apps.providers.base import Fate
from apps.providers.errors import ProviderBadResponseError, ProviderError

logger = logging.getLogger(__name__)


def call(ctx: ExecutionContext, offer: Offer[E, R], buyer: Buyer, held: Admitted) -> Generator[E, None, Bought]:
    """Make the call that was admitted, and write down what became of it.

    Raises its ProviderError when it brought nothing; the hold is released then, or stays for as long as nobody knows.
    """
    started, seconds = time.monotonic(), timeout(ctx, offer)
    try:
        with offer.circuit.watching(silent=lambda: _received(buyer, held.attempt_id) is None):
            result = yield from offer.send(held.attempt_id, seconds)
    except ProviderError as error:
        if rest := _after_failure(ctx, offer, buyer, held, error):
            return rest
        raise
    _check(ctx, offer, held.attempt_id, result)
    duration_ms = round((time.monotonic() - started) * 1000)
    return bought(_settle(ctx, offer, held.attempt_id, result, execution_time_ms=duration_ms))


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


def cancel(ctx: ExecutionContext, buyer: Buyer, operation_id: UUID) -> TokenCounts | None:
    """End the operation; book what its latest call consumed, as far as was seen. None: nothing was booked."""
    received = buyer.received()
    if received and _settle_partly(ctx, received, OperationState.CANCELLED):
        return received.counts
    # Nothing was seen, or the provider never saw the call. If the operation has ended, this changes nothing.
    written(till.cancel)(ctx, operation_id, detail="It was cancelled. Ask again with a new request.")
    return None


def bought(settlement: Settlement) -> Bought:
    """What the operation that was settled brought, by our call or, where that came late, by another's before it.

    Raises OperationInProgressError or OperationEndedError.
    """
    if settlement.state is OperationState.PENDING:
        # Whoever closed our attempt meanwhile took its call for lost, or for one that was never made.
        raise OperationInProgressError("Its attempt was closed before its answer came; the work is driven again.")
    if settlement.state is not OperationState.DONE:
        # Late, after an operation that failed or was cancelled meanwhile: there is nothing to answer with.
        raise OperationEndedError("It ended before its answer came. Send it again as a new request.")
    return Bought(
        operation_id=settlement.operation_id,
        result=settlement.result,
        counts=settlement.counts,
        replayed=settlement.late,
    )


def timeout(ctx: ExecutionContext, offer: Offer[E, R]) -> float:
    """Seconds that a call may take that is made now."""
    return max(1.0, min(offer.timeout, seconds_left(ctx)))


def is_late(ctx: ExecutionContext) -> bool:
    """Whether the time for what is done in the context is over."""
    return seconds_left(ctx) <= 0


def seconds_left(ctx: ExecutionContext) -> float:
    """Seconds that are left for what is done in the context; negative when its time is over."""
    return (ctx.deadline - clock.now()).total_seconds()


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


def _after_failure(
    ctx: ExecutionContext, offer: Offer[E, R], buyer: Buyer, held: Admitted, error: ProviderError
) -> Bought | None:
    """Release the hold if it is proven that the provider did not count the call; otherwise keep it, and ask.

    Returns what the provider still has, or what was received if that is to be enough. None: neither.
    """
    logger.warning("provider call failed", extra={"attempt": str(held.attempt_id), "code": error.code})
    received = _received(buyer, held.attempt_id)
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
        return bought(settled)
    # If the operation has ended meanwhile, the next hold tells how.
    if received and buyer.keep_received and _settle_partly(ctx, received, OperationState.DONE):
        return Bought(operation_id=held.operation_id, result=received.result, counts=received.counts)
    return None


def _received(buyer: Buyer, attempt_id: UUID) -> Received | None:
    """What this attempt has brought: one that could not even be sent leaves what the one before it brought."""
    received = buyer.received()
    return received if received and received.attempt_id == attempt_id else None


def _settle_partly(
    ctx: ExecutionContext,
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
        metadata=received.facts,
    )
