"""Search over the API: what each mode finds and says of it, and what a request may ask for.

The fake provider embeds a text as a hashed bag of its words, so that a similarity can be worked out here.
"""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from apps.core.db import unit_of_work
from apps.ledger.models import Entry
from apps.tenants import services
from nooble.processes import Supervisor
from tests.api import openapi
from tests.api.test_authentication import check_problem
from tests.fakes.answers import vector
from tests.fakes.process import FakeProvider
from tests.faults.scene import DIMENSIONS, Scene
from tests.personas import Persona

MODES = ["hybrid", "vector", "lexical"]
QUERY = "Where are bicycles parked?"
TEXTS = [
    "Bicycles are parked in the yard behind the kitchen.",
    "Bicycles are repaired on Fridays.",
    "The kitchen opens at seven.",
    "Hotels cost 170 euros a night.",
    "Invoices are paid within thirty days.",
    "Who parked where the bins are? Where are they now?",
]
MALFORMED: dict[str, list[Any]] = {
    "mode": ["fuzzy", "", "Hybrid", " hybrid", None, 7, ["hybrid"], {}, "\ud800", "a\0"],
    "limit": [0, -1, 51, 10**30, 1.5, "many", "", None, [1], {}, True],
    "similarity_threshold": [-0.01, 1.01, 1e300, "warm", "NaN", "Infinity", None, [], {}],
    "query": ["", "  \n", None, [], {}, "a\0b", "\ud800", "a" * 20_001],
}
#: Half-precision vectors lose this much.
CLOSE = 0.002


@dataclass(frozen=True)
class Shelf:
    """A collection that holds the texts, each a document of one chunk."""

    persona: Persona
    collection: str
    fake: FakeProvider

    def post(self, **body: Any) -> Any:
        path = f"/api/v1/collections/{self.collection}/search"
        return self.persona.api.generic("POST", path, openapi.as_json(body), content_type="application/json")

    def search(self, query: str = QUERY, **body: Any) -> list[dict[str, Any]]:
        response = self.post(query=query, **body)
        assert response.status_code == 200, response.json()
        results: list[dict[str, Any]] = response.json()["results"]
        return results

    def entries(self) -> list[Entry]:
        with unit_of_work(self.persona.ctx):
            return list(Entry.objects.filter(operation="vector_search").order_by("id"))


@pytest.fixture(scope="module")
def shelf(worker: Supervisor, fake_provider_process: FakeProvider) -> Shelf:
    tenant, key = services.create_tenant(slug=f"t-{uuid4().hex[:12]}", name="Test", tier="professional")
    scene = Scene(persona=Persona(tenant=tenant, key=key), fake=fake_provider_process, provider="fake")
    collection = scene.collection()
    for document in [scene.upload(collection, text) for text in TEXTS]:
        assert scene.wait_for_document(document).status == "ready"
    return Shelf(persona=scene.persona, collection=collection, fake=fake_provider_process)


def similarities(query: str) -> dict[str, float]:
    """Each text's cosine similarity to the query."""
    asked = vector(query, DIMENSIONS)
    return {text: float(vector(text, DIMENSIONS) @ asked) for text in TEXTS}


def texts(results: list[dict[str, Any]]) -> list[str]:
    return [result["text"] for result in results]


def test_by_meaning_results_are_what_is_similar_and_scores_say_how_much(shelf: Shelf) -> None:
    expected = {text: score for text, score in similarities(QUERY).items() if score > CLOSE}
    assert len(expected) > 2
    found = shelf.search(mode="vector", similarity_threshold=0, limit=50)
    for result in found:
        assert (
            result["score"] == result["vector_score"] == pytest.approx(similarities(QUERY)[result["text"]], abs=CLOSE)
        )
        assert result["lexical_score"] is None
    assert set(texts(found)) >= set(expected)
    assert texts(found)[0] == max(expected, key=lambda text: expected[text])


def test_by_words_results_share_a_word_and_nothing_is_paid(shelf: Shelf) -> None:
    booked, called = len(shelf.entries()), len(shelf.fake.tally())
    response = shelf.post(query="kitchen", mode="lexical")
    found = response.json()["results"]
    assert set(texts(found)) == {TEXTS[0], TEXTS[2]}
    for result in found:
        assert result["score"] == result["lexical_score"] > 0
        assert result["vector_score"] is None
    assert response.json()["usage"]["embedding_tokens"] == 0
    assert (len(shelf.entries()), len(shelf.fake.tally())) == (booked, called)


def test_by_both_scores_lie_between_0_and_1(shelf: Shelf) -> None:
    found = shelf.search(mode="hybrid", similarity_threshold=0, limit=50)
    assert texts(found)[0] == TEXTS[0]
    assert all(0 <= result["score"] <= 1 for result in found)
    assert all(result["lexical_score"] >= 0 for result in found)
    for result in found:
        assert result["vector_score"] == pytest.approx(similarities(QUERY)[result["text"]], abs=CLOSE)


def test_without_a_mode_a_search_is_by_both(shelf: Shelf) -> None:
    assert shelf.search(limit=50) == shelf.search(limit=50, mode="hybrid")
    assert shelf.entries()[-1].metadata["strategy"] == "hybrid"


@pytest.mark.parametrize("mode", MODES)
def test_results_are_chunks_of_the_collections_documents_best_first(shelf: Shelf, mode: str) -> None:
    found = shelf.search(mode=mode, similarity_threshold=0, limit=50)
    assert len(found) > 2
    scores = [result["score"] for result in found]
    assert scores == sorted(scores, reverse=True)
    listed = shelf.persona.api.get(f"/api/v1/collections/{shelf.collection}/documents").json()["results"]
    names = {document["id"]: document["name"] for document in listed}
    for result in found:
        assert names[result["document_id"]] == result["document_name"]
        chunks = shelf.persona.api.get(f"/api/v1/documents/{result['document_id']}/chunks").json()["results"]
        assert [(chunk["id"], chunk["text"]) for chunk in chunks] == [(result["chunk_id"], result["text"])]


@pytest.mark.parametrize("mode", MODES)
def test_a_limit_keeps_the_best(shelf: Shelf, mode: str) -> None:
    every = shelf.search(mode=mode, similarity_threshold=0, limit=50)
    for limit in (1, 2, len(every)):
        assert texts(shelf.search(mode=mode, similarity_threshold=0, limit=limit)) == texts(every)[:limit]


def test_a_threshold_leaves_out_what_is_less_similar(shelf: Shelf) -> None:
    every = shelf.search(mode="vector", similarity_threshold=0, limit=50)
    between = (every[0]["score"] + every[1]["score"]) / 2
    assert shelf.search(mode="vector", similarity_threshold=between, limit=50) == every[:1]
    assert shelf.search(TEXTS[1], mode="vector", similarity_threshold=0.999) != []


@pytest.mark.parametrize("mode", MODES)
def test_a_search_may_find_nothing(shelf: Shelf, mode: str) -> None:
    assert shelf.search("Zebras sleep standing", mode=mode, similarity_threshold=1) == []


def test_a_name_is_found_however_dissimilar_unless_by_meaning_alone(shelf: Shelf) -> None:
    assert texts(shelf.search("170", mode="hybrid", similarity_threshold=1)) == [TEXTS[3]]
    assert texts(shelf.search("170", mode="lexical", similarity_threshold=1)) == [TEXTS[3]]
    assert shelf.search("170", mode="vector", similarity_threshold=1) == []


@pytest.mark.parametrize("mode", ["hybrid", "vector"])
def test_embedding_the_query_is_booked_with_the_mode(shelf: Shelf, mode: str) -> None:
    booked, called = len(shelf.entries()), len(shelf.fake.tally())
    usage = shelf.post(query=f"{QUERY} {mode}", mode=mode).json()["usage"]
    [*_, entry] = shelf.entries()
    assert (len(shelf.entries()), len(shelf.fake.tally())) == (booked + 1, called + 1)
    assert usage == {"embedding_tokens": entry.total_tokens, "token_source": "api"}
    assert entry.total_tokens == shelf.fake.tally()[-1]["total"] > 0
    assert (str(entry.collection_id), entry.metadata["strategy"]) == (shelf.collection, mode)


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_collection_has_nothing_to_find(owner: Persona, mode: str) -> None:
    made = owner.api.post("/api/v1/collections", {"slug": "empty", "name": "Empty"}, format="json").json()
    response = owner.api.post(f"/api/v1/collections/{made['id']}/search", {"query": "x", "mode": mode}, format="json")
    assert (response.status_code, response.json()["results"]) == (200, [])


@pytest.mark.parametrize(
    ("field", "value"), [pytest.param(field, value) for field, values in MALFORMED.items() for value in values]
)
def test_a_malformed_search_is_refused_and_costs_nothing(shelf: Shelf, field: str, value: Any) -> None:
    booked, called = len(shelf.entries()), len(shelf.fake.tally())
    body = check_problem(shelf.post(**{"query": QUERY, field: value}), 400, "invalid_request")
    assert [error["field"] for error in body["errors"]] == [field]
    assert (len(shelf.entries()), len(shelf.fake.tally())) == (booked, called)


@pytest.mark.parametrize("body", [{}, {"mode": "lexical"}, [], "words", None])
def test_a_search_without_a_query_is_refused(shelf: Shelf, body: Any) -> None:
    response = shelf.persona.api.post(f"/api/v1/collections/{shelf.collection}/search", body, format="json")
    check_problem(response, 400, "invalid_request")


@pytest.mark.parametrize("mode", MODES)
def test_another_tenants_collection_is_searched_by_nobody_else(shelf: Shelf, stranger: Persona, mode: str) -> None:
    called = len(shelf.fake.tally())
    body = {"query": QUERY, "mode": mode, "similarity_threshold": 0}
    response = stranger.api.post(f"/api/v1/collections/{shelf.collection}/search", body, format="json")
    check_problem(response, 404, "collection_not_found")
    assert len(shelf.fake.tally()) == called
    with unit_of_work(stranger.ctx):
        assert not Entry.objects.exists()
