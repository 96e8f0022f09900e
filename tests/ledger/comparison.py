"""Everything in the books, row by row, beside the model of it."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from apps.core.db import fetch_all, operator_scope
from tests.ledger.model import Model

_BUCKETS = "fresh_input_tokens, cached_input_tokens, cache_write_tokens, plain_output_tokens, reasoning_tokens"


@dataclass
class Comparison:
    """Fails where the database has something else than the model, or has changed an entry."""

    model: Model
    #: What the entries were when they were seen last.
    _seen: dict[UUID, str] = field(default_factory=dict)

    def check(self) -> None:
        with operator_scope("test"):
            self._calls()
            self._entries()
            self._sums()
            self._notes()

    def _calls(self) -> None:
        columns = "id, state, lease_epoch, coalesce(result::text, 'null') AS result"
        operations = self._rows(f"SELECT {columns} FROM ledger_operation WHERE {{ours}}")
        found = {row["id"]: (row["state"], row["lease_epoch"], json.loads(row["result"])) for row in operations}
        assert found == {each.id: (each.state, each.epoch, each.result) for each in self.model.operations}
        columns = f"id, state, hold_tokens, held_tokens, day, {_BUCKETS}, overage_tokens"
        attempts = self._rows(f"SELECT {columns} FROM ledger_attempt WHERE {{ours}}")
        assert {row["id"]: tuple(row.values())[1:] for row in attempts} == {
            each.id: (each.state, each.hold, each.held, each.day, *each.counts.buckets, each.overage)
            for each in self.model.attempts
        }

    def _entries(self) -> None:
        """One entry for each key, as it was written first."""
        rows = self._rows(
            f"""SELECT idempotency_key, kind, payer_tenant_id, day, billable, {_BUCKETS}, token_source,
                       (SELECT c.idempotency_key FROM ledger_entry c WHERE c.id = e.corrects_id) AS corrects,
                       id, e::text AS whole
                  FROM ledger_entry e WHERE {{ours}}"""
        )
        assert {row["idempotency_key"]: tuple(row.values())[:-2] for row in rows} == {
            e.key: (e.key, e.kind, e.payer.id, e.day, e.billable, *e.counts.buckets, e.counts.source, e.corrects)
            for e in self.model.entries.values()
        }
        assert len(rows) == len(self.model.entries)
        hashes = {row["id"]: hashlib.sha256(row["whole"].encode()).hexdigest() for row in rows}
        assert self._seen.items() <= hashes.items()
        self._seen = hashes

    def _sums(self) -> None:
        daily: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
        monthly: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
        for e in self.model.entries.values():
            for sums, day in ((daily, e.day), (monthly, e.day.replace(day=1))):
                group = sums[e.payer.id, day, e.billable]
                group[0] += e.counts.total_tokens
                group[1] += 1
        for table, column, sums in (("daily", "day", daily), ("monthly", "month", monthly)):
            rows = self._rows(
                f"""SELECT payer_tenant_id, {column}, billable, sum(total_tokens)::bigint AS tokens,
                           sum(entries)::bigint AS entries
                      FROM ledger_usage{table} WHERE {{ours}} GROUP BY 1, 2, 3"""
            )
            assert sorted(tuple(row.values()) for row in rows) == sorted((*group, *sums[group]) for group in sums)
        budgets = self._rows(
            """SELECT tenant_id, starts_on, spent_tokens, held_tokens, day, day_spent_tokens, day_held_tokens
                 FROM ledger_budget WHERE tenant_id = ANY(%s)"""
        )
        assert sorted(tuple(row.values()) for row in budgets) == sorted(self._budgets())

    def _budgets(self) -> Iterator[tuple[Any, ...]]:
        payers = {payer.id: payer for payer in self.model.payers}
        for (payer_id, month), day in self.model.latest.items():
            payer = payers[payer_id]
            sums = [
                amount(payer, day, month=whole)
                for whole in (True, False)
                for amount in (self.model.spent, self.model.held)
            ]
            yield payer_id, month, sums[0], sums[1], day, sums[2], sums[3]

    def _notes(self) -> None:
        rows = self._rows(
            "SELECT tenant_id, kind, subject, times_seen FROM ledger_discrepancy WHERE tenant_id = ANY(%s)"
        )
        found = {(row["tenant_id"], row["kind"], row["subject"]): row["times_seen"] for row in rows}
        assert Counter(found) == self.model.notes

    def _rows(self, statement: str) -> list[dict[str, Any]]:
        payers = [payer.id for payer in self.model.payers]
        return fetch_all(statement.replace("{ours}", "payer_tenant_id = ANY(%s)"), [payers])
