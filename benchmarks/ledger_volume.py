"""The ledger when it is large: what comparing, reading and inserting take then. The second form of ``ledger.py``.

Pages are asked for through Django's test client: authentication, policies, queries and rendering, without a server and
its socket. Inserting is measured in the large ledger and in an empty one beside it, in turns.
"""

import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import count, islice
from typing import Any
from urllib.parse import urlencode

from benchmarks import ledger_steps
from benchmarks.ledger_fill import EMPTY, contexts, fill
from benchmarks.ledger_reconciliation import comparisons
from benchmarks.ledger_scans import metrics, scans
from benchmarks.windows import Effort, Start, note, run

#: Whose pages are asked for: the largest tenant, and others over the whole range.
READERS = 20
THREADS = 4


def measure(rows: int, effort: Effort) -> dict[str, Any]:
    """The report of the second form: seconds of each comparison, milliseconds of a page, rows inserted per second.

    The books are compared first, while nobody writes. ``sequential_scans`` is empty when no step made one.
    """
    entries = fill(rows)
    return {
        "entries": entries,
        "reconciliation": comparisons(),
        "usage": _latencies(_usage_pages(), effort.requests),
        "usage_entries": _latencies(_entry_pages(), effort.requests),
        "insert": _insert(effort),
        "sequential_scans": scans(
            {
                "GET /usage": lambda: _ask(_usage_pages(), READERS * 6),
                "GET /usage/entries": lambda: _ask(_entry_pages(), READERS * 3),
                "GET /metrics": metrics,
            }
        ),
    }


Ask = Callable[[], Any]


def _asks() -> Iterator[Callable[[str], Any]]:
    """Something that asks for a page, of one reader after the other."""
    from django.test import Client  # noqa: PLC0415 - settings first

    from apps.core.ids import new_id  # noqa: PLC0415
    from apps.tenants import services  # noqa: PLC0415

    name = f"benchmark {new_id()}"
    keys = [services.issue_key(ctx, name=name, scopes=["usage"])[1] for ctx in contexts(READERS)]
    clients = [Client(headers={"Authorization": f"Bearer {key}"}) for key in keys]
    for number in count():
        yield clients[number % READERS].get


def _usage_pages() -> Iterator[Ask]:
    """A month by provider and model, day by day and summed up, in each of a tenant's three roles."""
    from apps.core.clock import today  # noqa: PLC0415 - settings first

    month = {"from": today("UTC") - timedelta(days=30), "to": today("UTC"), "group_by": "provider,model"}
    for number, get in enumerate(_asks()):
        granularity = ("day", "month")[number // READERS % 2]
        role = ("payer", "consumer", "owner")[number // READERS // 2 % 3]
        path = f"/api/v1/usage?{urlencode({**month, 'granularity': granularity, 'role': role})}"
        yield functools.partial(get, path)


def _entry_pages() -> Iterator[Ask]:
    """Page after page of each reader's entries; after ten, the first again."""
    first = "/api/v1/usage/entries"
    following: dict[int, str] = {}
    for number, get in enumerate(_asks()):
        reader, depth = number % READERS, number // READERS % 10

        def ask(get: Callable[[str], Any] = get, reader: int = reader, depth: int = depth) -> Any:
            response = get(following.get(reader) or first if depth else first)
            following[reader] = response.json()["next"]
            return response

        yield ask


def _latencies(asks: Iterator[Ask], number: int) -> dict[str, float]:
    """p50 and p95 of a request, after one round in which connection and caches warm up."""
    times = []
    for ask in islice(asks, number + READERS):
        started = time.perf_counter()
        response = ask()
        times.append((time.perf_counter() - started) * 1000)
        if response.status_code != 200:
            raise RuntimeError(response.content.decode())
    measured = times[READERS:]
    figures = {"p50_ms": statistics.median(measured), "p95_ms": statistics.quantiles(measured, n=20)[-1]}
    note(f"{figures}")
    return {name: round(value, 1) for name, value in figures.items()}


def _ask(asks: Iterator[Ask], number: int) -> None:
    for ask in islice(asks, number):
        ask()


def _insert(effort: Effort) -> dict[str, Any]:
    """Operations and rows a second in the full ledger and in the empty one, in turns, and the median of the ratios."""
    of_tenants = contexts(100)
    kinds: Mapping[str, Callable[[Sequence[Any]], Start]] = {
        "hold_settle": ledger_steps.hold_settle,
        "bulk": ledger_steps.bulk,
    }
    rates: dict[str, dict[str, list[float]]] = {kind: {"full": [], "empty": []} for kind in kinds}
    for number in range(effort.rounds):
        for kind, make in kinds.items():
            for which in ("full", "empty") if number % 2 else ("empty", "full"):
                with _database(which):
                    rates[kind][which].append(run(THREADS, effort, make(of_tenants)).rate)
        note(f"round {number + 1} of {effort.rounds}: {rates}")
    return {kind: _compared(both) for kind, both in rates.items()}


def _compared(both: dict[str, list[float]]) -> dict[str, float]:
    ratios = [full / empty for full, empty in zip(both["full"], both["empty"], strict=True)]
    medians = {which: round(statistics.median(rates)) for which, rates in both.items()}
    return {**medians, "ratio": round(statistics.median(ratios), 2)}


@contextmanager
def _database(which: str) -> Iterator[None]:
    """Have new connections go to the full ledger or to the empty one."""
    from django.db import connections  # noqa: PLC0415 - settings first

    settings = connections.settings["default"]
    full = settings["NAME"]
    connections.close_all()
    settings["NAME"] = connections["default"].settings_dict["NAME"] = EMPTY if which == "empty" else full
    try:
        yield
    finally:
        connections.close_all()
        settings["NAME"] = connections["default"].settings_dict["NAME"] = full
