"""What a collection's embedding and a tier's settings do to documents, and which of them cannot be."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from apps.collections.models import Document, EmbeddingBatch
from apps.core.db import operator_scope, unit_of_work
from apps.tenants.models import Tier
from nooble.processes import Supervisor
from tests.api.test_authentication import check_problem
from tests.faults.scene import wait_until
from tests.personas import Persona

COLLECTIONS = "/api/v1/collections"
TEXT = "\n\n".join(f"The {number}th paragraph stands for itself. " + "It goes on and on. " * 7 for number in range(7))


@pytest.fixture
def tier(owner: Persona) -> Iterator[dict[str, Any]]:
    """The defaults of the owner's tier; what a test puts into them is gone afterwards."""
    kept = dict(owner.tenant.tier.defaults)
    defaults: dict[str, Any] = {**kept}
    yield defaults
    save(owner, kept)


def save(persona: Persona, defaults: dict[str, Any]) -> None:
    with operator_scope("test"):
        Tier.objects.filter(pk=persona.tenant.tier_id).update(defaults=defaults)


def create(persona: Persona, **fields: Any) -> Any:
    return persona.api.post(COLLECTIONS, {"slug": "notes", "name": "Notes", **fields}, format="json")


def upload(persona: Persona, collection: str) -> UUID:
    path = f"{COLLECTIONS}/{collection}/documents"
    return UUID(persona.api.post(path, {"name": "note.md", "text": TEXT}, format="json").json()["id"])


def wait_until_ready(persona: Persona, document: UUID) -> dict[str, Any]:
    path = f"/api/v1/documents/{document}"
    wait_until(lambda: persona.api.get(path).json()["status"] in {"ready", "failed"}, seconds=60)
    shown: dict[str, Any] = persona.api.get(path).json()
    assert shown["status"] == "ready", shown["error"]
    return shown


def batches(persona: Persona, document: UUID) -> list[tuple[int, int]]:
    with unit_of_work(persona.ctx):
        return list(EmbeddingBatch.objects.filter(document=document).order_by("ordinal").values_list("first", "last"))


def test_documents_are_embedded_in_batches_of_the_tiers_size(
    owner: Persona, worker: Supervisor, tier: dict[str, Any]
) -> None:
    save(owner, {**tier, "processing_config.batch_size": 3})
    document = upload(owner, create(owner, chunk_size=64, chunk_overlap=0).json()["id"])
    assert wait_until_ready(owner, document)["chunks"] == 7
    assert batches(owner, document) == [(0, 2), (3, 5), (6, 6)]
    entries = owner.api.get("/api/v1/usage/entries").json()["results"]
    assert sorted(e["metadata"]["batch_size"] for e in entries if e["operation"] == "batch") == [1, 3, 3]


def test_documents_of_a_tier_that_says_nothing_are_embedded_in_batches_of_the_deployments_size(
    owner: Persona, worker: Supervisor
) -> None:
    document = upload(owner, create(owner, chunk_size=64, chunk_overlap=0).json()["id"])
    assert wait_until_ready(owner, document)["chunks"] == 7
    assert batches(owner, document) == [(0, 6)]


def test_a_document_that_is_tried_again_takes_the_tiers_settings_of_now(owner: Persona, tier: dict[str, Any]) -> None:
    document = upload(owner, create(owner, chunk_size=64, chunk_overlap=8).json()["id"])
    with unit_of_work(owner.ctx):
        Document.objects.filter(pk=document).update(status="failed", lease_expires_at=None)
    save(owner, {**tier, "processing_config.batch_size": 3, "processing_config.timeout_seconds": 120})
    assert owner.api.post(f"/api/v1/documents/{document}/retry").status_code == 202
    with unit_of_work(owner.ctx):
        ctx = Document.objects.get(pk=document).context
    assert ctx.config_sources == {
        "processing_config.batch_size": "tier",
        "processing_config.timeout_seconds": "tier",
        "processing_config.retry_attempts": "deployment",
    }
    processing = ctx.processing_config
    assert processing is not None
    assert (processing.batch_size, processing.chunk_size, processing.chunk_overlap) == (3, 64, 8)
    assert (processing.timeout_seconds, processing.retry_attempts) == (120, 3)


def test_no_chunk_is_made_longer_than_the_tiers_longest_text(owner: Persona, tier: dict[str, Any]) -> None:
    save(owner, {**tier, "processing_config.max_text_length": 100})
    shown = create(owner, chunk_size=512, chunk_overlap=64).json()
    assert (shown["chunk_size"], shown["chunk_overlap"]) == (100, 50)


def test_a_chunk_that_is_shorter_than_the_longest_text_stays_as_it_was_wanted(
    owner: Persona, tier: dict[str, Any]
) -> None:
    save(owner, {**tier, "processing_config.max_text_length": 100})
    shown = create(owner, chunk_size=80, chunk_overlap=10).json()
    assert (shown["chunk_size"], shown["chunk_overlap"]) == (80, 10)


@pytest.mark.parametrize(
    ("model", "dimensions", "chunk_size"), [("embed-english-v3.0", 1024, 256), ("embed-v4.0", 1536, 512)]
)
def test_no_chunk_is_made_longer_than_the_model_surely_takes(
    owner: Persona, model: str, dimensions: int, chunk_size: int
) -> None:
    embedding = {"provider": "cohere", "model": model, "dimensions": dimensions}
    assert create(owner, embedding=embedding, chunk_size=512).json()["chunk_size"] == chunk_size


@pytest.mark.parametrize(
    ("provider", "model", "dimensions", "lengths"),
    [
        ("local", "wordllama-256", 8, "64, 128, 256"),
        ("local", "wordllama-256", 100, "64, 128, 256"),
        ("local", "wordllama-256", 512, "64, 128, 256"),
        ("openai", "text-embedding-3-small", 1537, "up to 1536"),
        ("openai", "text-embedding-ada-002", 512, "1536"),
    ],
)
def test_vectors_that_the_model_does_not_make_are_refused_with_those_that_it_does(
    owner: Persona, provider: str, model: str, dimensions: int, lengths: str
) -> None:
    embedding = {"provider": provider, "model": model, "dimensions": dimensions}
    response = create(owner, embedding=embedding)
    check_problem(response, 400, "unsupported_dimensions")
    assert response.json()["detail"] == f"{model} makes vectors of {lengths} dimensions, not of {dimensions}."
    assert owner.api.get(COLLECTIONS).json()["results"] == []


@pytest.mark.parametrize(
    ("provider", "model", "dimensions"),
    [
        ("local", "wordllama-256", 64),
        ("local", "wordllama-256", 128),
        ("openai", "text-embedding-3-large", 1234),
        ("openai", "an-embedding-of-tomorrow", 100),
    ],
)
def test_vectors_that_the_model_makes_or_may_make_are_accepted(
    owner: Persona, provider: str, model: str, dimensions: int
) -> None:
    embedding = {"provider": provider, "model": model, "dimensions": dimensions}
    response = create(owner, embedding=embedding)
    assert response.status_code == 201, response.json()
    assert response.json()["embedding"] == embedding
