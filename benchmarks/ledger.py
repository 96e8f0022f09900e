"""What the ledger does in a second: hold and settle, and usage booked in bulk, beside bare inserts of the same rows.

    python benchmarks/ledger.py [--quick] [--seconds 2] [--rounds 5]
    python benchmarks/ledger.py --rows 5000000 [--quick] [--seconds 2] [--rounds 5] [--data-dir FOLDER]

The first form calls the product's own functions through Django's connections, on one tenant and on a hundred, with 1, 4
and 16 threads, and beside each of these windows the raw limit: psycopg inserting the same entry, one a commit, into an
identical table without policies; in bulk by one bare ``unnest``. Windows take turns, so that whatever else the machine
does meets all of them; a figure is the median over the rounds, a ratio the median of the rounds' ratios. The second
form asks how that, reading and comparing the books hold up in a ledger of so many entries: see ``ledger_volume.py``.

PostgreSQL is the embedded one, with fsync, in a directory of its own that is removed afterwards. Progress goes to
stderr; the last line is one JSON object.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# A script's own folder is where Python looks for modules, not the project's.
sys.path.insert(0, str(ROOT))

from benchmarks import ledger_steps as steps  # noqa: E402
from benchmarks import ledger_volume  # noqa: E402
from benchmarks.windows import Effort, Start, Window, note, run  # noqa: E402

TENANTS = {"1_tenant": 1, "100_tenants": 100}
THREADS = (1, 4, 16)
BULK_THREADS = (1, 4)


def main() -> None:
    options = _options()
    with deployment(options.data_dir):
        effort = _effort(options)
        report = ledger_volume.measure(options.rows, effort) if options.rows else measure(effort)
    print(json.dumps(report))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="how long one window is (default: 2)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each window comes (default: 5)")
    parser.add_argument("--quick", action="store_true", help="all of it as short as it can be: shows that it works")
    parser.add_argument("--rows", type=int, help="fill a ledger with so many entries and measure that")
    parser.add_argument("--data-dir", type=Path, help="keep the database there, and use what an earlier run filled")
    return parser.parse_args()


def _effort(options: argparse.Namespace) -> Effort:
    if options.quick:
        return Effort(seconds=0.05, rounds=1, warm_up=1, requests=20)
    return Effort(seconds=options.seconds, rounds=options.rounds)


@contextmanager
def deployment(data_dir: Path | None) -> Iterator[None]:
    """nooble with an embedded PostgreSQL of its own; in a directory that is removed afterwards, unless one is named."""
    with tempfile.TemporaryDirectory(prefix="nooble-benchmark-") as scratch:
        directory = (data_dir or Path(scratch)).resolve()
        for name in ("DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL", "BROKER_URL"):
            os.environ.pop(name, None)
        os.environ |= {"DJANGO_SETTINGS_MODULE": "settings.test", "NOOBLE_DATA_DIR": str(directory)}
        import django  # noqa: PLC0415 - after the environment it reads
        from django.core.management import call_command  # noqa: PLC0415

        from nooble import embedded  # noqa: PLC0415

        django.setup()
        with embedded.engines(directory):
            call_command("migrate", verbosity=0)
            yield
            _close_connections()


def _close_connections() -> None:
    from django.db import connections  # noqa: PLC0415 - settings first

    connections.close_all()


def measure(effort: Effort) -> dict[str, Any]:
    """The report of the first form: operations, rows and inserts per second, and their ratios."""
    steps.make_price()
    contexts = steps.make_contexts(max(TENANTS.values()))
    steps.make_bare_table()
    windows = _windows(contexts)
    found: dict[Key, list[Window]] = defaultdict(list)
    for number in range(effort.rounds):
        for key, (threads, start) in windows.items():
            found[key].append(run(threads, effort, start))
        note(f"round {number + 1} of {effort.rounds}: {_summary(found)}")
    return _report(found)


@dataclass(frozen=True, kw_only=True)
class Key:
    """Which window: what is done, on which tenants, by how many threads."""

    what: str
    tenants: str
    threads: int


def _windows(contexts: Sequence[Any]) -> dict[Key, tuple[int, Start]]:
    """The windows of a round, each beside its raw limit."""
    windows: dict[Key, tuple[int, Start]] = {}
    for tenants, number in TENANTS.items():
        for threads in THREADS:
            few = contexts[:number]
            windows[Key(what="hold_settle", tenants=tenants, threads=threads)] = (threads, steps.hold_settle(few))
            windows[Key(what="raw", tenants=tenants, threads=threads)] = (threads, steps.bare_insert(few))
    for threads in BULK_THREADS:
        windows[Key(what="bulk", tenants="100_tenants", threads=threads)] = (threads, steps.bulk(contexts))
        windows[Key(what="raw_bulk", tenants="100_tenants", threads=threads)] = (threads, steps.bare_bulk(contexts))
    return windows


def _report(found: dict[Key, list[Window]]) -> dict[str, Any]:
    def rate(what: str, tenants: str, threads: int) -> int:
        windows = found[Key(what=what, tenants=tenants, threads=threads)]
        return round(statistics.median(window.rate for window in windows))

    def p50(what: str) -> float:
        windows = found[Key(what=what, tenants="100_tenants", threads=1)]
        return round(statistics.median(window.p50_ms for window in windows), 2)

    operations = {
        what: {tenants: {str(threads): rate(what, tenants, threads) for threads in THREADS} for tenants in TENANTS}
        for what in ("hold_settle", "raw")
    }
    rows = {what: {str(n): rate(what, "100_tenants", n) for n in BULK_THREADS} for what in ("bulk", "raw_bulk")}
    return {
        "hold_settle": operations["hold_settle"],
        "bulk": rows["bulk"],
        "raw": {**operations["raw"], "bulk": rows["raw_bulk"], "p50_ms": p50("raw")},
        "ratio": {
            "hold_settle": ratio(found, "hold_settle", "raw", "100_tenants", 16),
            "hold_settle_one_tenant": ratio(found, "hold_settle", "raw", "1_tenant", 16),
            "bulk": ratio(found, "bulk", "raw_bulk", "100_tenants", 1),
            "p50": ratio(found, "hold_settle", "raw", "100_tenants", 1, figure="p50_ms"),
        },
        "p50_ms": p50("hold_settle"),
    }


def ratio(
    found: dict[Key, list[Window]], what: str, limit: str, tenants: str, threads: int, *, figure: str = "rate"
) -> float:
    """The median, over the rounds, of a window's figure to that of the raw one beside it."""
    ours, raw = (found[Key(what=name, tenants=tenants, threads=threads)] for name in (what, limit))
    pairs = zip(ours, raw, strict=True)
    return round(float(statistics.median(getattr(a, figure) / getattr(b, figure) for a, b in pairs)), 3)


def _summary(found: dict[Key, list[Window]]) -> str:
    return ", ".join(
        f"{key.what} {key.tenants} x {key.threads} {windows[-1].rate:.0f}/s" for key, windows in found.items()
    )


if __name__ == "__main__":
    main()
