"""A document that is tried again is woken up at once: its own message, or those of the batches that are left."""

from uuid import UUID

import pytest

from apps.collections import ingestion
from apps.collections.models import EmbeddingBatch
from apps.core.db import unit_of_work
from tests.fakes.process import FakeProvider
from tests.faults.scene import Scene
from tests.personas import Persona

#: Three batches; each paragraph is a chunk.
TEXT = "\n\n".join(f"Paragraph {number} stands for itself. " + "It goes on and on. " * 8 for number in range(130))
UNREADABLE = "\ufeff \u200b"

Sent = list[tuple[str, UUID]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """The tasks that were handed to the broker, each with its row, in their order; nobody is woken up."""
    messages: Sent = []
    monkeypatch.setattr(
        "celery.app.task.Task.apply_async",
        lambda task, **message: messages.append((task.name, *map(UUID, message["kwargs"].values()))),
    )
    return messages


@pytest.fixture
def scene(owner: Persona, fake_provider: FakeProvider) -> Scene:
    return Scene(persona=owner, fake=fake_provider, provider="fake")


def batches(scene: Scene, document: UUID) -> list[EmbeddingBatch]:
    with unit_of_work(scene.persona.ctx):
        return list(EmbeddingBatch.objects.filter(document=document).order_by("ordinal"))


def test_one_that_could_not_be_read_is_published_at_once(scene: Scene, sent: Sent) -> None:
    document = scene.upload(scene.collection(), UNREADABLE)
    ingestion.chunk_document(scene.persona.ctx, document, task_id="")
    assert scene.document(document).status == "failed"
    sent.clear()
    scene.post(f"/documents/{document}/retry", {})
    assert sent == [("ingestion.chunk", document)]
    assert scene.document(document).publications == 1


def test_of_one_that_was_cut_the_batches_that_are_left_are_published_at_once(scene: Scene, sent: Sent) -> None:
    document = scene.upload(scene.collection(), TEXT)
    ctx = scene.persona.ctx
    ingestion.chunk_document(ctx, document, task_id="")
    done, refused, waiting = batches(scene, document)
    ingestion.embed_batch(ctx, done.pk, task_id="")
    scene.fake.fail("400")
    ingestion.embed_batch(ctx, refused.pk, task_id="")
    assert scene.document(document).status == "failed"
    sent.clear()
    scene.post(f"/documents/{document}/retry", {})
    assert set(sent) == {("embedding.embed_batch", batch.pk) for batch in (refused, waiting)}
    assert len(sent) == 2
    assert [batch.publications for batch in batches(scene, document)[1:]] == [1, 1]
