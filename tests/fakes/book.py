"""What the fake provider knows of every request: its own tally, which is the truth that a ledger is measured by."""

import json
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from tests.fakes.answers import Reply


class Book:
    """Arrivals, counted answers and tombstones. Safe to use from every thread.

    The tally is a file of JSON lines, appended to before an answer leaves. A request that comes twice under one id is
    counted twice, as at a provider without idempotency.
    """

    def __init__(self, tally: Path) -> None:
        self._file = os.open(tally, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._clear()

    def _clear(self) -> None:
        self.arrivals: list[dict[str, Any]] = []
        self._lines: list[dict[str, Any]] = []
        self._running: Counter[str] = Counter()
        self._answers: dict[str, dict[str, Any]] = {}
        self._accounts: dict[str, str | None] = {}
        self._tombstones: set[str] = set()

    def reset(self) -> None:
        """Forget everything; the tally begins anew."""
        with self._lock:
            os.ftruncate(self._file, 0)
            self._clear()

    def arrive(self, request_id: str, arrival: dict[str, Any]) -> bool:
        """Note the request; False when it was declared never seen before it came."""
        with self._lock:
            self.arrivals.append({"request_id": request_id, **arrival})
            self._accounts[request_id] = arrival["headers"].get("authorization")
            self._arrived.notify_all()
            if request_id in self._tombstones:
                return False
            self._running[request_id] += 1
            return True

    def strike(self, request_id: str, *, kind: str, label: str) -> None:
        """Note the fault that a request meets."""
        with self._lock:
            arrival = next(arrival for arrival in reversed(self.arrivals) if arrival["request_id"] == request_id)
            arrival |= {"fault": kind, "label": label}

    def running(self) -> list[dict[str, Any]]:
        """The requests that are at work now, without their bodies."""
        with self._lock:
            at_work = [arrival for arrival in self.arrivals if self._running[arrival["request_id"]] > 0]
            return [{name: arrival[name] for name in arrival.keys() - {"body"}} for arrival in at_work]

    def await_arrival(self, request_id: str) -> None:
        """Return when that request has come."""
        with self._arrived:
            self._arrived.wait_for(lambda: any(arrival["request_id"] == request_id for arrival in self.arrivals))

    def count(self, request_id: str, kind: str, reply: Reply) -> None:
        """Charge for the answer and keep it; the request runs no more."""
        line = {
            "request_id": request_id,
            "kind": kind,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "total": reply.total_tokens,
        }
        with self._lock:
            os.write(self._file, json.dumps(line).encode() + b"\n")
            self._lines.append(line)
            self._answers[request_id] = {"kind": kind, "response": reply.body}

    def leave(self, request_id: str) -> None:
        """The request runs no more, counted or not."""
        with self._lock:
            self._running[request_id] -= 1

    def lookup(self, request_id: str, account: str | None) -> dict[str, Any]:
        """What became of a request. "not_seen" is a promise: if it comes now, it is refused and not counted.

        Who asks with another key than the request had is told of nothing, and promised nothing.
        """
        with self._lock:
            if self._accounts.get(request_id, account) != account:
                return {"state": "not_seen"}
            if request_id in self._answers:
                return {"state": "done", **self._answers[request_id]}
            if self._running[request_id] > 0:
                return {"state": "running"}
            self._tombstones.add(request_id)
            return {"state": "not_seen"}

    def tally(self) -> list[dict[str, Any]]:
        """The lines of the tally."""
        with self._lock:
            return list(self._lines)
