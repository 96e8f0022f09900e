"""A process that buys and kills itself at the instant that it is told: between which two effects is the question.

``python -m tests.faults.buyer`` reads orders, one JSON object a line, and carries each out in a child that it forks, so
that a kill costs no start of Python. It answers each with a line: the instants that the child reached, how it ended,
and what it bought. Instants are the two sides of every function that has an effect; product code knows nothing of them.
"""

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any
from uuid import UUID

import django

django.setup()

import openai  # noqa: E402, F401 - once, and not in every child
import stamina  # noqa: E402
from rest_framework.test import APIClient  # noqa: E402

from apps.agents import answering  # noqa: E402
from apps.core import dispatch  # noqa: E402
from apps.core.context import EmbeddingConfig, ExecutionContext, restore  # noqa: E402
from apps.core.errors import NoobleError  # noqa: E402
from apps.core.models import DeadLetter  # noqa: E402
from apps.gateway import attempts, services, streaming  # noqa: E402
from apps.gateway.streaming import Cancelled, Choice, Delta, Done  # noqa: E402
from apps.ledger import till  # noqa: E402
from apps.ledger.types import Charge, OperationKind, TokenType  # noqa: E402
from apps.providers.adapters.openai import OpenAIProvider  # noqa: E402
from apps.providers.base import ChatMessage, ChatRequest, Vectors  # noqa: E402
from tests.fakes.adapter import AskableProvider  # noqa: E402

#: So few that a streamed answer has few pieces, each of which is an instant.
MAX_TOKENS = 4
CANCELLED_AFTER = 2
TILL = ("hold", "settle", "settle_partly", "void", "mark_unknown", "fail", "cancel", "release")

Order = Mapping[str, Any]


class Instants:
    """Tells each instant that is reached, and does not survive the one that is asked for."""

    def __init__(self, tell: int, kill: tuple[str, int] | None) -> None:
        self._tell, self._kill = tell, kill
        self._reached: Counter[str] = Counter()

    def reach(self, name: str) -> None:
        os.write(self._tell, json.dumps({"instant": [name, self._reached[name]]}).encode() + b"\n")
        if self._kill == (name, self._reached[name]):
            os.kill(os.getpid(), signal.SIGKILL)
        self._reached[name] += 1

    def around(self, owner: Any, name: str, label: str) -> None:
        """Let ``owner.name`` be preceded and followed by an instant."""
        act = getattr(owner, name)

        def observed(*args: Any, **kwargs: Any) -> Any:
            self.reach(f"before {label}")
            result = act(*args, **kwargs)
            self.reach(f"after {label}")
            return result

        setattr(owner, name, observed)

    def within(self, owner: Any, name: str) -> None:
        """Let every piece of a stream be followed by an instant."""
        act = getattr(owner, name)

        def observed(*args: Any, **kwargs: Any) -> Iterator[Any]:
            self.reach("before send")
            with closing(act(*args, **kwargs)) as pieces:
                for piece in pieces:
                    self.reach("after a piece")
                    yield piece
            self.reach("after send")

        setattr(owner, name, observed)

    def behind(self, owner: Any, name: str, label: str) -> None:
        """Let the end of a transaction be followed by an instant."""
        opened: Callable[..., AbstractContextManager[None]] = getattr(owner, name)

        @contextmanager
        def observed(*args: Any) -> Iterator[None]:
            with opened(*args):
                yield
            self.reach(label)

        setattr(owner, name, observed)

    def observe(self) -> None:
        for name in TILL:
            self.around(till, name, name)
        for name in ("complete", "embed"):
            self.around(OpenAIProvider, name, "send")
        self.within(OpenAIProvider, "stream")
        self.around(AskableProvider, "lookup", "ask")
        self.behind(attempts, "unit_of_work", "after COMMIT")
        # The one is called inside the request's transaction, the other when it has committed.
        self.around(dispatch, "publish_on_commit", "COMMIT of the request")
        self.around(dispatch, "_publish", "publish")


def complete(ctx: ExecutionContext, order: Order, instants: Instants) -> str:
    return services.complete(ctx, _charge(order), _request(order), provider=order["provider"]).text


def stream(ctx: ExecutionContext, order: Order, instants: Instants) -> str:
    """The text that its reader ends with."""
    seen: list[str] = []
    events = streaming.stream(
        ctx,
        _charge(order),
        Choice(provider=order["provider"], model="fake-chat", request=lambda: _request(order)),
        partial=order.get("partial", "retry"),
        cancelled=lambda: bool(order.get("cancel")) and len(seen) >= CANCELLED_AFTER,
    )
    with closing(events):
        for event in events:
            if isinstance(event, Delta):
                seen.append(event.text)
            elif isinstance(event, Done):
                return event.completion.text
            elif isinstance(event, Cancelled):
                return "cancelled"
    raise AssertionError("a stream without an end")


def embed(ctx: ExecutionContext, order: Order, instants: Instants) -> str:
    """Stores a row where vectors would be, in the transaction that books them; by key, as that one may be repeated."""

    def store(vectors: Vectors) -> Mapping[str, Any]:
        instants.reach("before the rows are written")
        row, _ = DeadLetter.objects.get_or_create(
            tenant_id=ctx.tenant_id, task_name="vectors", row_id=UUID(order["row"])
        )
        return {"row": str(row.pk), "vectors": len(vectors)}

    config = EmbeddingConfig(provider=order["provider"], model="fake-embedding", dimensions=16)
    charge = Charge(operation=OperationKind.BATCH, token_type=TokenType.EMBEDDING, payload={"q": order["question"]})
    embedded = services.embed(ctx, charge, [order["question"], "two"], config=config, store=store)
    return str(embedded.reference["row"])


def answer(ctx: ExecutionContext, order: Order, instants: Instants) -> str:
    """Deliver a run, as a worker does; where its messages are lost, no other worker hears what may be done next."""
    if order.get("messages") == "lost":
        dispatch._publish = lambda *_: None
    delivered = answering.answer(ctx, UUID(order["run"]), task_id="task")
    return "delivered" if delivered else "not delivered"


def post(ctx: ExecutionContext, order: Order, instants: Instants) -> str:
    """Answer a request, as a web process does."""
    client = APIClient(headers=order["headers"])
    return str(client.post(order["path"], order["body"], format="json").status_code)


def _charge(order: Order) -> Charge:
    return Charge(operation=OperationKind.CHAT, token_type=TokenType.LLM, payload={"q": order["question"]})


def _request(order: Order) -> ChatRequest:
    message = ChatMessage(role="user", content=order["question"])
    return ChatRequest(model="fake-chat", messages=(message,), max_tokens=MAX_TOKENS)


WORK = {"complete": complete, "stream": stream, "embed": embed, "answer": answer, "post": post}


def perform(order: Order, tell: int) -> None:
    """In the child: everything from the signed context on."""
    kill = order.get("kill")
    instants = Instants(tell, (kill[0], kill[1]) if kill else None)
    instants.observe()
    ctx = restore(order["ctx"]).renewed(60)
    try:
        outcome = {"bought": WORK[order["work"]](ctx, order, instants)}
    except NoobleError as error:
        outcome = {"error": error.code}
    os.write(tell, json.dumps(outcome).encode() + b"\n")


def carry_out(order: Order) -> dict[str, Any]:
    """Fork, wait for the child's end, and tell about it."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(told)
            perform(order, tell)
        finally:
            os._exit(0)
    os.close(tell)
    print(json.dumps({"process": child}), flush=True)
    with os.fdopen(told) as pipe:
        lines = [json.loads(line) for line in pipe]
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    instants = [line["instant"] for line in lines if "instant" in line]
    [outcome] = [line for line in lines if "instant" not in line] or [{}]
    return {"instants": instants, "status": status, **outcome}


if __name__ == "__main__":
    stamina.instrumentation.set_on_retry_hooks([])  # which print
    for line in sys.stdin:
        print(json.dumps(carry_out(json.loads(line))), flush=True)
