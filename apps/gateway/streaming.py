"""Answers while they are being written: :func:`stream` buys one as ``services.complete`` does, and passes it on.

What a reader was shown and what is paid for are two things. A stream that breaks off proves nothing about the bill, so
its attempt stays unknown with its hold, and what it had brought is noted as an estimate. What was shown of it is void
when another attempt begins; :class:`Reset` says so.
"""

import functools
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from apps.core.context import ExecutionContext
from apps.gateway import sellers
from apps.gateway.errors import CallCancelledError
from apps.gateway.offers import Buyer, Offer, Option, Received
from apps.gateway.purchase import purchase
from apps.gateway.sellers import Seller
from apps.gateway.services import Completion, chat_offer, completion, estimate, retries
from apps.gateway.upstream import Upstream
from apps.ledger.types import Charge, TokenCounts
from apps.providers.base import ChatChunk, ChatProvider, ChatRequest, ChatResult
from apps.providers.errors import ProviderError
from apps.providers.lines import Line

#: What becomes of an answer that broke off and that the provider cannot be asked for: it is asked for again, or what
#: was received is answer enough.
WhenBroken = Literal["retry", "keep"]
#: The finish reason of an answer that is not whole.
INTERRUPTED = "interrupted"


@dataclass(frozen=True, kw_only=True)
class Delta:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Reset:
    """What was shown so far is void, the answer begins anew. ``reason`` is the code of the error that broke it off."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Done:
    """The answer is whole (or, with the finish reason ``interrupted``, as much as there will be) and paid."""

    completion: Completion


@dataclass(frozen=True, kw_only=True)
class Cancelled:
    """The operation was ended on request. ``counts``: the estimate that was booked; None: nothing was."""

    text: str
    counts: TokenCounts | None


Event = Delta | Reset | Done | Cancelled


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A model that may answer, and what it is sent, which is made when it is its turn."""

    provider: str
    model: str
    request: Callable[[], ChatRequest]


def stream(
    ctx: ExecutionContext,
    charge: Charge,
    first: Choice,
    *others: Choice,
    partial: WhenBroken = "retry",
    cancelled: Callable[[], bool] = lambda: False,
    look_seconds: float = 0.0,
) -> Generator[Event, None, None]:
    """The model's answer piece by piece, bought once; the last event is :class:`Done` or :class:`Cancelled`.

    ``first`` and ``others`` are the models that may answer, each asked when the one before it has failed. The deltas
    since the last reset are the answer's text. An operation that is done already gives its whole text in one delta.
    Raises what ``services.complete`` raises, after any event; what was shown by then is void.

    ``cancelled`` is asked before every call, after every piece and four times a second while the provider is silent,
    so it must be quick and must not raise. If it is not that quick, ``look_seconds`` is how long a no is good for while
    a call is on its way; before every call it is asked all the same. In the pause before a call is made again it is
    asked when the pause is over. When it says yes, the operation ends as cancelled, with an entry at the estimate of
    what its latest call consumed.

    Closing the generator early is cancelling, too; that a client has gone is no reason for it. Run it to its end, or
    close it (``contextlib.closing``), in the thread that began it and outside transactions: until then it keeps the
    operation's lease.
    """
    looks = _Looks(cancelled, seconds=look_seconds)
    answer = _Answer(cancelled=looks)

    options = [_option(ctx, choice, answer) for choice in (first, *others)]
    buyer = Buyer(retries=retries(ctx), cancelled=cancelled, received=answer.received, keep_received=partial == "keep")
    try:
        bought = yield from purchase(ctx, charge, options, buyer)
    except CallCancelledError as error:
        yield Cancelled(text=answer.text, counts=error.booked)
        return
    yield from answer.rest_of(bought.result["text"])
    yield Done(completion=completion(bought))


def _option(ctx: ExecutionContext, choice: Choice, answer: "_Answer") -> Option[Event, ChatResult]:
    def make() -> Offer[Event, ChatResult]:
        asked = _Asked(seller=sellers.chat(ctx, choice.provider), request=choice.request())
        return chat_offer(ctx, asked.request, asked.seller, send=functools.partial(answer.send, asked))

    return Option(provider=choice.provider, model=choice.model, make=make)


class _Looks:
    """Asks, but not again within so many seconds of a no; not in the first ones, either, as a call was asked about."""

    def __init__(self, ask: Callable[[], bool], *, seconds: float) -> None:
        self._ask, self._seconds = ask, seconds
        self._due = time.monotonic() + seconds

    def __call__(self) -> bool:
        if time.monotonic() < self._due:
            return False
        answer = self._ask()
        self._due = time.monotonic() + self._seconds
        return answer


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """Who is asked, and what."""

    seller: Seller[ChatProvider]
    request: ChatRequest


@dataclass(kw_only=True)
class _Answer:
    """One answer as it comes, over all its attempts."""

    cancelled: Callable[[], bool]
    #: Whom the latest attempt has asked.
    asked: _Asked | None = None
    #: What came of the latest attempt, which is also what the caller has been shown and was not told is void.
    text: str = ""
    attempt_id: UUID | None = None
    #: Whether the latest attempt's call is out and has not failed.
    running: bool = False
    #: The latest chunk: the provider's names for the call and the model.
    latest: ChatChunk = field(default_factory=ChatChunk)
    #: The code of the error that broke off the attempt before.
    broken_by: str = ""

    def send(self, asked: _Asked, attempt_id: UUID, timeout: float) -> Generator[Event, None, ChatResult]:
        """One call: its pieces, then its result."""
        line = Line()
        chunks = asked.seller.adapter.stream(asked.request, request_id=str(attempt_id), timeout=timeout, line=line)
        with Upstream(chunks, line) as upstream:
            # From here on the call can cost something, and a caller who closes us at the reset cancels this attempt.
            void, self.text = self.text, ""
            self.asked, self.attempt_id, self.latest, self.running = asked, attempt_id, ChatChunk(), True
            if void:
                yield Reset(reason=self.broken_by)
            try:
                yield from self._deltas(upstream.chunks(timeout=timeout, cancelled=self.cancelled))
            except ProviderError as error:
                self.running, self.broken_by = False, error.code
                raise
        return _result(self.text, self.latest)

    def _deltas(self, chunks: Iterator[ChatChunk]) -> Iterator[Delta]:
        for chunk in chunks:
            self.latest = chunk
            self.text += chunk.delta
            if chunk.delta:
                yield Delta(text=chunk.delta)

    def received(self) -> Received | None:
        """What the latest attempt has consumed: its prompt at least, unless it failed before it brought anything."""
        if self.asked is None or self.attempt_id is None or not (self.running or self.text):
            return None
        request, provider = self.asked.request, self.asked.seller.provider
        model = self.latest.model or request.model
        return Received(
            attempt_id=self.attempt_id,
            counts=estimate(request, self.text, provider),
            result={
                "text": self.text,
                "finish_reason": INTERRUPTED,
                "provider": provider,
                "model": model,
                "partial": True,
            },
            provider_request_id=self.latest.provider_request_id,
            facts=self.asked.seller.facts,
        )

    def rest_of(self, text: str) -> Iterator[Event]:
        """What is still to be shown of an answer that came another way: looked up, or bought before.

        Such a text may differ from what the broken stream had shown of it.
        """
        if not text.startswith(self.text):
            yield Reset(reason=self.broken_by)
            self.text = ""
        if rest := text[len(self.text) :]:
            yield Delta(text=rest)


def _result(text: str, closing: ChatChunk) -> ChatResult:
    return ChatResult(
        text=text,
        finish_reason=closing.finish_reason or "",
        usage=closing.usage,
        raw_usage=closing.raw_usage,
        provider_request_id=closing.provider_request_id,
        model=closing.model,
    )
