"""Purchases in processes that die, and what must be true of them whoever drives them to their end."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from django.db.models.functions import Now

from apps.core import clock
from apps.core.context import ExecutionContext, LLMConfig
from apps.core.db import unit_of_work
from apps.core.models import DeadLetter
from apps.gateway import resolution
from apps.ledger import statements, sweeping
from apps.ledger.models import Attempt, Entry, Operation
from settings.variables import ROOT
from tests.conftest import worker_environment
from tests.fakes.process import FakeProvider
from tests.faults.scene import wait_until
from tests.personas import MakeTenant, Persona

#: The name of an instant, and which of its occurrences.
Instant = tuple[str, int]
#: What a driver ends with when somebody is to drive the work again.
PASSING = {"provider_rate_limited", "provider_unavailable", "provider_interrupted", "provider_still_running"}


class Buyers:
    """The process in ``buyer.py``; it ends with :meth:`close`, or with the process that started it."""

    def __init__(self, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.buyer"],
            cwd=ROOT,
            env=os.environ | worker_environment() | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, order: dict[str, Any]) -> int:
        """Returns the process that carries it out."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._told()["process"])

    def end(self) -> dict[str, Any]:
        """How what was begun has ended."""
        return self._told()

    def carry_out(self, order: dict[str, Any]) -> dict[str, Any]:
        self.begin(order)
        return self.end()

    def close(self) -> None:
        self._process.communicate()

    def _told(self) -> dict[str, Any]:
        assert self._process.stdout
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        return told


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way of buying: what is asked for, and what the provider does at first."""

    work: str
    fault: str = ""
    #: The fault strikes every call.
    always: bool = False
    retries: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    #: What the operation ends as.
    state: str = "done"
    #: Where another process has been killed before.
    before: Instant | None = None


@dataclass(frozen=True, kw_only=True)
class Purchase:
    """One purchase of a tenant of its own, however often it is driven."""

    persona: Persona
    fake: FakeProvider
    buyers: Buyers
    provider: str
    way: Way
    question: str = field(default_factory=lambda: uuid4().hex)

    def prepare(self) -> None:
        if self.way.fault:
            times = None if self.way.always else 1
            self.fake.fail(self.way.fault, match={"contains": self.question}, times=times)

    @property
    def ctx(self) -> ExecutionContext:
        """The same whenever it is driven, and with it the operation's key."""
        config = LLMConfig(
            provider=self.provider,
            model="m",
            temperature=0,
            max_tokens=50,
            timeout_seconds=20,
            retry_attempts=self.way.retries,
        )
        return self.persona.ctx.model_copy(update={"llm_config": config, "created_at": self.persona.tenant.created_at})

    def order(self, kill: Instant | None = None) -> dict[str, Any]:
        row = str(self.persona.tenant.pk)
        order = {"work": self.way.work, "provider": self.provider, "question": self.question, "row": row}
        return {**order, **self.way.options, "ctx": self.ctx.sign(), "kill": kill}

    def drive(self, kill: Instant | None = None) -> dict[str, Any]:
        return self.buyers.carry_out(self.order(kill))

    def await_call(self) -> str:
        """Return the request id of a call that the provider is at work on."""
        found: list[str] = []

        def arrived() -> bool:
            found[:] = [arrival["request_id"] for arrival in self.arrivals()]
            return bool(found)

        wait_until(arrived, seconds=60)
        return found[-1]

    def await_count(self, request_id: str) -> None:
        wait_until(lambda: request_id in self.tally(), seconds=60)

    def arrivals(self) -> list[dict[str, Any]]:
        """This purchase's requests, as the provider saw them."""
        return [arrival for arrival in self.fake.arrivals() if self.question in str(arrival["body"])]

    def buy_here(self) -> str:
        """Drive it in this process."""
        from tests.faults import buyer  # noqa: PLC0415 - a program

        with Path(os.devnull).open("wb") as nowhere:
            return buyer.WORK[self.way.work](self.ctx.renewed(60), self.order(), buyer.Instants(nowhere.fileno(), None))

    def outlive(self, *, swept: bool = False) -> None:
        """The lease of the process that died runs out; the sweeper comes by before the next driver, or does not."""
        with unit_of_work(self.persona.ctx):
            Operation.objects.filter(state="pending").update(lease_expires_at=Now() - timedelta(seconds=1))
        if swept:
            sweeping.close_abandoned()

    def finish(self, *, swept: bool = False) -> dict[str, Any]:
        """Drive it again and again, as the work list does while there is something to wait for; then clear up doubt."""
        for _ in range(4):
            self.outlive(swept=swept)
            ended = self.drive()
            if ended.get("error") not in PASSING:
                resolution.resolve_unknown()
                return ended
        raise AssertionError(f"never ended: {ended}")

    def attempts(self) -> dict[str, Attempt]:
        with unit_of_work(self.persona.ctx):
            return {str(attempt.pk): attempt for attempt in Attempt.objects.order_by("number")}

    def states(self) -> list[str]:
        return [attempt.state for attempt in self.attempts().values()]

    def operation(self) -> Operation:
        with unit_of_work(self.persona.ctx):
            return Operation.objects.get()

    def tally(self) -> dict[str, int]:
        """What the provider counted, by request; never twice for one."""
        own = self.attempts()
        lines = [line for line in self.fake.tally() if line["request_id"] in own]
        assert len({line["request_id"] for line in lines}) == len(lines)
        return {line["request_id"]: line["total"] for line in lines}

    def check(self) -> None:
        """One entry and one result; attempt by attempt, and in all, what the provider counted."""
        operation, attempts, tally = self.operation(), self.attempts(), self.tally()
        # A kill may come before what cancels it: then the next driver gets the whole answer.
        assert operation.state in {self.way.state, "done" if self.way.state == "cancelled" else ""}
        with unit_of_work(self.persona.ctx):
            entries = list(Entry.objects.all())
            stored = DeadLetter.objects.count()
        usage = [entry for entry in entries if entry.kind == "usage"]
        assert len(usage) in {"done": {1}, "failed": {0}, "cancelled": {0, 1}}[operation.state]
        assert stored == (self.way.work == "embed")
        for request_id, attempt in attempts.items():
            _check_attempt(attempt, tally.get(request_id))
        estimated = {str(entry.attempt_id) for entry in usage if attempts[str(entry.attempt_id)].state == "unknown"}
        told = sum(entry.total_tokens for entry in entries if str(entry.attempt_id) not in estimated)
        doubtful = {request_id for request_id, each in attempts.items() if each.state in {"unknown", "lost"}}
        assert told + sum(tally.get(request_id, 0) for request_id in doubtful) == sum(tally.values())
        books = statements.statement(self.persona.ctx, clock.today("UTC").replace(day=1))
        assert books.differences() == []
        if self.provider == "askable":
            assert (books.held_tokens, estimated) == (0, set())

    def check_replay(self, ended: dict[str, Any]) -> None:
        """Asked for once more, it is what it was, and nothing reaches the provider."""
        before = len(self.arrivals())
        again = self.drive()
        assert again.get("bought") == (None if self.operation().state != "done" else ended["bought"])
        assert len(self.arrivals()) == before


def _check_attempt(attempt: Attempt, counted: int | None) -> None:
    assert attempt.state != "open"
    assert attempt.state != "void" or counted is None
    assert (counted or 0) <= attempt.hold_tokens
    if attempt.state == "settled":
        assert attempt.input_tokens + attempt.output_tokens == counted


@dataclass(frozen=True)
class Shop:
    """Where tenants buy from one provider."""

    make_tenant: MakeTenant
    fake: FakeProvider
    buyers: Buyers
    provider: str

    def purchase(self, way: Way) -> Purchase:
        """A new one; if the way says so, a process has been killed over it already."""
        persona = self.make_tenant()
        made = Purchase(persona=persona, fake=self.fake, buyers=self.buyers, provider=self.provider, way=way)
        made.prepare()
        if way.before:
            assert made.drive(way.before)["status"] == -signal.SIGKILL
            made.outlive()
        return made
