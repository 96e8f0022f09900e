"""Circuit breakers: a model that fails call after call is left alone for a while.

There is one for each model of a provider and a credential, in each process: it lives as long as the adapter that these
two make. A process finds out by itself, so that buying needs no Redis, and one that starts anew takes nothing over.
Decision 15 says why it is no library's.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from django.conf import settings

from apps.core import counters
from apps.providers.errors import (
    ProviderCircuitOpenError,
    ProviderError,
    ProviderInterruptedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnreachableError,
    RequestNotSentError,
)

logger = logging.getLogger(__name__)

#: A time-out after less is the choice of a tenant, the end of a run or some proxy's: it says nothing about the model.
PATIENCE_SECONDS = 60.0
#: Requests may name models: so many are remembered of one adapter.
MAX_MODELS = 1000


class Circuit:
    """One model with one credential, as this process knows it.

    While it is closed, calls go out; so many failures in a row open it. While it is open they are refused. When its
    time is over, one call is let through to see how the model is, and the others are refused until that one has ended,
    or for the same time again: then the next is let through as well. Whichever of them is answered closes it. A call
    that began before it opened, or before it closed, decides nothing any more.
    """

    def __init__(self, provider: str, model: str) -> None:
        self._provider, self._model = provider, model
        #: Held for some assignments, never while anything is waited for.
        self._lock = threading.Lock()
        self._failures = 0
        #: By the monotonic clock; 0: it is closed.
        self._open_until = 0.0
        #: Raised when it opens and when it closes.
        self._epoch = 0

    def require_closed(self) -> None:
        """Refuse a call that would most likely fail, before it is held for; raises ProviderCircuitOpenError."""
        if (left := self._open_until - time.monotonic()) > 0:
            raise self._refusal(left)

    @contextmanager
    def watching(self, *, silent: Callable[[], bool]) -> Iterator[None]:
        """Take note of how a call ends; ``silent``: whether it has brought nothing so far.

        Raises what the call raises, or ProviderCircuitOpenError when calls beside it have opened the circuit since
        :meth:`require_closed`, or one is seeing already.
        """
        epoch, began = self._enter(), time.monotonic()
        is_well: bool | None = None
        try:
            yield
            is_well = True
        except ProviderError as error:
            is_well = _verdict(error, waited=time.monotonic() - began, silent=silent)
            raise
        finally:
            self._leave(epoch, is_well=is_well)

    def _enter(self) -> int:
        with self._lock:
            left = self._open_until - time.monotonic()
            if self._open_until and left <= 0:
                # This call is the one that sees; the others wait for it as they did for the time.
                self._open_until = time.monotonic() + settings.PROVIDER_CIRCUIT_SECONDS
            epoch = self._epoch
        if left > 0:
            raise self._refusal(left)
        return epoch

    def _leave(self, epoch: int, *, is_well: bool | None) -> None:
        """``is_well`` None: the call has ended without saying anything about the model."""
        with self._lock:
            if epoch != self._epoch:
                return
            if is_well is not None:
                self._failures = 0 if is_well else self._failures + 1
            was_open, until = bool(self._open_until), self._until(is_well)
            self._epoch += was_open != bool(until)
            self._open_until = until
        if until and is_well is False:
            logger.warning("circuit opened", extra={"provider": self._provider, "model": self._model})
            counters.count("circuits_opened", (self._provider, self._model))

    def _until(self, is_well: bool | None) -> float:
        """Until when the circuit is open after such an end of a call; 0: it is closed."""
        if is_well or not (self._open_until or self._failures >= settings.PROVIDER_CIRCUIT_FAILURES):
            return 0.0
        # The one that was to see and has seen nothing makes room for the next.
        return time.monotonic() + (0.0 if is_well is None else settings.PROVIDER_CIRCUIT_SECONDS)

    def _refusal(self, seconds: float) -> ProviderCircuitOpenError:
        return ProviderCircuitOpenError(
            f"{self._provider}'s {self._model} has failed again and again, and is left alone for {math.ceil(seconds)} "
            "seconds more. Try again then.",
            retry_after=seconds,
        )


_circuits: WeakKeyDictionary[object, dict[str, Circuit]] = WeakKeyDictionary()
_making = threading.Lock()


def of(adapter: object, provider: str, model: str) -> Circuit:
    """The circuit of a model, by the adapter that its provider and a credential make."""
    with _making:
        of_adapter = _circuits.setdefault(adapter, {})
        if model not in of_adapter:
            if len(of_adapter) >= MAX_MODELS:
                of_adapter.clear()
            of_adapter[model] = Circuit(provider, model)
        return of_adapter[model]


def _verdict(error: ProviderError, *, waited: float, silent: Callable[[], bool]) -> bool | None:
    """What a call that failed after so many seconds says of its model: it is well, or it is not, or nothing."""
    match error:
        case ProviderTimeoutError():
            return False if waited >= PATIENCE_SECONDS and silent() else None
        case ProviderInterruptedError() | ProviderUnavailableError() | ProviderUnreachableError():
            return False
        case RequestNotSentError():
            return None
        case _:
            # Whatever it has answered, it answers.
            return True
