"""Which steps of the ledger's work read a large table of it from end to end, by PostgreSQL's own count.

Reconciliation is not among them: it compares the books to their end, and reading them in order is the fast way to.
"""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import ledger_fill, ledger_steps
from benchmarks.windows import note

#: A smaller table may be scanned: reading its few pages is what an index would take.
SMALL = 10_000

Work = Callable[[], Any]


def scans(reading: Mapping[str, Work]) -> dict[str, list[str]]:
    """The large tables that each step scanned, and no step that scanned none. ``reading``: more steps, by name."""
    found = {}
    for name, work in {**_steps(), **reading}.items():
        before = _sequential_scans()
        work()
        after = _sequential_scans()
        scanned = sorted(table for table, times in after.items() if times > before[table])
        if scanned:
            found[name] = scanned
            note(f"{name}: sequential scan of {', '.join(scanned)}")
    return found


def metrics() -> None:
    """What a monitor asks for. The work list's tables are not the ledger's, and empty here."""
    from django.test import Client, override_settings  # noqa: PLC0415 - settings first

    token = "benchmark"
    with override_settings(METRICS_TOKEN=token):
        response = Client().get("/metrics", headers={"Authorization": f"Bearer {token}"})
    if response.status_code != 200:
        raise RuntimeError(response.content.decode())


def _sequential_scans() -> dict[str, int]:
    """How often each large table of the ledger was scanned so far."""
    from apps.core import db  # noqa: PLC0415 - settings first

    db.execute("SELECT pg_stat_force_next_flush()")
    db.execute("SELECT pg_stat_clear_snapshot()")
    rows = db.fetch_all(
        "SELECT s.relname, s.seq_scan FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid"
        " WHERE s.relname LIKE 'ledger\\_%%' AND c.reltuples > %(small)s",
        {"small": SMALL},
    )
    return {row["relname"]: row["seq_scan"] for row in rows}


def _steps() -> dict[str, Work]:
    """What the ledger does, each by the functions that the product calls."""
    from apps.core import clock  # noqa: PLC0415
    from apps.core.db import unit_of_work  # noqa: PLC0415
    from apps.ledger import adjustments, budgets, records, statements, sweeping  # noqa: PLC0415 - settings first
    from apps.ledger.models import Entry  # noqa: PLC0415
    from apps.ledger.types import TokenCounts  # noqa: PLC0415

    ctx = ledger_fill.contexts(2)[1]

    def adjust() -> None:
        with unit_of_work(ctx):
            entry = Entry.objects.filter(payer_tenant_id=ctx.payer_tenant_id, kind="usage").order_by("-id")[0]
        less = TokenCounts(fresh_input_tokens=-1)
        adjustments.adjust(entry.pk, less, reason="A test.", actor="benchmark")

    def budget() -> None:
        with unit_of_work(ctx):
            budgets.current(ctx)

    def record() -> None:
        events = ledger_steps.events(100)
        records.record_many(ctx, events)
        records.record_many(ctx, events)

    def sweep() -> None:
        sweeping.close_abandoned()
        list(sweeping.take_unknown(sweeping.unknown_providers()))
        sweeping.give_up()

    month = clock.today("UTC").replace(day=1)
    return {
        **_steps_of_the_till(ctx),
        "adjustment": adjust,
        "external usage": record,
        "budget": budget,
        "statement": lambda: statements.statement(ctx, month),
        "sweeper": sweep,
    }


def _steps_of_the_till(ctx: Any) -> dict[str, Work]:
    """An operation's ways from hold to end."""
    from apps.core.ids import new_id  # noqa: PLC0415 - settings first
    from apps.ledger import till  # noqa: PLC0415
    from apps.ledger.types import Call, Charge, OperationKind, OperationState, TokenCounts, TokenType  # noqa: PLC0415

    counts, truth = TokenCounts(fresh_input_tokens=100, plain_output_tokens=50), TokenCounts(fresh_input_tokens=120)

    def charge() -> Charge:
        payload = {"message": str(new_id())}
        return Charge(operation=OperationKind.CHAT, token_type=TokenType.LLM, payload=payload, run_id=new_id())

    def hold(for_what: Charge) -> Any:
        call = Call(provider=ledger_steps.PROVIDER, model=ledger_steps.MODEL, hold_tokens=5000, deadline_seconds=65.0)
        return till.hold(ctx, for_what, call)

    def settle() -> None:
        bought = charge()
        held = hold(bought)
        till.settle(ctx, held.attempt_id, counts, result={"text": "An answer."})
        till.settle(ctx, held.attempt_id, counts, result={"text": "An answer."})
        hold(bought)

    def unknown() -> None:
        held = hold(charge())
        till.mark_unknown(ctx, held.attempt_id, code="timeout", seen=counts)
        till.fail(ctx, held.operation_id, epoch=held.epoch, code="timeout", detail="")
        till.report(ctx, held.attempt_id, counts)

    def void() -> None:
        held = hold(charge())
        till.void(ctx, held.attempt_id)
        till.cancel(ctx, held.operation_id)

    def partly() -> None:
        held = hold(charge())
        till.settle_partly(ctx, held.attempt_id, counts, state=OperationState.CANCELLED, result={})
        till.report(ctx, held.attempt_id, truth)

    return {
        "hold, settle, replay": settle,
        "unknown, failed, reported": unknown,
        "void, cancelled": void,
        "settled partly, corrected": partly,
    }
