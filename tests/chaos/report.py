"""The table of a run."""

from collections import Counter
from collections.abc import Callable, Sequence

from tests.chaos.books import Books
from tests.chaos.plan import Plan
from tests.chaos.rounds import Sampler
from tests.chaos.strikes import BETWEEN

_LINES: list[tuple[str, Callable[[Books], int]]] = [
    ("operations", lambda books: len(books.operations)),
    ("  done", lambda books: books.ends("done")),
    ("  cancelled", lambda books: books.ends("cancelled")),
    ("  refused or given up", lambda books: books.ends("failed")),
    ("entries", lambda books: len(books.usage)),
    ("attempts", lambda books: len(books.attempts)),
    ("  settled", lambda books: _attempts(books, "settled")),
    ("  void", lambda books: _attempts(books, "void")),
    ("  unknown", lambda books: _attempts(books, "unknown")),
    ("  lost", lambda books: _attempts(books, "lost")),
    ("tokens in entries, as the provider said", lambda books: sum(entry["total_tokens"] for entry in books.told)),
    ("+ true count of unknown and lost attempts", lambda books: books.true_count(books.doubtful, "id")),
    ("+ true count behind estimates", lambda books: books.true_count(books.estimated, "attempt_id")),
    ("= the provider's tally", lambda books: sum(map(sum, books.tally.values()))),
    ("estimates, which stand in the books instead", lambda books: sum(e["total_tokens"] for e in books.estimated)),
    ("still held for unknown attempts", lambda books: sum(a["held_tokens"] for a in books.attempts.values())),
]


def _attempts(books: Books, state: str) -> int:
    return sum(attempt["state"] == state for attempt in books.attempts.values())


def table(read: Sequence[Books], sampler: Sampler) -> str:
    """The books of each profile side by side."""
    lines = [("", *(books.profile for books in read))]
    lines += [(name, *(f"{value(books):,}" for books in read)) for name, value in _LINES]
    fullest = (f"{sampler.fullest.get(books.profile, 0):,}" for books in read)
    lines.append((f"most spent + held in {sampler.samples:,} samples", *fullest))
    limits = (f"{max(customer.limit or 0 for customer in books.customers):,}" for books in read)
    lines.append(("  of a limit of", *limits))
    return "\n".join(f"{name:<48}" + "".join(f"{value:>12}" for value in values) for name, *values in lines)


def hits(counted: Counter[str]) -> str:
    """How often each kind of fault really hit."""
    return "\n".join(f"{kind:<48}{times:>12,}" for kind, times in sorted(counted.items()))


def missed(plan: Plan, counted: Counter[str]) -> list[str]:
    """What was planned and never hit, so that this run proves nothing about it."""
    found = [f"no fault of this kind hit: {kind}" for kind in sorted(plan.kinds) if not counted[kind]]
    if counted[BETWEEN] < plan.form.kills:
        found.append(f"{counted[BETWEEN]} kills fell between hold and settle; it takes {plan.form.kills}")
    return found
