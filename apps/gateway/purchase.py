"""Hold → call → settle: how one operation is bought, whatever fails on the way.

The order is the promise. What a call can cost is set aside and committed before it is made; the call is made outside
any transaction; what it did cost is written afterwards, and a hold is released on proof only. A process that dies at
any instant leaves rows from which the next one goes on.

Several models may be on offer. They are called in their order, each as soon as the one before it has failed; when all
have, the first is called again after a pause, as often as the context's retries allow.
"""

import functools
import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Generic, Never

from apps.core import leases
from apps.core.context import ExecutionContext
from apps.core.db import outside_transactions
from apps.core.errors import NoobleError
from apps.gateway import attempts, policy
from apps.gateway.errors import CallCancelledError, CallInTransactionError, ProviderStillRunningError
from apps.gateway.offers import Bought, Buyer, E, Offer, Option, R
from apps.ledger import till
from apps.ledger.errors import BudgetExceededError
from apps.ledger.models import Operation
from apps.ledger.types import Admitted, Call, Charge, Held, LeftAttempt, Replay, Settlement, TokenCounts, Unresolved
from apps.providers import catalog
from apps.providers.errors import ProviderError, ProviderTimeoutError

logger = logging.getLogger(__name__)

#: Seconds an attempt's deadline lies behind its call's time-out.
DEADLINE_SLACK = 5.0


def buy(ctx: ExecutionContext, charge: Charge, option: Option[Never, R], buyer: Buyer) -> Bought:
    """Buy the operation that ``charge`` describes, or return what was bought before.

    Raises the ledger's refusals (budget, conflict, in progress, ended) and, when the last attempt failed,
    its ProviderError. The operation has then ended as failed, or stays pending when a later call can succeed.
    """
    try:
        next(purchase(ctx, charge, [option], buyer))
    except StopIteration as end:
        bought: Bought = end.value
        return bought
    raise AssertionError("a call at once passes nothing on")


def purchase(
    ctx: ExecutionContext, charge: Charge, options: Sequence[Option[E, R]], buyer: Buyer
) -> Generator[E, None, Bought]:
    """Buy as :func:`buy` does, of what is wanted most first, and pass on what comes on the way.

    Where nothing can be called, as there is no key for the provider any more, what was bought before is given all the
    same. When ``buyer.cancelled`` says so, the operation is ended and CallCancelledError raised, with what was booked
    for it. Closing the generator early does the same. It runs in one thread, whose database connection it uses; no
    transaction is open while its caller has the word, and the operation's lease is kept until it is run to its end or
    closed.
    """
    if not outside_transactions():
        raise CallInTransactionError(f"{charge.operation} was called inside a transaction")
    with ExitStack() as stack:
        drive = _Drive(ctx=ctx, charge=charge, menu=_Menu(options), buyer=buyer, stack=stack)
        try:
            return (yield from drive.to_its_end())
        except NoobleError:
            if drive.lease is None and (before := till.replay(ctx, charge)):
                return _replayed(before)
            raise


class _Menu(Generic[E, R]):
    """The options, each made when it is its turn, and how long each is to be left alone."""

    def __init__(self, options: Sequence[Option[E, R]]) -> None:
        self._options: dict[tuple[str, str], Callable[[], Offer[E, R]]] = {
            (option.provider, option.model): functools.cache(option.make) for option in options
        }
        self._pauses: dict[tuple[str, str], tuple[float, ProviderError]] = {}

    def offers(self, errors: list[NoobleError]) -> Iterator[Offer[E, R]]:
        """Those that can be called now, in their order; what stands against the others is added to ``errors``."""
        for model, make in self._options.items():
            try:
                self._require_no_pause(model)
                offer = make()
                offer.circuit.require_closed()
            except NoobleError as error:
                errors.append(error)
            else:
                yield offer

    def pause(self, offer: Offer[E, R], error: NoobleError) -> None:
        """Leave a model alone for as long as its provider has asked for."""
        if isinstance(error, ProviderError) and error.retry_after is not None:
            self._pauses[offer.provider, offer.model] = (time.monotonic() + error.retry_after, error)

    def offer_of(self, left: LeftAttempt) -> Offer[E, R] | None:
        """What an attempt was a call of; None: it is not on the menu any more. Raises what making it raises."""
        make = self._options.get((left.provider, left.model))
        return make() if make else None

    def _require_no_pause(self, model: tuple[str, str]) -> None:
        until, error = self._pauses.get(model, (0.0, None))
        if error and (left := until - time.monotonic()) > 0:
            error.retry_after = left
            raise error


@dataclass(kw_only=True)
class _Drive(Generic[E, R]):
    """One operation on its way to its end."""

    ctx: ExecutionContext
    charge: Charge
    menu: _Menu[E, R]
    buyer: Buyer
    #: Keeps the lease until the purchase is over.
    stack: ExitStack
    #: The operation's; None: nothing has been held so far.
    lease: leases.Lease | None = None
    #: The hold of the call that is to be made next, where it has been taken already.
    admitted: Admitted | None = None
    #: What a dead worker left, and nobody could be asked about yet.
    left: tuple[LeftAttempt, ...] = ()

    def to_its_end(self) -> Generator[E, None, Bought]:
        """Bring the operation to its end, or let it go for the next driver."""
        try:
            return (yield from self._rounds())
        except CallCancelledError as cancelled:
            cancelled.booked = self._cancel()
            raise
        except GeneratorExit:
            self._cancel()
            raise
        except NoobleError as error:
            self._let_go(error)
            raise

    def _cancel(self) -> TokenCounts | None:
        return attempts.cancel(self.ctx, self.buyer, self.lease.row_id) if self.lease else None

    def _let_go(self, error: NoobleError) -> None:
        if self.lease is None:
            return
        operation, epoch = self.lease.row_id, self.lease.epoch
        if error.retryable:
            # Whoever drives the work again goes on where this ended; if nobody does, the sweeper ends it.
            till.release(self.ctx, operation, epoch=epoch)
        else:
            till.fail(self.ctx, operation, epoch=epoch, code=error.code, detail=error.detail)

    def _rounds(self) -> Generator[E, None, Bought]:
        """Round after round, until an attempt settles or no other may follow: none that would begin too late."""
        if attempts.is_late(self.ctx):
            raise ProviderTimeoutError("The time for it was over before its provider could be called. Try again.")
        rounds = 0
        while True:
            try:
                return (yield from self._round())
            except NoobleError as error:
                pause = self._pause(error, rounds)
                if pause is None:
                    raise
            time.sleep(pause)
            rounds += 1

    def _pause(self, error: NoobleError, rounds: int) -> float | None:
        """Seconds until the next round; None: there is none, or not for this driver."""
        pause = policy.pause(error, rounds) if rounds < self.buyer.retries else None
        return pause if pause is not None and pause < attempts.seconds_left(self.ctx) else None

    def _round(self) -> Generator[E, None, Bought]:
        """Each model in its turn, until one has answered or the time is over.

        What is not the model's fault ends the round. A hold that the budget does not cover is: another model may be
        cheaper, and the same one a moment later.
        """
        errors: list[NoobleError] = []
        for offer in self.menu.offers(errors):
            try:
                return (yield from self._turn(offer))
            except (ProviderError, BudgetExceededError) as error:
                errors.append(error)
                self.menu.pause(offer, error)
            if attempts.is_late(self.ctx):
                break
        raise policy.telling(errors)

    def _turn(self, offer: Offer[E, R]) -> Generator[E, None, Bought]:
        """One call, after what is not known of earlier ones was asked about."""
        while self.admitted is None:
            if settled := self._ask_about_left(offer):
                return attempts.bought(settled)
            held = self._hold(offer)
            if isinstance(held, Replay):
                # It was bought before, or a worker that had been taken for dead has settled meanwhile.
                return _replayed(held)
            assert isinstance(held, Admitted | Unresolved)
            self._take(held)
        admitted, self.admitted = self.admitted, None
        bought = yield from attempts.call(self.ctx, offer, self.buyer, admitted)
        if bought.replayed and (booked := till.replay(self.ctx, self.charge)):
            # Another call has settled the operation before ours: what it brought was what that one took.
            return _replayed(booked)
        return bought

    def _hold(self, offer: Offer[E, R]) -> Held:
        """Hold for the next call; if our lease was lost while we slept, as any other driver would.

        Whoever took the operation over wins while its lease lives: we are refused (OperationInProgressError), and what
        we then release or fail under our old epoch is nothing. If it has settled, we get its result. If it died or let
        go, we win the operation back under a new epoch, which is the one that the heartbeat renews and we release or
        fail from now on; what it had called is asked about first, where the provider can be asked.
        """
        if self.buyer.cancelled():
            raise CallCancelledError
        return till.hold(self.ctx, self.charge, _call(self.ctx, offer), epoch=self.lease.epoch if self.lease else 0)

    def _take(self, held: Admitted | Unresolved) -> None:
        """Go on from a hold. Of what a dead worker left we are told once, when we take the operation over."""
        if self.lease is None:
            kept = leases.kept(self.ctx, Operation, held.operation_id, held.epoch)
            self.lease = self.stack.enter_context(kept)
        self.lease.epoch = held.epoch
        if isinstance(held, Admitted):
            self.admitted = held
        else:
            self.left = held.attempts

    def _ask_about_left(self, offer: Offer[E, R]) -> Settlement | None:
        """Resolve what a dead worker left; the first attempt that a provider has a result of settles the operation.

        A model is not called before it was asked: where that fails for this one, its error is raised. What another one
        cannot be asked about now stays to be asked about, in its own turn or by the sweeper.
        """
        for left in self.left:
            try:
                asked = self.menu.offer_of(left)
                settled = attempts.ask(self.ctx, asked, left.id) if asked else None
            except ProviderStillRunningError:
                raise
            except NoobleError:
                if (left.provider, left.model) == (offer.provider, offer.model):
                    raise
                logger.warning("provider could not be asked", extra={"attempt": str(left.id)}, exc_info=True)
                continue
            self.left = tuple(each for each in self.left if each is not left)
            if settled and not settled.late:
                return settled
        return None


def _replayed(held: Replay) -> Bought:
    return Bought(operation_id=held.operation_id, result=held.result, counts=held.counts, replayed=True)


def _call(ctx: ExecutionContext, offer: Offer[E, R]) -> Call:
    return Call(
        provider=offer.provider,
        model=offer.model,
        model_family=catalog.model(offer.provider, offer.model).family or "",
        hold_tokens=offer.hold_tokens,
        deadline_seconds=attempts.timeout(ctx, offer) + DEADLINE_SLACK,
    )
