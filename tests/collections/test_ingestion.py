"""What ingestion asks of the budget, and what it leaves behind when it gives up."""

from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from django.db.models.functions import Now
from django.test import override_settings

from apps.collections import ingestion
from apps.collections.models import Document, EmbeddingBatch
from apps.core import dispatch
from apps.core.db import operator_scope, unit_of_work
from apps.core.delivery import MAX_DELIVERIES
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
def deployed(fake_provider: FakeProvider) -> Iterator[None]:
    """The fake as providers that take so much in one call, and no more."""
    paths = {"cohere": "", "mistral": "/mistral/v1", "openai": "/v1", "azure_openai": "/azure"}
    entries = {name: {"api_key": "k", "base_url": fake_provider.url + path} for name, path in paths.items()}
    with override_settings(NOOBLE_PROVIDERS={**settings.NOOBLE_PROVIDERS, **entries}):
        yield


@pytest.fixture
def batch_size(owner: Persona) -> Iterator[Callable[[int], None]]:
    """Sets how many chunks the owner's tier has embedded in one call, until the test ends."""
    tiers = Tier.objects.filter(pk=owner.tenant.tier_id)
    kept = dict(owner.tenant.tier.defaults)

    def save(size: int) -> None:
        with operator_scope("test"):
            tiers.update(defaults={**kept, "processing_config.batch_size": size})

    yield save
    with operator_scope("test"):
        tiers.update(defaults=kept)


def batches(persona: Persona, document: UUID) -> list[EmbeddingBatch]:
    with unit_of_work(persona.ctx):
        return list(EmbeddingBatch.objects.filter(document=document).order_by("ordinal"))


def spans(persona: Persona, document: UUID) -> list[tuple[int, int]]:
    return [(batch.first, batch.last) for batch in batches(persona, document)]


def embed(persona: Persona, document: UUID) -> None:
    for batch in batches(persona, document):
        ingestion.embed_batch(persona.ctx, batch.pk, task_id=str(uuid4()))


SENTENCE = "Every customer receives a complete statement of all the tokens that were used in the month. "
#: A model, the length of its vectors, the sizes of the tier's batches and of chunks, and how many make so many batches.
LIMITED = [
    ("cohere", "embed-v4.0", 256, 200, 64, 100, 2),
    ("mistral", "codestral-embed", 256, 2048, 64, 300, 3),
    ("mistral", "mistral-embed", 1024, 50, 512, 60, 4),
    ("openai", "text-embedding-3-small", 256, 2048, 2048, 200, 3),
    ("azure_openai", "text-embedding-3-small", 256, 2048, 2048, 200, 3),
]


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize(("provider", "model", "dimensions", "said", "size", "chunks", "calls"), LIMITED)
def test_no_batch_is_greater_than_its_provider_takes(
    owner: Persona,
    fake_provider: FakeProvider,
    batch_size: Callable[[int], None],
    provider: str,
    model: str,
    dimensions: int,
    said: int,
    size: int,
    chunks: int,
    calls: int,
) -> None:
    batch_size(said)
    scene = Scene(persona=owner, fake=fake_provider, provider=provider)
    embedding = {"provider": provider, "model": model, "dimensions": dimensions}
    fields = {"slug": "notes", "name": "Notes", "embedding": embedding, "chunk_size": size, "chunk_overlap": 0}
    # Each paragraph is a chunk: two do not fit into one.
    paragraphs = "\n\n".join(f"Number {number}. {SENTENCE * (size // 20)}" for number in range(chunks))
    document = scene.upload(str(scene.post("/collections", fields)["id"]), paragraphs)
    ingestion.chunk_document(owner.ctx, document, task_id=str(uuid4()))
    assert (scene.document(document).chunk_count, len(spans(owner, document))) == (chunks, calls)
    embed(owner, document)
    shown = scene.document(document)
    assert (shown.status, shown.error_detail) == ("ready", "")
    scene.check_books()


def test_what_failed_is_cut_anew_when_the_document_is_tried_again(
    owner: Persona, fake_provider: FakeProvider, batch_size: Callable[[int], None]
) -> None:
    scene = Scene(persona=owner, fake=fake_provider, provider="fake")
    batch_size(6)
    document = chunk(scene)
    assert spans(owner, document.pk) == [(0, 5), (6, 11), (12, 17), (18, 20)]
    done, refused, waiting, _ = batches(owner, document.pk)
    ingestion.embed_batch(owner.ctx, done.pk, task_id=str(uuid4()))
    fake_provider.fail("400")
    for batch in (refused, waiting):
        ingestion.embed_batch(owner.ctx, batch.pk, task_id=str(uuid4()))
    batch_size(2)
    scene.post(f"/documents/{document.pk}/retry", {})
    # What is done stays so, and a worker may be at the last one.
    cut_anew = [(8, 9), (10, 11), (14, 15), (16, 17)]
    assert spans(owner, document.pk) == [(0, 5), (6, 7), (12, 13), (18, 20), *cut_anew]
    embed(owner, document.pk)
    after = scene.document(document.pk)
    assert (after.status, after.batches_done, after.batches_total) == ("ready", 8, 8)
    embedded = [entry.metadata["batch_size"] for entry in scene.entries() if entry.operation == "batch"]
    assert sorted(embedded) == [2, 2, 2, 2, 2, 2, 3, 6]
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
