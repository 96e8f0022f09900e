"""What was used: sums from the statistics rows, never from the entries themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, get_args

from django.db.models import QuerySet, Sum

from apps.core.context import ExecutionContext
from apps.core.ids import NO_ID
from apps.ledger.models import UsageDaily, UsageMonthly
from apps.ledger.types import BUCKETS

Granularity = Literal["day", "month"]
Role = Literal["payer", "owner", "consumer"]
Group = Literal["provider", "model", "agent", "collection", "operation", "token_type", "consumer"]
GRANULARITIES, ROLES, GROUPS = get_args(Granularity), get_args(Role), get_args(Group)

_COLUMNS = {"agent": "agent_id", "collection": "collection_id", "consumer": "tenant_id"}
_PARTY = {"payer": "payer_tenant_id", "owner": "owner_tenant_id", "consumer": "tenant_id"}
_SUMS = (*BUCKETS, "total_tokens", "cost_usd", "entries", "unpriced_entries")


@dataclass(frozen=True, kw_only=True)
class UsageQuery:
    """A range of days, both ends included, and how to sum over it."""

    start: date
    end: date
    granularity: Granularity = "day"
    group_by: tuple[Group, ...] = ()
    role: Role = "payer"


def usage(ctx: ExecutionContext, query: UsageQuery) -> dict[str, Any]:
    """Sums by period and group, and over all. The caller is in the context's unit of work."""
    rows, period = _rows(query)
    rows = rows.filter(**{_PARTY[query.role]: ctx.tenant_id, f"{period}__range": _range(query)})
    columns = [period, *(_COLUMNS.get(group, group) for group in query.group_by)]
    sums = {bucket: Sum(bucket) for bucket in _SUMS}
    # One query: the totals are what its rows add up to.
    grouped = list(rows.order_by(*columns).values(*columns).annotate(**sums))
    results = [_shown(row, period, query.group_by) for row in grouped]
    return {"results": results, "totals": _totals(results)}


def _rows(query: UsageQuery) -> tuple[QuerySet[Any], str]:
    if query.granularity == "month":
        return UsageMonthly.objects.all(), "month"
    return UsageDaily.objects.all(), "day"


def _range(query: UsageQuery) -> tuple[date, date]:
    return (query.start.replace(day=1) if query.granularity == "month" else query.start, query.end)


def _shown(row: dict[str, Any], period: str, groups: Sequence[Group]) -> dict[str, Any]:
    named: dict[str, Any] = {group: _name(row[_COLUMNS.get(group, group)]) for group in groups}
    return {"period": row[period].isoformat(), **named, **_counts(row)}


def _name(value: Any) -> str | None:
    return None if value == NO_ID else str(value)


def _counts(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "input_tokens": row["fresh_input_tokens"] + row["cached_input_tokens"] + row["cache_write_tokens"],
        "cached_input_tokens": row["cached_input_tokens"],
        "output_tokens": row["plain_output_tokens"] + row["reasoning_tokens"],
        "reasoning_tokens": row["reasoning_tokens"],
        "total_tokens": row["total_tokens"],
        "cost_usd": row["cost_usd"],
        "entries": row["entries"],
        "unpriced_entries": row["unpriced_entries"],
    }


def _totals(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = _counts(dict.fromkeys(_SUMS, 0))
    return {name: sum((result[name] for result in results), start=0) for name in names}
