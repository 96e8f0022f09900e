"""What can be bought: a call with its price, what it gives on its way, and what is left when it is over."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Never, TypeVar
from uuid import UUID

from apps.gateway.circuits import Circuit
from apps.ledger.types import TokenCounts
from apps.providers.base import ChatResult, EmbeddingResult, Fate

#: What a call passes on while it is made.
E = TypeVar("E")
R = TypeVar("R", ChatResult, EmbeddingResult)


@dataclass(frozen=True, kw_only=True)
class Received:
    """What an attempt consumed and brought, as far as was seen, before its call was over."""

    attempt_id: UUID
    #: Our own count.
    counts: TokenCounts
    #: What the operation keeps when it ends with this.
    result: Mapping[str, Any]
    provider_request_id: str = ""
    #: As :attr:`Offer.facts`, of the offer whose call it was.
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Offer(Generic[E, R]):
    """One call that can be bought: what it costs at most, how it is made, and what is kept of its result."""

    provider: str
    model: str
    circuit: Circuit
    hold_tokens: int
    timeout: float
    #: Makes the call; is given the attempt, whose id goes out as our request id, and the seconds it may take. Passes on
    #: what comes on the way and returns the result; see :func:`at_once`.
    send: Callable[[UUID, float], Generator[E, None, R]]
    #: Raises ProviderBadResponseError for an answer that cannot be used, whether it was sent or looked up.
    check: Callable[[R], None] = lambda _: None
    counts: Callable[[R], TokenCounts]
    #: What the operation keeps, so that a repeated delivery needs no call. Runs in settle's transaction and may write;
    #: it may run again when the reply to a COMMIT was lost, so what it writes has a key.
    keep: Callable[[R], Mapping[str, Any]]
    keep_writes: bool = False
    #: What the entry says of the call beside its numbers, known before it is made.
    facts: Mapping[str, Any] = field(default_factory=dict)
    #: Asks the provider what became of a request; None when it cannot be asked.
    lookup: Callable[[str], ChatResult | EmbeddingResult | Fate] | None = None


@dataclass(frozen=True, kw_only=True)
class Option(Generic[E, R]):
    """An offer that can be asked for: whose it would be. Making it may fail, as there is no key for the provider."""

    provider: str
    model: str
    make: Callable[[], Offer[E, R]]


@dataclass(frozen=True, kw_only=True)
class Buyer:
    """Who waits for the result, how long, and what it has been given of it."""

    #: How many rounds of calls may follow the first.
    retries: int

    #: Whether the result is wanted no more: asked before every hold. ``send`` asks, too, while it waits.
    cancelled: Callable[[], bool] = lambda: False
    #: What the latest call has brought without being over; None: nothing that was seen.
    received: Callable[[], Received | None] = lambda: None
    #: Whether what was received before a call broke off is answer enough. If not, another call is made.
    keep_received: bool = False


@dataclass(frozen=True, kw_only=True)
class Bought:
    """The operation's result. ``replayed``: it was there already, nothing was called."""

    operation_id: UUID
    result: Mapping[str, Any]
    counts: TokenCounts
    replayed: bool = False


def at_once(call: Callable[[UUID, float], R]) -> Callable[[UUID, float], Generator[Never, None, R]]:
    """A call whose result comes in one piece, as an offer's ``send``: it passes nothing on."""

    def send(attempt_id: UUID, timeout: float) -> Generator[Never, None, R]:
        yield from ()
        return call(attempt_id, timeout)

    return send
