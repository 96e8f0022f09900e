"""What ingestion asks of the budget, and what it leaves behind when it gives up."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from django.db.models.functions import Now
from django.test import override_settings

from apps.collections import ingestion
from apps.collections.models import Document, EmbeddingBatch
from apps.core import dispatch
from apps.core.db import operator_scope, unit_of_work
from apps.core.work import MAX_DELIVERIES
from apps.ledger import till
from apps.ledger.models import Operation
from apps.ledger.types import Admitted, Call
from apps.tenants import credentials
from apps.tenants.models import Tenant, Tier
from tests.fakes.process import FakeProvider
from tests.faults.scene import Scene
from tests.personas import MakeTenant, Persona


@pytest.fixture(autouse=True)
def lost_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """No message reaches the session's worker: what is done here is done step by step."""
    monkeypatch.setattr(dispatch, "_publish", lambda *_: None)


TEXT = "\n\n".join(f"The {number}th paragraph stands for itself. " + "It goes on and on. " * 20 for number in range(7))


def chunk(scene: Scene) -> Document:
    """A document of a fresh collection, read and cut here."""
    document = scene.upload(scene.collection(), TEXT)
    ingestion.chunk_document(scene.persona.ctx, document, task_id=str(uuid4()))
    return scene.document(document)


def first_batch(persona: Persona, document: UUID) -> UUID:
    with unit_of_work(persona.ctx):
        return UUID(str(EmbeddingBatch.objects.get(document=document, ordinal=0).pk))


@pytest.fixture
def cohere(fake_provider: FakeProvider) -> Iterator[None]:
    """The fake as Cohere, which takes 96 texts in one call."""
    entry = {"api_key": "k", "base_url": fake_provider.url}
    with override_settings(NOOBLE_PROVIDERS={**settings.NOOBLE_PROVIDERS, "cohere": entry}):
        yield


@pytest.fixture
def large_batches(owner: Persona) -> Iterator[None]:
    """The owner's tier has 200 chunks embedded in one call."""
    tiers = Tier.objects.filter(pk=owner.tenant.tier_id)
    kept = dict(owner.tenant.tier.defaults)
    with operator_scope("test"):
        tiers.update(defaults={**kept, "processing_config.batch_size": 200})
    yield
    with operator_scope("test"):
        tiers.update(defaults=kept)


def test_no_batch_is_greater_than_its_provider_takes(
    owner: Persona, fake_provider: FakeProvider, cohere: None, large_batches: None
) -> None:
    scene = Scene(persona=owner, fake=fake_provider, provider="cohere")
    embedding = {"provider": "cohere", "model": "embed-v4.0", "dimensions": 256}
    fields = {"slug": "notes", "name": "Notes", "embedding": embedding, "chunk_size": 64, "chunk_overlap": 0}
    paragraphs = "\n\n".join(f"The {number}th stands for itself. " + "It goes on. " * 12 for number in range(100))
    document = scene.upload(str(scene.post("/collections", fields)["id"]), paragraphs)
    ingestion.chunk_document(owner.ctx, document, task_id=str(uuid4()))
    with unit_of_work(owner.ctx):
        batches = list(EmbeddingBatch.objects.filter(document=document).order_by("ordinal"))
    assert [(batch.first, batch.last) for batch in batches] == [(0, 95), (96, 99)]
    for batch in batches:
        ingestion.embed_batch(owner.ctx, batch.pk, task_id=str(uuid4()))
    assert scene.document(document).status == "ready"
    scene.check_books()


def test_a_document_that_the_budget_does_not_cover_is_not_begun(
    make_tenant: MakeTenant, fake_provider: FakeProvider
) -> None:
    scene = Scene(persona=make_tenant(limit=50), fake=fake_provider, provider="fake")
    document = chunk(scene)
    assert (document.status, document.error_code) == ("failed", "budget_exceeded")
    assert "50 a month" in document.error_detail
    with unit_of_work(scene.persona.ctx):
        assert not EmbeddingBatch.objects.exists()
    assert not [each for each in fake_provider.arrivals() if "th paragraph stands for itself" in str(each["body"])]


def test_a_soft_limit_lets_a_document_in(make_tenant: MakeTenant, fake_provider: FakeProvider) -> None:
    persona = make_tenant(limit=50)
    with operator_scope("test"):
        Tenant.objects.filter(pk=persona.tenant.pk).update(hard_limit=False)
    assert chunk(Scene(persona=persona, fake=fake_provider, provider="fake")).status == "embedding"


@pytest.mark.parametrize(
    ("ended_with", "told"), [("provider_refused", "provider_refused"), ("abandoned", "operation_ended")]
)
def test_a_document_fails_for_the_reason_for_which_its_operation_had_ended(
    owner: Persona, fake_provider: FakeProvider, ended_with: str, told: str
) -> None:
    """Whoever failed the operation died before the batch was failed."""
    scene = Scene(persona=owner, fake=fake_provider, provider="fake")
    document = chunk(scene)
    with unit_of_work(owner.ctx):
        batch = EmbeddingBatch.objects.select_related("document").get(document=document.pk, ordinal=0)
    call = Call(provider="fake", model="fake-embedding", hold_tokens=100, deadline_seconds=30)
    held = till.hold(batch.context, ingestion._charge(batch.document, batch), call)
    assert isinstance(held, Admitted)
    till.void(batch.context, held.attempt_id)
    assert till.fail(batch.context, held.operation_id, epoch=held.epoch, code=ended_with, detail="It said no.")
    ingestion.embed_batch(owner.ctx, batch.pk, task_id="next")
    after = scene.document(document.pk)
    assert (after.status, after.error_code, after.error_detail) == ("failed", told, "It said no.")


def test_a_document_waits_while_the_payers_key_cannot_be_read(owner: Persona, fake_provider: FakeProvider) -> None:
    """As on a host that does not have the new key of the deployment's yet."""
    with override_settings(CREDENTIAL_KEYS={"new": bytes(range(32))}):
        credentials.store(owner.ctx, provider="fake", secret="sk-tenants-own-key-4242")
    scene = Scene(persona=owner, fake=fake_provider, provider="fake")
    document = chunk(scene)
    batch = first_batch(owner, document.pk)
    ingestion.embed_batch(owner.ctx, batch, task_id=str(uuid4()))
    assert (scene.document(document.pk).status, scene.attempts()) == ("embedding", [])
    with unit_of_work(owner.ctx):
        assert EmbeddingBatch.objects.filter(pk=batch, available_at__gt=Now()).update(available_at=Now()) == 1
    with override_settings(CREDENTIAL_KEYS={"new": bytes(range(32))}):
        ingestion.embed_batch(owner.ctx, batch, task_id=str(uuid4()))
    assert scene.document(document.pk).status == "ready"


def test_the_operation_of_a_batch_that_is_given_up_ends_with_its_reason(
    owner: Persona, fake_provider: FakeProvider
) -> None:
    scene = Scene(persona=owner, fake=fake_provider, provider="fake")
    document = chunk(scene)
    batch = first_batch(owner, document.pk)
    with unit_of_work(owner.ctx):
        EmbeddingBatch.objects.filter(pk=batch).update(deliveries=MAX_DELIVERIES - 1)
    fake_provider.fail("500", retry_after="60")
    ingestion.embed_batch(owner.ctx, batch, task_id=str(uuid4()))
    assert scene.document(document.pk).status == "failed"
    with unit_of_work(owner.ctx):
        operation = Operation.objects.get(operation="batch")
    assert (operation.state, operation.error_code) == ("failed", "provider_unavailable")
    # Nothing proves that the provider did not count them.
    assert {attempt.state for attempt in scene.attempts()} == {"unknown"}
    scene.check_books()
