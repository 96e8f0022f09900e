"""Circuit breakers: a provider that fails call after call is left alone for a while.

There is one for each provider and credential, in each process: it lives as long as the adapter that both make. A
process finds out by itself, so that buying needs no Redis, and one that starts anew takes nothing over.
"""

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from weakref import WeakKeyDictionary

import pybreaker
from django.conf import settings

from apps.core import clock, counters
from apps.providers.errors import (
    ProviderCircuitOpenError,
    ProviderInterruptedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnreachableError,
)

logger = logging.getLogger(__name__)

#: What says that the provider is not well. Whatever else it answers, it answers.
SYMPTOMS = (ProviderInterruptedError, ProviderTimeoutError, ProviderUnavailableError, ProviderUnreachableError)
#: A call that was given less time says nothing about its provider: its tenant may have chosen the time, and one
#: tenant's haste must not keep others from calling.
PATIENCE_SECONDS = 30.0


class Circuit:
    """One provider with one credential, as this process knows it."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._state = pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=settings.PROVIDER_CIRCUIT_FAILURES,
            reset_timeout=settings.PROVIDER_CIRCUIT_SECONDS,
            exclude=[_is_no_symptom],
            listeners=[_Changes()],
            state_storage=self._state,
            name=provider,
            throw_new_error_on_trip=False,
        )

    def require_closed(self) -> None:
        """Refuse a call that would most likely fail, before anything is held for it; raises ProviderCircuitOpenError.

        When the time is over calls are let through; the first that ends closes the circuit, or opens it again.
        """
        if (left := self._seconds_left()) > 0:
            raise self._refusal(left)

    @contextmanager
    def watching(self, *, timeout: float) -> Iterator[None]:
        """Take note of how a call ends that is given ``timeout`` seconds.

        Raises what the call raises, or ProviderCircuitOpenError when a call beside it has opened the circuit since we
        asked.
        """
        if timeout < PATIENCE_SECONDS:
            yield
            return
        try:
            with self._breaker.calling():
                yield
        except pybreaker.CircuitBreakerError:
            raise self._refusal(max(self._seconds_left(), 1.0)) from None

    def _seconds_left(self) -> float:
        if self._state.state != pybreaker.STATE_OPEN or self._state.opened_at is None:
            return 0.0
        until = self._state.opened_at + timedelta(seconds=self._breaker.reset_timeout)
        return (until - clock.now()).total_seconds()

    def _refusal(self, seconds: float) -> ProviderCircuitOpenError:
        return ProviderCircuitOpenError(
            f"{self._provider} has failed {self._breaker.fail_max} times in a row and is left alone for "
            f"{math.ceil(seconds)} seconds more. Try again then.",
            retry_after=seconds,
        )


class _Changes(pybreaker.CircuitBreakerListener):
    """What operators are told: a line in the log for each change, and a count of those that opened."""

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,
        old_state: pybreaker.CircuitBreakerState | None,
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        logger.warning("circuit changed", extra={"provider": cb.name, "state": new_state.name})
        if new_state.name == pybreaker.STATE_OPEN:
            counters.count("circuits_opened", (str(cb.name),))


_circuits: WeakKeyDictionary[object, Circuit] = WeakKeyDictionary()
_making = threading.Lock()


def of(adapter: object, provider: str) -> Circuit:
    """The circuit of an adapter, which is a provider with a credential."""
    with _making:
        if adapter not in _circuits:
            _circuits[adapter] = Circuit(provider)
        return _circuits[adapter]


def _is_no_symptom(error: BaseException) -> bool:
    return not isinstance(error, SYMPTOMS)
