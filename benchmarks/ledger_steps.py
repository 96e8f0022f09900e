"""The steps that the ledger's benchmark times: what the product does, and the bare inserts of the same rows."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import count, cycle
from typing import Any
from uuid import UUID

from benchmarks.windows import Start, Step

BATCH = 1000
#: The rows of the daily statistics that a batch in bulk touches: so many keys on so many days.
KEYS, DAYS = 20, 7
PROVIDER, MODEL = "groq", "benchmark-chat"
USD_PER_MILLION = {"fresh_input": 1, "cached_input": 1, "cache_write": 1, "plain_output": 3, "reasoning": 3}


def make_price() -> None:
    """What the model costs, so that entries are priced."""
    from apps.core.clock import now  # noqa: PLC0415 - settings first
    from apps.core.db import operator_scope  # noqa: PLC0415
    from apps.ledger.models import Price  # noqa: PLC0415

    prices = {f"{bucket}_usd": usd for bucket, usd in USD_PER_MILLION.items()}
    with operator_scope("benchmark"):
        if not Price.objects.filter(provider=PROVIDER, model=MODEL).exists():
            starts_at = now() - timedelta(days=365)
            Price.objects.create(provider=PROVIDER, model=MODEL, starts_at=starts_at, source="benchmark", **prices)


def make_contexts(number: int) -> list[Any]:
    """So many new tenants, each with a limit that is asked for and never reached; a context of each."""
    from apps.core.db import operator_scope  # noqa: PLC0415 - settings first
    from apps.core.ids import new_id  # noqa: PLC0415
    from apps.tenants import services  # noqa: PLC0415
    from apps.tenants.models import Tenant  # noqa: PLC0415

    made = [
        services.create_tenant(slug=f"b-{new_id().hex[-12:]}", name="Benchmark", tier="enterprise")[0]
        for _ in range(number)
    ]
    with operator_scope("benchmark"):
        Tenant.objects.filter(pk__in=[tenant.pk for tenant in made]).update(monthly_token_limit=10**15)
    return [services.context_of(tenant) for tenant in made]


def hold_settle(contexts: Sequence[Any]) -> Start:
    """Steps that hold and settle one operation of a chat, with what the gateway says of one."""
    from apps.core.ids import new_id  # noqa: PLC0415 - settings first
    from apps.ledger import till  # noqa: PLC0415
    from apps.ledger.types import Call, Charge, OperationKind, TokenCounts, TokenType  # noqa: PLC0415

    agent_id = UUID(int=1)
    counts = TokenCounts(fresh_input_tokens=900, cached_input_tokens=100, plain_output_tokens=150)
    usage = {"prompt_tokens": 1000, "completion_tokens": 150, "total_tokens": 1150}
    result = {"text": "An answer of the usual length. " * 20, "finish_reason": "stop"}
    metadata = {"execution_time_ms": 700}

    def start(number: int) -> Step:
        turns = _turns(contexts, number)

        def step() -> int:
            ctx = next(turns)
            charge = Charge(
                operation=OperationKind.CHAT,
                token_type=TokenType.LLM,
                payload={"question": "How long is the warranty?", "message": str(new_id())},
                agent_id=agent_id,
                conversation_id=new_id(),
                run_id=new_id(),
                metadata={"passages": 8},
            )
            call = Call(provider=PROVIDER, model=MODEL, hold_tokens=5000, deadline_seconds=65.0)
            held: Any = till.hold(ctx, charge, call)
            till.settle(
                ctx,
                held.attempt_id,
                counts,
                result=result,
                provider_request_id=f"req_{call.attempt_id}",
                raw_usage=usage,
                metadata=metadata,
            )
            return 1

        return step

    return start


def bulk(contexts: Sequence[Any]) -> Start:
    """Steps that book a batch of events which agree in nothing but their tenant."""
    from apps.ledger import records  # noqa: PLC0415 - settings first

    def start(number: int) -> Step:
        turns = _turns(contexts, number)

        def step() -> int:
            return len(records.record_many(next(turns), events(BATCH)))

        return step

    return start


def events(number: int) -> list[Any]:
    """Usage from elsewhere: so many events, spread over KEYS by DAYS rows of the daily statistics."""
    from apps.core import clock  # noqa: PLC0415 - settings first
    from apps.core.ids import new_id  # noqa: PLC0415
    from apps.ledger.records import UsageEvent  # noqa: PLC0415
    from apps.ledger.types import OperationKind, TokenCounts, TokenType  # noqa: PLC0415

    now = clock.now()
    return [
        UsageEvent(
            idempotency_key=f"job-{new_id()}",
            counts=TokenCounts(fresh_input_tokens=200 + n, plain_output_tokens=20),
            token_type=TokenType.LLM,
            operation=OperationKind.EXTRACTION,
            provider=PROVIDER,
            model=MODEL,
            agent_id=UUID(int=1 + n % KEYS),
            occurred_at=now - timedelta(days=n // KEYS % DAYS),
            metadata={"job": "nightly"},
        )
        for n in range(number)
    ]


def make_bare_table() -> None:
    """The entries' table once more: the same columns, indexes and checks, and no policies."""
    from django.db import connections  # noqa: PLC0415 - settings first

    with connections["owner"].cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS bare_entry")
        cursor.execute("CREATE TABLE bare_entry (LIKE ledger_entry INCLUDING ALL)")
        cursor.execute("GRANT SELECT, INSERT ON bare_entry TO nooble_app")


def bare_insert(contexts: Sequence[Any]) -> Start:
    """Steps that insert the entry which a step of :func:`hold_settle` writes, and commit."""
    row = _entry_of(contexts[0], hold_settle(contexts[:1]))
    places = ", ".join(["%s"] * len(row))
    statement = f"INSERT INTO bare_entry ({', '.join(row)}) VALUES ({places}) {_UNLESS_THERE}"

    def start(number: int) -> Step:
        turns, connection, varied = _turns(contexts, number), _connect(), _varied(row)

        def step() -> int:
            return int(connection.execute(statement, list(varied(next(turns)).values())).rowcount)

        return step

    return start


def bare_bulk(contexts: Sequence[Any]) -> Start:
    """Steps that insert as many entries as a step of :func:`bulk` writes, in one statement, and commit."""
    row = _entry_of(contexts[0], bulk(contexts[:1]))
    types = _column_types()
    arrays = ", ".join(f"%s::{types[name]}[]" for name in row)
    statement = f"INSERT INTO bare_entry ({', '.join(row)}) SELECT * FROM unnest({arrays}) {_UNLESS_THERE}"

    def start(number: int) -> Step:
        turns, connection, varied = _turns(contexts, number), _connect(), _varied(row)

        def step() -> int:
            ctx = next(turns)
            rows = [varied(ctx).values() for _ in range(BATCH)]
            return int(connection.execute(statement, [list(column) for column in zip(*rows, strict=True)]).rowcount)

        return step

    return start


_UNLESS_THERE = "ON CONFLICT (tenant_id, idempotency_key) DO NOTHING"


def _turns(contexts: Sequence[Any], number: int) -> Iterator[Any]:
    """The tenants over and over, from another one in each thread."""
    first = number * 7 % len(contexts)
    return cycle([*contexts[first:], *contexts[:first]])


def _connect() -> Any:
    """A connection of the application's role without anything of Django's around it."""
    import psycopg  # noqa: PLC0415 - with the settings only
    from django.db import connections  # noqa: PLC0415

    database = connections["default"].settings_dict
    return psycopg.connect(
        host=database["HOST"], dbname=database["NAME"], user=database["USER"], autocommit=True, prepare_threshold=2
    )


def _entry_of(ctx: Any, start: Start) -> dict[str, Any]:
    """The columns of an entry that a step wrote, jsonb as text."""
    from apps.core import db  # noqa: PLC0415 - settings first

    start(0)()
    with db.unit_of_work(ctx):
        row = db.fetch_one("SELECT * FROM ledger_entry ORDER BY id DESC LIMIT 1")
    assert row is not None
    return row


def _varied(row: dict[str, Any]) -> Callable[[Any], dict[str, Any]]:
    """Makes rows that differ from ``row`` in id, key and tenant, and are as long."""
    from apps.core.ids import new_id  # noqa: PLC0415 - settings first

    length = len(row["idempotency_key"])
    numbers, thread = count(), str(new_id())

    def vary(ctx: Any) -> dict[str, Any]:
        tenant = ctx.tenant_id
        key = f"{thread}:{next(numbers)}".ljust(length, "0")
        parties = {"tenant_id": tenant, "owner_tenant_id": tenant, "payer_tenant_id": tenant}
        return {**row, **parties, "id": new_id(), "idempotency_key": key}

    return vary


def _column_types() -> dict[str, str]:
    from apps.core import db  # noqa: PLC0415 - settings first

    rows = db.fetch_all(
        "SELECT attname, format_type(atttypid, NULL) AS type FROM pg_attribute"
        " WHERE attrelid = 'bare_entry'::regclass AND attnum > 0 AND NOT attisdropped"
    )
    return {row["attname"]: row["type"] for row in rows}
