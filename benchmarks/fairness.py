"""Whether a tenant with much to do delays another: how long its batches and its question wait, beside an idle system.

    python benchmarks/fairness.py [--backlog 5000] [--rounds 5]

One worker with four threads reads all queues; the provider is a process on the loopback that takes 200 ms for a call. A
tenant uploads a document of ten batches and asks a question: on an idle system, and again while another tenant of the
same tier has thousands of batches to embed. Both in engines that are started for the purpose and thrown away. The last
line is one JSON object, in milliseconds: what a batch waits, from its row to its call, and what an answer takes. Exit
status 1: beside the backlog a batch waits longer than the limit, two times as long as on an idle system and one call.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

ROOT = Path(__file__).resolve().parent.parent
# A script's own folder is where Python looks for modules, not the project's.
sys.path.insert(0, str(ROOT))

SLOTS = 4
BATCHES = 10
CALL_SECONDS = 0.2
EMBEDDING = {"provider": "fake", "model": "fake-embedding", "dimensions": 64}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backlog", type=int, default=5000, help="batches that the other tenant has to embed")
    parser.add_argument("--rounds", type=int, default=5, help="how often the tenant uploads and asks")
    parser.add_argument("--tier", default="free", help="the tier of both")
    arguments = parser.parse_args()
    with deployment():
        embed_one_by_one(arguments.tier)
        idle_tenant, busy_tenant = Tenant(arguments.tier), Tenant(arguments.tier)
        # The first work of a worker imports what it needs.
        idle_tenant.upload_and_ask()
        idle = [idle_tenant.upload_and_ask() for _ in range(arguments.rounds)]
        busy_tenant.upload(arguments.backlog)
        beside = [idle_tenant.upload_and_ask() for _ in range(arguments.rounds)]
        left = busy_tenant.unfinished()
        assert left, "the backlog was done before the measurement was"
    found = report(idle, beside)
    print(json.dumps(found | {"backlog": arguments.backlog, "backlog_left": left}))
    sys.exit(complaint(found))


def report(idle: list[tuple[list[float], float]], beside: list[tuple[list[float], float]]) -> dict[str, Any]:
    waits = {name: p95([wait for waits, _ in rounds for wait in waits]) for name, rounds in pairs(idle, beside)}
    answers = {name: statistics.median(answer for _, answer in rounds) for name, rounds in pairs(idle, beside)}
    return {
        "batch_wait_p95_ms": rounded(waits),
        "batch_wait_limit_ms": round((2 * waits["idle"] + CALL_SECONDS) * 1000),
        "answer_p50_ms": rounded(answers),
    }


def complaint(report: dict[str, Any]) -> str | None:
    """What is wrong with the figures, if anything is."""
    wait, limit = report["batch_wait_p95_ms"]["beside_backlog"], report["batch_wait_limit_ms"]
    return f"A batch waits {wait} ms beside the backlog; the limit is {limit} ms." if wait > limit else None


def pairs(idle: Any, beside: Any) -> list[tuple[str, Any]]:
    return [("idle", idle), ("beside_backlog", beside)]


def rounded(seconds: dict[str, float]) -> dict[str, int]:
    return {name: round(value * 1000) for name, value in seconds.items()}


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


@contextmanager
def deployment() -> Iterator[None]:
    """nooble with one worker, at a provider that takes its time; in a directory that is removed afterwards."""
    from tests.fakes.process import FakeProvider  # noqa: PLC0415 - the project's folder is known only now

    with tempfile.TemporaryDirectory(prefix="nooble-benchmark-") as directory:
        fake = FakeProvider(Path(directory) / "tally.jsonl")
        fake.fail("slow", seconds=CALL_SECONDS, times=None)
        for name in ("DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL", "BROKER_URL"):
            os.environ.pop(name, None)
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "settings.test",
            "NOOBLE_DATA_DIR": directory,
            "FAKE_PROVIDER_URL": fake.url,
        }
        import django  # noqa: PLC0415 - after the environment it reads
        from django.core.management import call_command  # noqa: PLC0415
        from django.db import connections  # noqa: PLC0415

        from nooble import embedded  # noqa: PLC0415

        django.setup()
        try:
            with embedded.engines(Path(directory)):
                call_command("migrate", verbosity=0)
                with working(Path(directory)):
                    yield
                connections.close_all()
        finally:
            fake.stop()


@contextmanager
def working(directory: Path) -> Iterator[None]:
    from nooble import programs, queues  # noqa: PLC0415 - settings first
    from nooble.outputs import FileOutput  # noqa: PLC0415
    from nooble.processes import Supervisor  # noqa: PLC0415

    program = programs.worker("worker", pool="threads", concurrency=SLOTS, consumes=queues.names())
    output = FileOutput(directory / "log")
    with Supervisor([[program]], output=output) as supervisor:
        supervisor.wait_until_ready()
        yield
    output.close()


def embed_one_by_one(tier: str) -> None:
    from apps.core.db import operator_scope  # noqa: PLC0415 - settings first
    from apps.tenants.models import Tier  # noqa: PLC0415

    with operator_scope("benchmark"):
        row = Tier.objects.get(name=tier)
        row.defaults = {**row.defaults, "processing_config.batch_size": 1}
        row.save()


class Tenant:
    """A tenant with a collection whose chunks are embedded one by one, and an agent that answers from it."""

    def __init__(self, tier: str) -> None:
        from rest_framework.test import APIClient  # noqa: PLC0415 - settings first

        from apps.tenants import services  # noqa: PLC0415

        tenant, key = services.create_tenant(slug=f"t-{uuid4().hex[:12]}", name="Benchmark", tier=tier)
        self.ctx = services.context_of(tenant)
        self._api = APIClient()
        self._api.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
        collection = {"slug": "notes", "name": "Notes", "embedding": EMBEDDING, "chunk_size": 64, "chunk_overlap": 0}
        self._collection = self._post("/collections", collection)["id"]
        llm = {"provider": "fake", "model": "fake-chat", "max_tokens": 200}
        agent = {"slug": "helper", "name": "Helper", "llm": llm, "rag": {"collections": [self._collection]}}
        self._agent = self._post("/agents", agent)["id"]

    def upload_and_ask(self) -> tuple[list[float], float]:
        """How long each batch waited, and what the answer took, asked while they wait; in seconds."""
        document = self.upload(BATCHES)
        run = UUID(self._post("/chat", {"agent_id": self._agent, "message": f"What is {uuid4().hex}?"})["run_id"])
        return self._waits(document), self._answer_seconds(run)

    def upload(self, batches: int) -> UUID:
        """A document of so many chunks, cut: its batches are in the work list."""
        text = "\n\n".join(f"# Pump {number}\n\n{' '.join(['It weighs a lot.'] * 12)}" for number in range(batches))
        body = {"name": f"{uuid4().hex}.md", "text": f"{text}\n\n{uuid4().hex}"}
        document = UUID(self._post(f"/collections/{self._collection}/documents", body)["id"])
        self._wait(lambda: self._document(document).batches_total > 0)
        return document

    def unfinished(self) -> int:
        """How many batches are not embedded yet."""
        from apps.collections.models import EmbeddingBatch  # noqa: PLC0415 - settings first
        from apps.core.db import unit_of_work  # noqa: PLC0415

        with unit_of_work(self.ctx):
            return EmbeddingBatch.objects.filter(status="pending").count()

    def _waits(self, document: UUID) -> list[float]:
        from apps.collections.models import EmbeddingBatch  # noqa: PLC0415 - settings first
        from apps.core.db import unit_of_work  # noqa: PLC0415
        from apps.ledger.models import Attempt  # noqa: PLC0415

        self._wait(lambda: self._document(document).status == "ready")
        with unit_of_work(self.ctx):
            # Of one transaction, and so of one moment.
            written = EmbeddingBatch.objects.filter(document=document).earliest("available_at").available_at
            attempts = Attempt.objects.filter(operation__document_id=document, operation__operation="batch")
            return [(attempt.opened_at - written).total_seconds() for attempt in attempts]

    def _answer_seconds(self, run_id: UUID) -> float:
        from apps.agents.models import Run  # noqa: PLC0415 - settings first
        from apps.core.db import unit_of_work  # noqa: PLC0415

        def run() -> Any:
            with unit_of_work(self.ctx):
                return Run.objects.get(pk=run_id)

        self._wait(lambda: run().finished_at is not None)
        assert run().status == "succeeded", run().error_detail
        seconds: float = (run().finished_at - run().created_at).total_seconds()
        return seconds

    def _document(self, document: UUID) -> Any:
        from apps.collections.models import Document  # noqa: PLC0415 - settings first
        from apps.core.db import unit_of_work  # noqa: PLC0415

        with unit_of_work(self.ctx):
            return Document.objects.get(pk=document)

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self._api.post(f"/api/v1{path}", body, format="json")
        assert response.status_code < 300, response.json()
        found: dict[str, Any] = response.json()
        return found

    def _wait(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 600
        while not done():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.02)


if __name__ == "__main__":
    main()
