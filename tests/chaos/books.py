"""Reading the books after the storm, by SQL of our own, and holding them against the provider's tally."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from apps.core import clock, delivery
from apps.ledger import statements
from apps.tenants import services as tenants
from tests.chaos.cluster import Auditor, Cluster
from tests.chaos.plan import USAGES, Item, Profile
from tests.chaos.workload import Customer, Workload

_BUCKETS = "fresh_input_tokens + cached_input_tokens + cache_write_tokens + plain_output_tokens + reasoning_tokens"
_OPERATIONS = "SELECT * FROM ledger_operation WHERE payer_tenant_id = ANY(%s)"
_ATTEMPTS = f"SELECT *, {_BUCKETS} AS total FROM ledger_attempt WHERE payer_tenant_id = ANY(%s)"
_ENTRIES = "SELECT * FROM ledger_entry WHERE payer_tenant_id = ANY(%s)"
_RUNS = "SELECT id, status, error_code, deliveries, answer, tenant_id FROM agents_run WHERE tenant_id = ANY(%s)"
_DOCUMENTS = """
    SELECT d.id, d.status, d.error_code, d.deliveries, d.chunk_count, d.tenant_id,
           (SELECT count(*) FROM collections_chunkembedding e WHERE e.document_id = d.id) AS vectors,
           (SELECT max(b.deliveries) FROM collections_embeddingbatch b WHERE b.document_id = d.id) AS batch_deliveries
      FROM collections_document d WHERE d.tenant_id = ANY(%s)
"""

Row = dict[str, Any]


@dataclass(kw_only=True)
class Books:
    """Everything that was written for the tenants of one profile, and what the provider counted for them."""

    profile: Profile
    customers: Sequence[Customer]
    operations: dict[UUID, Row]
    attempts: dict[str, Row]
    entries: list[Row]
    rows: dict[UUID, Row]
    #: By request id: what the provider counted, once for each time.
    tally: Mapping[str, Sequence[int]]
    #: By request id: the fault that the request met.
    faults: Mapping[str, str]

    @cached_property
    def usage(self) -> list[Row]:
        """The entries of operations, corrections left out: one for each that cost something."""
        return [entry for entry in self._bought if entry["kind"] == "usage"]

    @cached_property
    def told(self) -> list[Row]:
        """Entries at what the provider said; those that its word came late for, with their corrections."""
        return [entry for entry in self._bought if self._is_told(entry)]

    @cached_property
    def estimated(self) -> list[Row]:
        """Entries at an estimate: the provider's word was absent or absurd, or the answer broke off."""
        return [entry for entry in self._bought if not self._is_told(entry)]

    @cached_property
    def doubtful(self) -> list[Row]:
        """Attempts whose true count no entry holds, as far as we know."""
        at_estimate = {entry["attempt_id"] for entry in self.estimated}
        states = {"unknown", "lost"}
        return [a for a in self.attempts.values() if a["state"] in states and a["id"] not in at_estimate]

    @cached_property
    def _bought(self) -> list[Row]:
        """Without the work that no provider did."""
        return [entry for entry in self.entries if entry["operation_id"]]

    def _is_told(self, entry: Row) -> bool:
        attempt = self.attempts[str(entry["attempt_id"])]
        return (attempt["state"], attempt["token_source"]) == ("settled", "api") or attempt["state"] == "void"

    def true_count(self, rows: Sequence[Row], name: str) -> int:
        """What the provider counted for the attempts that ``name`` names in these rows."""
        return sum(sum(self.tally.get(request_id, ())) for request_id in {str(row[name]) for row in rows})

    def ends(self, state: str) -> int:
        return sum(operation["state"] == state for operation in self.operations.values())


def read(cluster: Cluster, customers: Sequence[Customer], profile: Profile) -> Books:
    """The books of one profile as they stand."""
    own = [customer for customer in customers if customer.profile == profile]
    ids = [customer.tenant.pk for customer in own]
    lines = cluster.fake.tally()
    counted: dict[str, list[int]] = {}
    for line in lines:
        counted.setdefault(line["request_id"], []).append(line["total"])
    with cluster.connect() as auditor:
        attempts = {str(row["id"]): row for row in _rows(auditor, _ATTEMPTS, ids)}
        others = {str(row["id"]) for row in auditor.execute("SELECT id FROM ledger_attempt")} - attempts.keys()
        return Books(
            profile=profile,
            customers=own,
            operations={row["id"]: row for row in _rows(auditor, _OPERATIONS, ids)},
            attempts=attempts,
            entries=_rows(auditor, _ENTRIES, ids),
            rows={row["id"]: row for sql in (_RUNS, _DOCUMENTS) for row in _rows(auditor, sql, ids)},
            # What nobody asked for stays in: it is a difference.
            tally={request: totals for request, totals in counted.items() if request not in others},
            faults={a["request_id"]: a["fault"] for a in cluster.fake.arrivals() if "fault" in a},
        )


def _rows(auditor: Auditor, statement: str, ids: Sequence[UUID]) -> list[Row]:
    return auditor.execute(statement, [list(ids)]).fetchall()


def differences(books: Books, workload: Workload) -> list[str]:
    """What is not as it must be, a sentence each; empty when everything agrees."""
    items = [item for item in workload.plan.items if item.profile == books.profile]
    checks = (
        _work(books, items, workload.asked),
        _operations(books),
        _attempts(books),
        _estimates(books),
        _tally(books),
        _statements(books),
    )
    return [f"{books.profile}: {difference}" for check in checks for difference in check]


def differences_after_grace(before: Books, after: Books) -> list[str]:
    """What giving up may not change, and what it must: no hold is left, and nobody is billed for it."""
    held = sum(attempt["held_tokens"] for attempt in after.attempts.values())
    found = [f"{held} tokens are still held"] if held else []
    if {entry["id"] for entry in before.entries} != {entry["id"] for entry in after.entries}:
        found.append("the entries are not what they were")
    found += [f"attempt {id_} is unknown" for id_, attempt in after.attempts.items() if attempt["state"] == "unknown"]
    return [f"{after.profile}, after the grace period: {each}" for each in (*found, *_statements(after))]


def _work(books: Books, items: Sequence[Item], asked: Mapping[str, UUID]) -> Iterator[str]:
    """What was asked for is there, or was refused for a reason that the plan gave."""
    for item in items:
        row = books.rows.get(asked.get(item.marker))  # type: ignore[arg-type]
        if row is None:
            yield f"{item.marker}: was not taken in"
        elif not _as_planned(item, row):
            yield f"{item.marker}: {row['status']} {row['error_code']} after {row['deliveries']} deliveries"
        elif row["status"] == "ready" and row["vectors"] != row["chunk_count"]:
            yield f"{item.marker}: {row['chunk_count']} chunks, {row['vectors']} vectors"


def _as_planned(item: Item, row: Row) -> bool:
    if item.refused:
        return bool(row["error_code"] == "provider_refused")
    if item.kind == "cancel" and row["error_code"] in {"stopped", "operation_ended"}:
        return True
    if row["status"] in {"succeeded", "ready"}:
        return True
    if row["status"] != "failed":
        return False
    if item.tight and row["error_code"] == "budget_exceeded":
        return True
    # Struck again and again, a piece of work is given up: the product's own limit.
    deliveries: int = max(row["deliveries"], row.get("batch_deliveries") or 0)
    return deliveries >= delivery.MAX_DELIVERIES


def _operations(books: Books) -> Iterator[str]:
    """Each has ended; a done one has one entry, a failed one none, a cancelled one what had been consumed."""
    entries = Counter(entry["operation_id"] for entry in books.usage)
    for operation_id, operation in books.operations.items():
        allowed = {"done": {1}, "failed": {0}, "cancelled": {0, 1}}.get(operation["state"])
        if allowed is None:
            yield f"operation {operation_id} is {operation['state']}"
        elif entries[operation_id] not in allowed:
            yield f"operation {operation_id} is {operation['state']} and has {entries[operation_id]} entries"
    for operation_id in entries.keys() - books.operations.keys():
        yield f"an entry names operation {operation_id}, which is not there"


def _attempts(books: Books) -> Iterator[str]:
    """Each one against what the provider counted for its request."""
    for attempt_id, attempt in books.attempts.items():
        counted, state = books.tally.get(attempt_id, ()), attempt["state"]
        what = f"attempt {attempt_id} ({books.faults.get(attempt_id, 'no fault')}) is {state}, the provider counted"
        if len(counted) > 1:
            yield f"{what} it {len(counted)} times"
        elif state == "open" or (state == "void" and counted):
            yield f"{what} {sum(counted)}"
        elif state == "settled" and attempt["token_source"] == "api" and attempt["total"] != sum(counted):
            yield f"{what} {sum(counted)} and not {attempt['total']}"
        elif state in {"unknown", "lost"} and sum(counted) > attempt["hold_tokens"]:
            yield f"{what} {sum(counted)}, more than the hold of {attempt['hold_tokens']}"
        if attempt["overage_tokens"]:
            yield f"attempt {attempt_id} cost {attempt['overage_tokens']} more than its hold"
        if state in {"open", "unknown"} and books.profile == "askable":
            yield f"attempt {attempt_id} is {state}, and its provider could be asked"
    for request_id in books.tally.keys() - books.attempts.keys():
        yield f"the provider counted {sum(books.tally[request_id])} for {request_id}, of which we know nothing"


def _estimates(books: Books) -> Iterator[str]:
    """An estimate stands where the provider's word was of no use or the answer broke off, and nowhere else."""
    for entry in books.estimated:
        fault = books.faults.get(str(entry["attempt_id"]), "")
        if fault not in USAGES and not books.attempts[str(entry["attempt_id"])]["estimate_entry_id"]:
            yield f"entry {entry['id']} is at an estimate, and its request met {fault or 'no fault'}"


def _tally(books: Books) -> Iterator[str]:
    """Entries, doubtful attempts and the truth behind estimates are the provider's tally, to the token."""
    entries = sum(entry["total_tokens"] for entry in books.told)
    doubt = books.true_count(books.doubtful, "id")
    behind = books.true_count(books.estimated, "attempt_id")
    tally = sum(map(sum, books.tally.values()))
    if entries + doubt + behind != tally:
        yield f"entries {entries} + in doubt {doubt} + behind estimates {behind} is not the tally of {tally}"


def _statements(books: Books) -> Iterator[str]:
    """Entries, daily rows, monthly rows and budget, for each tenant."""
    month = clock.today("UTC").replace(day=1)
    for customer in books.customers:
        for difference in statements.statement(tenants.context_of(customer.tenant), month).differences():
            yield f"{customer.tenant.slug}: {difference}"
