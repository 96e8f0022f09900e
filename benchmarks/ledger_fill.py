"""A large ledger, written set by set as the till's role, with statistics and budgets that agree with it.

So many entries over 1,000 tenants, 200 agents, 10 models and 90 days; a tenth of them bought through the till, the rest
reported. The largest tenant has some 3 % of them.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import ledger_steps
from benchmarks.windows import note

TENANTS, AGENTS, MODELS, DAYS = 1000, 200, 10, 90
#: A copy of the database that was made before it had an entry.
EMPTY = "nooble_empty"
CHUNK = 200_000


def fill(rows: int) -> int:
    """Bring the ledger to so many entries; returns how many there are."""
    if not entries():
        _prepare()
    _fill(rows)
    return entries()


def entries() -> int:
    from apps.core import db  # noqa: PLC0415 - settings first

    with db.operator_scope("benchmark"):
        row = db.fetch_one("SELECT count(*) AS number FROM ledger_entry")
    assert row is not None
    return int(row["number"])


def _prepare() -> None:
    """Tenants and prices, and a copy of the database as it is now, without an entry."""
    from django.db import connections  # noqa: PLC0415 - settings first

    from apps.core import db  # noqa: PLC0415

    with db.operator_scope("benchmark"):
        db.execute(_MAKE_TENANTS, {"tenants": TENANTS})
        db.execute(_MAKE_PRICES, {"models": MODELS})
    ledger_steps.make_price()
    name = connections["owner"].settings_dict["NAME"]
    connections.close_all()
    with connections["owner"].cursor() as cursor:
        cursor.execute("SELECT 1")
    connections["owner"].close()
    with _owner_elsewhere() as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {EMPTY}")
        connection.execute(f"CREATE DATABASE {EMPTY} TEMPLATE {name}")


@contextmanager
def _owner_elsewhere() -> Iterator[Any]:
    """The owner in another database: one that is copied may have nobody in it."""
    import psycopg  # noqa: PLC0415 - with the settings only
    from django.db import connections  # noqa: PLC0415

    database = connections["owner"].settings_dict
    with psycopg.connect(
        host=database["HOST"], user=database["USER"], dbname="postgres", autocommit=True
    ) as connection:
        yield connection


def _fill(rows: int) -> None:
    from django.db import connections  # noqa: PLC0415 - settings first

    missing = rows - entries()
    if missing <= 0:
        return
    started = time.perf_counter()
    for first in range(0, missing, CHUNK):
        number = min(CHUNK, missing - first)
        with _till() as cursor:
            cursor.execute(_FILL, {"first": first, "number": number, "of": missing, "days": DAYS, **_SIZES})
        note(f"{first + number} of {missing} entries after {time.perf_counter() - started:.0f} s")
    _sum_up()
    with connections["owner"].cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    note(f"filled in {time.perf_counter() - started:.0f} s")


def _sum_up() -> None:
    """Statistics and budgets from all entries, those of an earlier run among them, and differences long repaired."""
    from django.db import connections, transaction  # noqa: PLC0415 - settings first

    with transaction.atomic("owner"):
        with connections["owner"].cursor() as cursor:
            cursor.execute("TRUNCATE ledger_usagedaily, ledger_usagemonthly, ledger_budget")
        with _till() as cursor:
            for statement in (_SUM_UP_DAYS, _SUM_UP_MONTHS, _SUM_UP_BUDGETS, _MAKE_REPAIRED):
                cursor.execute(statement)


@contextmanager
def _till() -> Iterator[Any]:
    """The only role that may write the books; only the owner may become it."""
    from django.db import connections, transaction  # noqa: PLC0415 - settings first

    with transaction.atomic("owner"), connections["owner"].cursor() as cursor:
        cursor.execute("SET LOCAL ROLE nooble_till")
        yield cursor


_SIZES = {"tenants": TENANTS, "agents": AGENTS, "models": MODELS}
_TENANT = "md5('tenant' || {})::uuid"
_MAKE_TENANTS = f"""
    INSERT INTO tenants_tenant (id, slug, name, tier_id, time_zone, monthly_token_limit, hard_limit, is_active)
    SELECT {_TENANT.format("n")}, 'volume-' || n, 'Tenant ' || n, 'enterprise', 'UTC', 1e15, true, true
      FROM generate_series(0, %(tenants)s - 1) n
    ON CONFLICT DO NOTHING
"""
_MAKE_PRICES = """
    INSERT INTO ledger_price (id, tenant_id, provider, model, starts_at, fresh_input_usd, cached_input_usd,
                              cache_write_usd, plain_output_usd, reasoning_usd, source)
    SELECT gen_random_uuid(), '00000000-0000-0000-0000-000000000000', 'groq', 'volume-' || n, '2020-01-01',
           1, 0.5, 1, 3, 3, 'benchmark'
      FROM generate_series(0, %(models)s - 1) n
    ON CONFLICT DO NOTHING
"""
#: Oldest first, as they would have come. A tenant has three agents, an agent two models: one to answer, one to embed.
#: One entry in five was asked by one tenant of another's agent; of those the owner pays for every fifth.
_FILL = f"""
    WITH drawn AS MATERIALIZED (
        SELECT n, (%(of)s - n) * (%(days)s * interval '1 day' / %(of)s) AS age,
               floor(%(tenants)s * random() ^ 2)::integer AS consumer, floor(3 * random())::integer AS which,
               (200 + 2000 * random())::bigint AS input, (300 * random())::bigint AS output, n %% 5 = 0 AS is_shared,
               n %% 10 = 0 AS is_bought, random() < 0.5 AS is_chat
          FROM generate_series(%(first)s::bigint, %(first)s + %(number)s - 1) n
    ), made AS MATERIALIZED (
        SELECT *, uuidv7(-age) AS id, clock_timestamp() - age AS at, (consumer + 7 * which) %% %(agents)s AS agent,
               CASE WHEN is_bought THEN uuidv7(-age) END AS operation_id,
               CASE WHEN is_bought THEN uuidv7(-age) END AS attempt_id
          FROM drawn
    ), named AS MATERIALIZED (
        SELECT *, {_TENANT.format("consumer")} AS tenant_id,
               {_TENANT.format("CASE WHEN is_shared THEN agent * 5 %% %(tenants)s ELSE consumer END")} AS owner_id,
               {_TENANT.format("CASE WHEN n %% 25 = 0 THEN agent * 5 %% %(tenants)s ELSE consumer END")} AS payer_id,
               md5('agent' || agent)::uuid AS agent_id,
               'volume-' || (agent + CASE WHEN is_chat THEN 0 ELSE 5 END) %% %(models)s AS model,
               CASE WHEN is_chat THEN 'llm' ELSE 'embedding' END AS token_type,
               CASE WHEN is_chat THEN 'chat' ELSE 'query' END AS kind_of_work,
               CASE WHEN is_chat THEN output ELSE 0 END AS out_tokens,
               'chat:' || {_TENANT.format("consumer")} || ':' || md5(id::text) || ':' || n AS key
          FROM made
    ), operations AS (
        INSERT INTO ledger_operation (
            id, tenant_id, owner_tenant_id, payer_tenant_id, idempotency_key, payload_hash, token_type, operation,
            billable, state, result, error_code, error_detail, agent_id, run_id, metadata, created_at, finished_at,
            lease_epoch)
        SELECT operation_id, tenant_id, owner_id, payer_id, key, md5(key), token_type, kind_of_work, true, 'done',
               '{{"text": "An answer."}}', '', '', agent_id, operation_id, '{{}}', at, at, 1
          FROM named WHERE is_bought
    ), attempts AS (
        INSERT INTO ledger_attempt (
            id, tenant_id, owner_tenant_id, payer_tenant_id, operation_id, number, epoch, state, provider, model,
            model_family, hold_tokens, held_tokens, day, fresh_input_tokens, cached_input_tokens, cache_write_tokens,
            plain_output_tokens, reasoning_tokens, token_source, overage_tokens, provider_request_id, error_code,
            error_detail, opened_at, deadline, closed_at)
        SELECT attempt_id, tenant_id, owner_id, payer_id, operation_id, 1, 1, 'settled', 'groq', model, '', 5000, 0,
               (at AT TIME ZONE 'UTC')::date, input, 0, 0, out_tokens, 0, 'api', 0, 'req_' || attempt_id, '', '', at,
               at, at
          FROM named WHERE is_bought
    )
    INSERT INTO ledger_entry (
        id, tenant_id, owner_tenant_id, payer_tenant_id, kind, idempotency_key, payload_hash, operation_id, attempt_id,
        token_type, operation, provider, model, model_family, fresh_input_tokens, cached_input_tokens,
        cache_write_tokens, plain_output_tokens, reasoning_tokens, total_tokens, token_source, billable, cost_usd,
        reason, actor, day, agent_id, run_id, provider_request_id, attempts, occurred_at, recorded_at, metadata)
    SELECT id, tenant_id, owner_id, payer_id, 'usage', key, md5(key), operation_id, attempt_id, token_type,
           kind_of_work, 'groq', model, '', input, 0, 0, out_tokens, 0, input + out_tokens, 'api', true,
           round((input + 3 * out_tokens) / 1000000.0, 10), '', '', (at AT TIME ZONE 'UTC')::date, agent_id,
           operation_id, '', 1, at, at, '{{"execution_time_ms": 700}}'
      FROM named
"""
_KEY = (
    "owner_tenant_id, tenant_id, provider, model, agent_id, collection_id, operation, token_type, token_source,"
    " billable"
)
_SUMS = (
    *("fresh_input_tokens", "cached_input_tokens", "cache_write_tokens", "plain_output_tokens", "reasoning_tokens"),
    *("total_tokens", "cost_usd"),
)
_NOBODY = "'00000000-0000-0000-0000-000000000000'"
_ENTRY_KEY = _KEY.replace("agent_id", f"coalesce(agent_id, {_NOBODY})").replace(
    "collection_id", f"coalesce(collection_id, {_NOBODY})"
)
_SUM_UP_DAYS = f"""
    INSERT INTO ledger_usagedaily (payer_tenant_id, day, {_KEY}, {", ".join(_SUMS)}, entries, unpriced_entries)
    SELECT payer_tenant_id, day, {_ENTRY_KEY}, {", ".join(f"coalesce(sum({name}), 0)" for name in _SUMS)}, count(*),
           count(*) FILTER (WHERE cost_usd IS NULL)
      FROM ledger_entry GROUP BY {", ".join(str(n) for n in range(1, 13))}
"""
_SUM_UP_MONTHS = f"""
    INSERT INTO ledger_usagemonthly (payer_tenant_id, month, {_KEY}, {", ".join(_SUMS)}, entries, unpriced_entries)
    SELECT payer_tenant_id, date_trunc('month', day)::date, {_KEY}, {", ".join(f"sum({name})" for name in _SUMS)},
           sum(entries), sum(unpriced_entries)
      FROM ledger_usagedaily GROUP BY {", ".join(str(n) for n in range(1, 13))}
"""
_SUM_UP_BUDGETS = """
    INSERT INTO ledger_budget (tenant_id, starts_on, spent_tokens, held_tokens, day_spent_tokens, day_held_tokens)
    SELECT payer_tenant_id, date_trunc('month', day)::date, sum(total_tokens) FILTER (WHERE billable), 0, 0, 0
      FROM ledger_entry GROUP BY 1, 2
"""
#: What nobody has to look at any more, and what asking for the rest must pass by.
_MAKE_REPAIRED = """
    INSERT INTO ledger_discrepancy (
        id, tenant_id, kind, state, subject, amount_tokens, evidence, times_seen, resolution, resolved_at)
    SELECT id, payer_tenant_id, 'open_past_deadline', 'repaired', 'attempt ' || id, 0, '{}', 1, 'Marked unknown.',
           recorded_at
      FROM ledger_entry WHERE idempotency_key LIKE '%00'
    ON CONFLICT DO NOTHING
"""


def contexts(number: int) -> list[Any]:
    """Contexts of so many tenants, from the largest to the smallest."""
    from apps.core.db import operator_scope  # noqa: PLC0415 - settings first
    from apps.tenants import services  # noqa: PLC0415
    from apps.tenants.models import Tenant  # noqa: PLC0415

    slugs = [f"volume-{n * TENANTS // number}" for n in range(number)]
    with operator_scope("benchmark"):
        tenants = Tenant.objects.in_bulk(slugs, field_name="slug")
    return [services.context_of(tenants[slug]) for slug in slugs]
