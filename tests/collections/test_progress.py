"""How far a document is, as the API shows it: it rises while it is worked on, ends at 1, and never falls."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

import pytest
from django.core.files.storage import default_storage
from django.db import connections
from django.db.models.functions import Now

from apps.collections import ingestion
from apps.collections.models import Document, EmbeddingBatch
from apps.core import dispatch
from apps.core.db import unit_of_work
from apps.core.leases import LEASE
from tests.fakes.process import FakeProvider
from tests.faults.scene import Scene
from tests.personas import Persona

#: Four batches of chunks, one for each paragraph.
BATCHES = 4
TEXT = "\n\n".join(f"Paragraph {number} stands for itself. " + "It goes on and on. " * 8 for number in range(160))


@pytest.fixture(autouse=True)
def lost_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """No message reaches a worker: what is delivered is delivered here."""
    monkeypatch.setattr(dispatch, "_publish", lambda *_: None)


@pytest.fixture
def scene(owner: Persona, fake_provider: FakeProvider) -> Scene:
    return Scene(persona=owner, fake=fake_provider, provider="fake")


@pytest.fixture
def document(scene: Scene) -> UUID:
    return scene.upload(scene.collection(), TEXT)


def shown(scene: Scene, document: UUID) -> dict[str, Any]:
    found: dict[str, Any] = scene.persona.api.get(f"/api/v1/documents/{document}").json()
    return found


def chunk(scene: Scene, document: UUID) -> float:
    """Deliver the document; returns how far it is then."""
    ingestion.chunk_document(scene.persona.ctx, document, task_id="")
    return float(shown(scene, document)["progress"])


def embed(scene: Scene, document: UUID, ordinal: int) -> float:
    """Deliver one of its batches; returns how far it is then."""
    with unit_of_work(scene.persona.ctx):
        batch = EmbeddingBatch.objects.get(document=document, ordinal=ordinal)
    ingestion.embed_batch(scene.persona.ctx, batch.pk, task_id="")
    return float(shown(scene, document)["progress"])


def test_it_rises_with_every_batch_to_its_end(scene: Scene, document: UUID) -> None:
    before = shown(scene, document)["progress"]
    steps = [chunk(scene, document), *(embed(scene, document, ordinal) for ordinal in range(BATCHES))]
    assert [before, *steps] == [0.0, 0.1, 0.325, 0.55, 0.775, 1.0]
    assert shown(scene, document)["status"] == "ready"


def test_whatever_comes_twice_it_neither_falls_nor_runs_ahead(scene: Scene, document: UUID) -> None:
    assert [chunk(scene, document) for _ in range(2)] == [0.1, 0.1]
    # In another order than they are cut, and each of them twice.
    steps = [embed(scene, document, ordinal) for ordinal in (2, 2, 0, 0, 3, 3, 1, 1)]
    assert steps == [0.325, 0.325, 0.55, 0.55, 0.775, 0.775, 1.0, 1.0]
    assert chunk(scene, document) == 1.0
    assert len(scene.fake.arrivals()) == BATCHES


def test_read_once_more_because_its_worker_died_it_does_not_fall(scene: Scene, document: UUID) -> None:
    died = {"status": "chunking", "deliveries": 1, "lease_expires_at": Now() - LEASE}
    with unit_of_work(scene.persona.ctx):
        Document.objects.filter(pk=document).update(**died)
    before = shown(scene, document)["progress"]
    with ThreadPoolExecutor(max_workers=1) as other, slow_file(scene.document(document)) as send:
        delivery = other.submit(deliver_elsewhere, scene, document)
        with send() as content:
            reading = shown(scene, document)
            content.write(TEXT.encode())
        delivery.result()
    assert (reading["status"], reading["progress"]) == ("parsing", before)
    assert shown(scene, document)["progress"] == 0.1


@contextmanager
def slow_file(document: Document) -> Iterator[Callable[[], BinaryIO]]:
    """In the place of the document's file a pipe; what is yielded waits for its reader, and opens it for writing."""
    path = Path(default_storage.path(document.storage_key))
    path.unlink()
    os.mkfifo(path)
    yield lambda: path.open("wb")


def deliver_elsewhere(scene: Scene, document: UUID) -> None:
    try:
        ingestion.chunk_document(scene.persona.ctx, document, task_id="")
    finally:
        connections.close_all()


def test_one_that_fails_stays_where_it_is_and_goes_on_from_there(scene: Scene, document: UUID) -> None:
    chunk(scene, document)
    embed(scene, document, 0)
    scene.fake.fail("400")
    assert embed(scene, document, 1) == 0.325
    assert shown(scene, document)["status"] == "failed"
    again = scene.post(f"/documents/{document}/retry", {})
    assert (again["status"], again["progress"]) == ("embedding", 0.325)
    assert [embed(scene, document, ordinal) for ordinal in (1, 2, 3)] == [0.55, 0.775, 1.0]


def test_one_that_cannot_be_read_gets_nowhere(scene: Scene) -> None:
    document = scene.upload(scene.collection(), "\ufeff \u200b")
    chunk(scene, document)
    assert (shown(scene, document)["status"], shown(scene, document)["progress"]) == ("failed", 0.0)
