"""The main job, shown: documents go in, an agent answers about them, and the ledger accounts for every token.

It is a client like any other: everything goes through the HTTP API of real processes.
"""

import calendar
import hashlib
import mimetypes
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from apps.collections.file_types import named_type

ROOT = Path(__file__).resolve().parent.parent
QUESTIONS = (
    "How much is reimbursed for a hotel room per night?",
    "When are invoices due?",
    "How many requests per minute does the API accept?",
    "When is the endpoint /v2/vessels switched off?",
    "What does Harbour pay towards parental leave?",
)
BAR_WIDTH = 30
POLL_SECONDS = 0.2
#: A document that takes longer has failed, whatever its status says.
INGESTION_SECONDS = 600
WAIT_SECONDS = 60


class DemoError(RuntimeError):
    """The demonstration cannot go on; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What is shown: which documents, which questions, and where the lines go."""

    base_url: str
    key: str
    documents: Sequence[Path]
    questions: Sequence[str]
    show: Callable[[str], None]

    def run(self) -> list[str]:
        """Show it; returns what does not agree in the books, which is nothing."""
        with httpx.Client(base_url=f"{self.base_url}/api/v1", headers=self._headers(), timeout=90) as api:
            collection = self._collection(api)
            self._ingest(api, collection)
            agent = self._agent(api, collection)
            for number, question in enumerate(self.questions, start=1):
                self._ask(api, agent, number, question)
            return Statement(api, self.show).print()

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def _slug(self) -> str:
        """One collection for each set of documents, so that questions are about those that were named."""
        names = "\n".join(str(path.resolve()) for path in self.documents)
        return f"demo-{hashlib.sha256(names.encode()).hexdigest()[:12]}"

    def _collection(self, api: httpx.Client) -> str:
        found = _find(api, "/collections", self._slug())
        body = {"slug": self._slug(), "name": "Demonstration"}
        return str(found["id"] if found else _json(api.post("/collections", json=body))["id"])

    def _agent(self, api: httpx.Client, collection: str) -> str:
        found = _find(api, "/agents", self._slug())
        body = {"slug": self._slug(), "name": "Demonstration", "rag": {"collections": [collection]}}
        return str(found["id"] if found else _json(api.post("/agents", json=body))["id"])

    def _ingest(self, api: httpx.Client, collection: str) -> None:
        self.show(f"\nDocuments ({len(self.documents)})")
        uploaded = [self._upload(api, collection, path) for path in self.documents]
        waiting = {document["id"]: document for document in uploaded}
        deadline = time.monotonic() + INGESTION_SECONDS
        while True:
            for identifier in [known for known, document in waiting.items() if not _is_finished(document)]:
                waiting[identifier] = _json(api.get(f"/documents/{identifier}"))
            self._draw(list(waiting.values()))
            if all(map(_is_finished, waiting.values())):
                break
            if time.monotonic() > deadline:
                raise DemoError("The documents were not ready in time; .nooble/log says why.")
            time.sleep(POLL_SECONDS)
        self._report(waiting.values())

    def _upload(self, api: httpx.Client, collection: str, path: Path) -> dict[str, Any]:
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        response = api.post(
            f"/collections/{collection}/documents", files={"file": (path.name, path.read_bytes(), kind)}
        )
        return _json(response)

    def _draw(self, documents: Sequence[dict[str, Any]]) -> None:
        done = sum(document["progress"] if not _is_finished(document) else 1 for document in documents)
        share = done / len(documents)
        bar = "█" * round(BAR_WIDTH * share)
        if sys.stdout.isatty():
            sys.stdout.write(f"\r  {bar:·<{BAR_WIDTH}} {share:4.0%}")
            sys.stdout.flush()

    def _report(self, documents: Iterable[dict[str, Any]]) -> None:
        if sys.stdout.isatty():
            sys.stdout.write("\r" + " " * (BAR_WIDTH + 8) + "\r")
        for document in documents:
            pages = f", {document['pages']} pages" if document["pages"] else ""
            outcome = f"{document['chunks']} chunks, {document['tokens']} tokens{pages}"
            if document["status"] == "failed":
                outcome = f"FAILED: {document['error']['code']}: {document['error']['detail']}"
            self.show(f"  {document['name']:<42} {outcome}")

    def _ask(self, api: httpx.Client, agent: str, number: int, question: str) -> None:
        body = {"agent_id": agent, "message": question}
        run = _json(api.post("/chat", json=body, headers={"Prefer": f"wait={WAIT_SECONDS}"}))
        self.show(f"\n{number}. {question}")
        if run.get("status") != "succeeded":
            raise DemoError(f"The run {run.get('id') or run.get('run_id')} did not succeed: {run.get('error')}")
        self.show(f"   {run['answer']}")
        for citation in run["citations"]:
            page = f", page {citation['page']}" if citation["page"] else ""
            self.show(f"     ↳ {citation['document_name']}{page}: “{_shortened(citation['quote'])}”")
        usage = run["usage"]
        self.show(
            f"   {usage['input_tokens']} tokens in, {usage['output_tokens']} out, {usage['embedding_tokens']} to embed "
            f"the question; {run['timings_ms']['total']} ms"
        )


class Statement:
    """The ledger's statement of this month: every entry, the statistics, the budget, and whether they agree."""

    def __init__(self, api: httpx.Client, show: Callable[[str], None]) -> None:
        self._api = api
        self._show = show
        self._budget = _json(api.get("/budget"))
        month = self._budget["period"]
        self._entries = [entry for entry in _pages(api, "/usage/entries") if entry["occurred_at"][:7] == month]
        start = f"{month}-01"
        query = {"from": start, "to": f"{month}-{_last_day(month)}", "group_by": "operation,model"}
        self._daily = _json(api.get("/usage", params=query))
        self._monthly = _json(api.get("/usage", params={**query, "granularity": "month"}))

    def print(self) -> list[str]:
        """Show it; returns what does not agree."""
        self._print_entries()
        self._print_statistics()
        self._print_budget()
        differences = self._differences()
        total = sum(entry["total_tokens"] for entry in self._entries)
        verdict = (
            f"{total} tokens in {len(self._entries)} entries = daily = monthly statistics; billable = budget spent"
        )
        self._show("\n" + ("\n".join(differences) if differences else f"The books agree: {verdict}."))
        return differences

    def _print_entries(self) -> None:
        self._show(f"\nLedger ({len(self._entries)} entries this month)")
        self._show(f"  {'when':<20}{'operation':<15}{'model':<18}{'in':>8}{'out':>7}{'total':>8}  source     billed")
        for entry in reversed(self._entries):
            self._show(
                f"  {entry['occurred_at'][:19]:<20}{entry['operation']:<15}{entry['model']:<18}"
                f"{entry['input_tokens']:>8}{entry['output_tokens']:>7}{entry['total_tokens']:>8}  "
                f"{entry['token_source']:<11}{'yes' if entry['billable'] else 'no'}"
            )

    def _print_statistics(self) -> None:
        self._show("\nDaily statistics")
        for row in self._daily["results"]:
            self._show(
                f"  {row['period']}  {row['operation']:<15}{row['model']:<18}{row['total_tokens']:>8} tokens"
                f"{row['entries']:>6} entries"
            )

    def _print_budget(self) -> None:
        budget = self._budget
        limit = "none" if budget["limit_tokens"] is None else f"{budget['limit_tokens']:,}"
        self._show(
            f"\nBudget of {budget['period']}: limit {limit}, spent {budget['spent_tokens']:,}, "
            f"set aside {budget['held_tokens']:,} (of that unknown: {budget['unknown_tokens']:,})"
        )

    def _differences(self) -> list[str]:
        total = sum(entry["total_tokens"] for entry in self._entries)
        billable = sum(entry["total_tokens"] for entry in self._entries if entry["billable"])
        pairs = [
            ("entries", total, "daily statistics", self._daily["totals"]["total_tokens"]),
            ("entries", total, "monthly statistics", self._monthly["totals"]["total_tokens"]),
            ("entries", len(self._entries), "entries counted by day", self._daily["totals"]["entries"]),
            ("billable entries", billable, "the budget's spent", self._budget["spent_tokens"]),
            ("held", self._budget["held_tokens"], "unknown", self._budget["unknown_tokens"]),
        ]
        return [f"DIFFERENCE: {left} {a}, {right} {b}" for left, a, right, b in pairs if Decimal(a) != Decimal(b)]


def documents_in(folder: Path | None) -> list[Path]:
    """The documents of a folder that can be read, or nooble's own."""
    if folder is None:
        own = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
        return own + sorted(path for path in (ROOT / "demo" / "documents").iterdir() if path.is_file())
    if not folder.is_dir():
        raise DemoError(f"{folder} is not a folder.")
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and named_type(path.name)]
    if not found:
        raise DemoError(f"{folder} holds no document of a kind that is read.")
    return found


def _is_finished(document: dict[str, Any]) -> bool:
    return document["status"] in {"ready", "failed"}


def _json(response: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    if response.is_error:
        raise DemoError(f"{response.request.method} {response.request.url.path}: {body['code']}: {body['detail']}")
    return body


def _pages(api: httpx.Client, path: str) -> Iterator[dict[str, Any]]:
    url: str | None = f"{path}?page_size=200"
    while url:
        page = _json(api.get(url))
        yield from page["results"]
        url = page["next"]


def _find(api: httpx.Client, path: str, slug: str) -> dict[str, Any] | None:
    return next((row for row in _pages(api, path) if row["slug"] == slug), None)


def _last_day(month: str) -> int:
    return calendar.monthrange(*map(int, month.split("-")))[1]


def _shortened(text: str, most: int = 110) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"
