"""The ledger's statement of a month, as its payer reads it over HTTP, and whether its parts agree."""

import calendar
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Self
from zoneinfo import ZoneInfo

from nooble.demo_client import Client


@dataclass(frozen=True, kw_only=True)
class Payer:
    """Whose books they are, and where its months begin."""

    tenant_id: str
    time_zone: str

    def local(self, entry: dict[str, Any]) -> datetime:
        """When the entry's call began, on the payer's clock."""
        return datetime.fromisoformat(entry["occurred_at"]).astimezone(ZoneInfo(self.time_zone))

    def pays(self, entry: dict[str, Any], month: str) -> bool:
        """Whether the entry counts in the payer's books of ``month`` (``2026-11``)."""
        return bool(entry["payer_tenant_id"] == self.tenant_id) and f"{self.local(entry):%Y-%m}" == month


@dataclass(frozen=True, kw_only=True)
class Statement:
    """The present month: every entry, the statistics, and the budget."""

    payer: Payer
    entries: list[dict[str, Any]]
    daily: dict[str, Any]
    monthly: dict[str, Any]
    budget: dict[str, Any]

    @classmethod
    def read(cls, api: Client, payer: Payer) -> Self:
        budget = api.get("/budget")
        month = budget["period"]
        query = {"from": f"{month}-01", "to": f"{month}-{_last_day(month)}", "group_by": "operation,model"}
        return cls(
            payer=payer,
            entries=[entry for entry in api.pages("/usage/entries") if payer.pays(entry, month)],
            daily=api.get("/usage", params=query),
            monthly=api.get("/usage", params={**query, "granularity": "month"}),
            budget=budget,
        )

    def show(self, line: Callable[[str], None]) -> None:
        for text in (*self._entry_lines(), *self._statistics_lines(), *self._budget_lines(), *self._verdict_lines()):
            line(text)

    def differences(self) -> list[str]:
        """What does not agree, which is nothing."""
        total = sum(entry["total_tokens"] for entry in self.entries)
        billable = sum(entry["total_tokens"] for entry in self.entries if entry["billable"])
        pairs = [
            ("entries", total, "daily statistics", self.daily["totals"]["total_tokens"]),
            ("entries", total, "monthly statistics", self.monthly["totals"]["total_tokens"]),
            ("entries", len(self.entries), "entries counted by day", self.daily["totals"]["entries"]),
            ("billable entries", billable, "the budget's spent", self.budget["spent_tokens"]),
            ("held", self.budget["held_tokens"], "unknown", self.budget["unknown_tokens"]),
        ]
        return [f"DIFFERENCE: {left} {a}, {right} {b}" for left, a, right, b in pairs if Decimal(a) != Decimal(b)]

    def _entry_lines(self) -> Iterator[str]:
        yield f"\nLedger ({len(self.entries)} entries this month)"
        yield f"  {'when':<20}{'operation':<15}{'model':<18}{'in':>8}{'out':>7}{'total':>8}  source     billed"
        for entry in reversed(self.entries):
            yield (
                f"  {self.payer.local(entry):%Y-%m-%dT%H:%M:%S} {entry['operation']:<15}{entry['model']:<18}"
                f"{entry['input_tokens']:>8}{entry['output_tokens']:>7}{entry['total_tokens']:>8}  "
                f"{entry['token_source']:<11}{'yes' if entry['billable'] else 'no'}"
            )

    def _statistics_lines(self) -> Iterator[str]:
        yield "\nDaily statistics"
        for row in self.daily["results"]:
            yield (
                f"  {row['period']}  {row['operation']:<15}{row['model']:<18}{row['total_tokens']:>8} tokens"
                f"{row['entries']:>6} entries"
            )

    def _budget_lines(self) -> Iterator[str]:
        budget = self.budget
        limit = "none" if budget["limit_tokens"] is None else f"{budget['limit_tokens']:,}"
        yield (
            f"\nBudget of {budget['period']}: limit {limit}, spent {budget['spent_tokens']:,}, "
            f"set aside {budget['held_tokens']:,} (of that unknown: {budget['unknown_tokens']:,})"
        )

    def _verdict_lines(self) -> Iterator[str]:
        differences = self.differences()
        total = sum(entry["total_tokens"] for entry in self.entries)
        agreement = (
            f"The books agree: {total} tokens in {len(self.entries)} entries = daily = monthly statistics; "
            "billable = budget spent."
        )
        yield "\n" + ("\n".join(differences) or agreement)


def _last_day(month: str) -> int:
    return calendar.monthrange(*map(int, month.split("-")))[1]
