"""What must agree in the books, one statement for each: it returns what does not.

An entry, its statistics and its budget move in one transaction, so one statement, which sees one snapshot, never finds
a difference that is only work in progress. Nothing is locked. Every statement returns the payer (``tenant_id``), the
``subject``, which names the same thing each time it is found, the ``amount`` in tokens, and the ``evidence``.
"""

from dataclasses import dataclass

from apps.ledger.models.sums import GROUP
from apps.ledger.types import BUCKETS, DiscrepancyKind

#: What a statistics row is a sum of, in the table's own names.
SUMS = (*BUCKETS, "total_tokens", "cost_usd", "entries", "unpriced_entries")
#: What makes it one row, beside its day or month.
KEYS = tuple(GROUP)


@dataclass(frozen=True, kw_only=True)
class Check:
    """``find`` may use ``%(since)s``, the first day compared, ``%(grace)s`` and ``%(nobody)s``."""

    kind: DiscrepancyKind
    find: str


def _columns(prefix: str, names: tuple[str, ...]) -> str:
    return ", ".join(f"{prefix}{name}" for name in names)


def _differences(period: str, truth: str, table: str) -> str:
    """Rows of ``truth`` and of a statistics table that differ, with the difference to be added to the table."""
    key = (period, *KEYS)
    deltas = ", ".join(f"coalesce(t.{name}, 0) - coalesce(s.{name}, 0) AS {name}" for name in SUMS)
    differs = " OR ".join(f"coalesce(t.{name}, 0) <> coalesce(s.{name}, 0)" for name in SUMS)
    return f"""
        WITH truth AS ({truth}),
             stated AS (SELECT {_columns("", key)}, {_columns("", SUMS)} FROM {table} WHERE {period} >= %(since)s),
             difference AS (
                 SELECT {_columns("", key)}, {deltas} FROM truth t FULL JOIN stated s USING ({_columns("", key)})
                  WHERE {differs})
        SELECT payer_tenant_id AS tenant_id,
               {period} || ' ' || md5(concat_ws('|', {_columns("", KEYS)})) AS subject,
               total_tokens::bigint AS amount, to_jsonb(difference) AS evidence
          FROM difference ORDER BY payer_tenant_id, {period}, {_columns("", KEYS[1:])}
    """  # noqa: S608 - every name is ours


_ENTRIES_BY_DAY = f"""
    SELECT day, {_columns("", KEYS[:5])}, coalesce(agent_id, %(nobody)s) AS agent_id,
           coalesce(collection_id, %(nobody)s) AS collection_id, {_columns("", KEYS[7:])},
           {", ".join(f"sum({name}) AS {name}" for name in SUMS[:6])}, coalesce(sum(cost_usd), 0) AS cost_usd,
           count(*) AS entries, count(*) FILTER (WHERE cost_usd IS NULL) AS unpriced_entries
      FROM ledger_entry WHERE day >= %(since)s
     GROUP BY day, {_columns("", KEYS[:5])}, coalesce(agent_id, %(nobody)s), coalesce(collection_id, %(nobody)s),
              {_columns("", KEYS[7:])}
"""  # noqa: S608 - every name is ours
_DAYS_BY_MONTH = f"""
    SELECT date_trunc('month', day)::date AS month, {_columns("", KEYS)},
           {", ".join(f"sum({name}) AS {name}" for name in SUMS)}
      FROM ledger_usagedaily WHERE day >= %(since)s GROUP BY 1, {_columns("", KEYS)}
"""  # noqa: S608 - every name is ours

_BUDGET_SPENT = """
    WITH month AS (
        SELECT payer_tenant_id AS tenant_id, month AS starts_on, sum(total_tokens) FILTER (WHERE billable) AS spent
          FROM ledger_usagemonthly WHERE month >= %(since)s GROUP BY 1, 2
    ), day AS (
        SELECT payer_tenant_id AS tenant_id, day, sum(total_tokens) FILTER (WHERE billable) AS spent
          FROM ledger_usagedaily WHERE day >= %(since)s GROUP BY 1, 2
    ), budget AS (
        SELECT tenant_id, starts_on, day, spent_tokens, day_spent_tokens FROM ledger_budget WHERE starts_on >= %(since)s
    ), difference AS (
        SELECT tenant_id, starts_on, coalesce(m.spent, 0) - coalesce(b.spent_tokens, 0) AS spent_tokens,
               CASE WHEN b.day IS NULL THEN 0 ELSE coalesce(d.spent, 0) - b.day_spent_tokens END AS day_spent_tokens
          FROM month m FULL JOIN budget b USING (tenant_id, starts_on) LEFT JOIN day d USING (tenant_id, day)
    )
    SELECT tenant_id, starts_on::text AS subject, greatest(abs(spent_tokens), abs(day_spent_tokens))::bigint AS amount,
           to_jsonb(difference) AS evidence
      FROM difference WHERE spent_tokens <> 0 OR day_spent_tokens <> 0 ORDER BY tenant_id, starts_on DESC
"""
_BUDGET_HELD = """
    WITH attempt AS (
        SELECT payer_tenant_id AS tenant_id, day, held_tokens FROM ledger_attempt WHERE state IN ('open', 'unknown')
    ), month AS (
        SELECT tenant_id, date_trunc('month', day)::date AS starts_on, sum(held_tokens) AS held
          FROM attempt GROUP BY 1, 2
    ), day AS (
        SELECT tenant_id, day, sum(held_tokens) AS held FROM attempt GROUP BY 1, 2
    ), difference AS (
        SELECT tenant_id, starts_on, coalesce(m.held, 0) - coalesce(b.held_tokens, 0) AS held_tokens,
               CASE WHEN b.day IS NULL THEN 0 ELSE coalesce(d.held, 0) - b.day_held_tokens END AS day_held_tokens
          FROM month m FULL JOIN ledger_budget b USING (tenant_id, starts_on) LEFT JOIN day d USING (tenant_id, day)
    )
    SELECT tenant_id, starts_on::text AS subject, greatest(abs(held_tokens), abs(day_held_tokens))::bigint AS amount,
           to_jsonb(difference) AS evidence
      FROM difference WHERE held_tokens <> 0 OR day_held_tokens <> 0 ORDER BY tenant_id, starts_on DESC
"""
_OPERATION_WITHOUT_ENTRY = """
    SELECT o.payer_tenant_id AS tenant_id, 'operation ' || o.id AS subject,
           coalesce(a.fresh_input_tokens + a.cached_input_tokens + a.cache_write_tokens + a.plain_output_tokens
                    + a.reasoning_tokens, 0) AS amount,
           jsonb_build_object('operation_id', o.id, 'attempt_id', a.id, 'key', o.idempotency_key) AS evidence
      FROM ledger_operation o LEFT JOIN ledger_attempt a ON a.operation_id = o.id AND a.state = 'settled'
     WHERE o.state = 'done' AND o.created_at >= %(since)s::date - 1
       AND NOT EXISTS (SELECT FROM ledger_entry e
                        WHERE e.tenant_id = o.tenant_id AND e.operation_id = o.id
                          AND e.idempotency_key IN (o.idempotency_key, o.idempotency_key || '#' || o.id))
     ORDER BY o.id
"""
_ENTRY_WITHOUT_OPERATION = """
    SELECT e.payer_tenant_id AS tenant_id, 'entry ' || e.id AS subject, e.total_tokens AS amount,
           jsonb_build_object('entry_id', e.id, 'operation_id', e.operation_id, 'operation_state', o.state) AS evidence
      FROM ledger_entry e LEFT JOIN ledger_operation o ON o.id = e.operation_id
     WHERE e.day >= %(since)s AND e.kind = 'usage' AND e.operation_id IS NOT NULL
       AND (o.id IS NULL OR o.state IN ('pending', 'failed'))
     ORDER BY e.id
"""
_OPEN_PAST_DEADLINE = """
    SELECT a.payer_tenant_id AS tenant_id, 'attempt ' || a.id AS subject, a.held_tokens AS amount,
           jsonb_build_object('attempt_id', a.id, 'operation_id', a.operation_id, 'deadline', a.deadline) AS evidence
      FROM ledger_attempt a JOIN ledger_operation o ON o.id = a.operation_id
     WHERE a.state = 'open' AND a.deadline < clock_timestamp() AND o.state = 'pending'
       AND coalesce(o.lease_expires_at < clock_timestamp(), true)
     ORDER BY a.id
"""
_UNKNOWN_PAST_GRACE = """
    SELECT a.payer_tenant_id AS tenant_id, 'attempt ' || a.id AS subject, a.held_tokens AS amount,
           jsonb_build_object('attempt_id', a.id, 'operation_id', a.operation_id, 'deadline', a.deadline) AS evidence
      FROM ledger_attempt a
     WHERE a.state = 'unknown' AND a.deadline < clock_timestamp() - %(grace)s
     ORDER BY a.id
"""
_HOLD_WITHOUT_OPERATION = """
    SELECT a.payer_tenant_id AS tenant_id, 'attempt ' || a.id AS subject, a.held_tokens AS amount,
           jsonb_build_object('attempt_id', a.id, 'operation_id', o.id, 'operation_state', o.state) AS evidence
      FROM ledger_attempt a JOIN ledger_operation o ON o.id = a.operation_id
     WHERE a.state = 'open' AND o.state <> 'pending'
     ORDER BY a.id
"""
_UNPRICED_MODEL = """
    SELECT payer_tenant_id AS tenant_id, provider || '/' || model AS subject, sum(total_tokens)::bigint AS amount,
           jsonb_build_object('provider', provider, 'model', model, 'entries', sum(unpriced_entries)) AS evidence
      FROM ledger_usagemonthly m
     WHERE month >= %(since)s AND unpriced_entries > 0
       AND NOT EXISTS (SELECT FROM ledger_price p WHERE p.provider = m.provider AND p.model = m.model
                          AND p.tenant_id IN (%(nobody)s, m.payer_tenant_id))
     GROUP BY payer_tenant_id, provider, model ORDER BY 1, 2
"""

# A task's result is a note of Celery's, not a fact; one that says "done" while its operation waits for nobody is a sign
# that something between the two is broken. Ten minutes: whatever still drives the operation has come back by then.
_TASK_RESULT = """
    SELECT o.payer_tenant_id AS tenant_id, 'operation ' || o.id AS subject, 0::bigint AS amount,
           jsonb_build_object('operation_id', o.id, 'task_id', r.task_id, 'task_name', r.task_name) AS evidence
      FROM django_celery_results_taskresult r
      JOIN ledger_operation o ON o.run_id = substring(r.result FROM '"run_id": "([0-9a-f-]{36})"')::uuid
     WHERE r.status = 'SUCCESS' AND r.date_done BETWEEN %(since)s AND clock_timestamp() - interval '10 minutes'
       AND o.state = 'pending' AND coalesce(o.lease_expires_at < clock_timestamp(), true)
     ORDER BY o.id
"""

_DAILY = _differences("day", _ENTRIES_BY_DAY, "ledger_usagedaily")
_MONTHLY = _differences("month", _DAYS_BY_MONTH, "ledger_usagemonthly")

#: In this order: what is repaired first is what the next one is compared with.
CHECKS = (
    Check(kind=DiscrepancyKind.OPERATION_WITHOUT_ENTRY, find=_OPERATION_WITHOUT_ENTRY),
    Check(kind=DiscrepancyKind.ENTRY_WITHOUT_OPERATION, find=_ENTRY_WITHOUT_OPERATION),
    Check(kind=DiscrepancyKind.DAILY_STATISTICS, find=_DAILY),
    Check(kind=DiscrepancyKind.MONTHLY_STATISTICS, find=_MONTHLY),
    Check(kind=DiscrepancyKind.BUDGET_SPENT, find=_BUDGET_SPENT),
    Check(kind=DiscrepancyKind.HOLD_WITHOUT_OPERATION, find=_HOLD_WITHOUT_OPERATION),
    Check(kind=DiscrepancyKind.OPEN_PAST_DEADLINE, find=_OPEN_PAST_DEADLINE),
    Check(kind=DiscrepancyKind.UNKNOWN_PAST_GRACE, find=_UNKNOWN_PAST_GRACE),
    Check(kind=DiscrepancyKind.BUDGET_HELD, find=_BUDGET_HELD),
    Check(kind=DiscrepancyKind.TASK_RESULT, find=_TASK_RESULT),
    Check(kind=DiscrepancyKind.UNPRICED_MODEL, find=_UNPRICED_MODEL),
)
