"""A tenant with a collection and an agent at the fake provider, and what must be true of its books afterwards."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from apps.agents.models import Run
from apps.collections.models import Document
from apps.core import clock
from apps.core.db import fetch_one, unit_of_work
from apps.ledger import statements
from apps.ledger.models import Attempt, Entry
from tasks.maintenance import sweep
from tests.fakes.process import FakeProvider
from tests.personas import Persona

DIMENSIONS = 64
#: The promise: work whose worker died is published again in less.
RESUMED_WITHIN = timedelta(seconds=30)


@dataclass(frozen=True)
class Scene:
    """``provider`` is ``fake``, which cannot be asked what became of a request, or ``askable``, which can."""

    persona: Persona
    fake: FakeProvider
    provider: str

    def collection(self, *, batch_chunks: int = 64) -> str:
        embedding = {"provider": self.provider, "model": "fake-embedding", "dimensions": DIMENSIONS}
        body = {"slug": "notes", "name": "Notes", "embedding": embedding, "chunk_size": batch_chunks}
        return str(self.post("/collections", {**body, "chunk_overlap": 0})["id"])

    def agent(self, collection: str) -> str:
        llm = {"provider": self.provider, "model": "fake-chat", "max_tokens": 200}
        body = {"slug": "helper", "name": "Helper", "llm": llm, "rag": {"collections": [collection]}}
        return str(self.post("/agents", body)["id"])

    def upload(self, collection: str, text: str) -> UUID:
        return UUID(self.post(f"/collections/{collection}/documents", {"name": "note.md", "text": text})["id"])

    def ask(self, agent: str, message: str) -> UUID:
        return UUID(self.post("/chat", {"agent_id": agent, "message": message})["run_id"])

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self.persona.api.post(f"/api/v1{path}", body, format="json")
        assert response.status_code < 300, response.json()
        found: dict[str, Any] = response.json()
        return found

    def run(self, run_id: UUID) -> Run:
        with unit_of_work(self.persona.ctx):
            return Run.objects.get(pk=run_id)

    def document(self, document_id: UUID) -> Document:
        with unit_of_work(self.persona.ctx):
            return Document.objects.get(pk=document_id)

    def wait_for_run(self, run_id: UUID, *, seconds: float = 90) -> Run:
        wait_until(lambda: self.run(run_id).status not in Run.unfinished, seconds=seconds)
        return self.run(run_id)

    def wait_for_document(self, document_id: UUID, *, seconds: float = 90) -> Document:
        wait_until(lambda: self.document(document_id).status in {"ready", "failed"}, seconds=seconds)
        return self.document(document_id)

    def entries(self) -> list[Entry]:
        with unit_of_work(self.persona.ctx):
            return list(Entry.objects.order_by("id"))

    def attempts(self) -> list[Attempt]:
        with unit_of_work(self.persona.ctx):
            return list(Attempt.objects.order_by("id"))

    def check_books(self) -> None:
        """Entries = statistics = budget, and entries + what unknown attempts truly cost = the provider's own tally.

        What the local provider did is in nobody's tally.
        """
        books = statements.statement(self.persona.ctx, clock.today("UTC").replace(day=1))
        assert books.differences() == []
        attempts = {str(attempt.pk): attempt for attempt in self.attempts()}
        tally = {line["request_id"]: line["total"] for line in self.fake.tally() if line["request_id"] in attempts}
        doubtful = {request for request, attempt in attempts.items() if attempt.state in {"unknown", "lost"}}
        unknown = sum(total for request, total in tally.items() if request in doubtful)
        entries = self.entries()
        estimates = sum(entry.total_tokens for entry in entries if str(entry.attempt_id) in doubtful)
        local = sum(entry.total_tokens for entry in entries if entry.provider == "local")
        assert books.billable_tokens - local - estimates + unknown == sum(tally.values())
        if self.provider == "askable":
            assert unknown == 0
            assert books.held_tokens == 0


def database_time() -> datetime:
    row = fetch_one("SELECT now() AS now")
    assert row is not None
    found: datetime = row["now"]
    return found


def wait_until(condition: Callable[[], bool], *, seconds: float) -> None:
    """Wait, while the sweeper does its rounds as beat would let it; fails when the time is up."""
    deadline = time.monotonic() + seconds
    next_sweep = time.monotonic()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        if time.monotonic() >= next_sweep:
            sweep()
            next_sweep = time.monotonic() + 2
        time.sleep(0.1)
