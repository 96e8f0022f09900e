"""A question that is searched for in several wordings: embedded in one call, and what each finds is fused."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest

from apps.collections import fusion, retrieval
from apps.collections.retrieval import Retrieved
from apps.collections.search import Hit
from apps.core.context import EmbeddingConfig, ExecutionContext
from apps.gateway import services as gateway
from apps.gateway.types import Charge, OperationKind, TokenType
from tests.faults.scene import DIMENSIONS, Scene

A, B, C, D = (UUID(int=number) for number in range(1, 5))


def ranking(*found: UUID, score: float = 0.5) -> list[Hit]:
    """What a search has found, best first."""
    return [
        Hit(
            chunk_id=chunk,
            document_id=uuid4(),
            document_name="note.md",
            text="",
            page=None,
            heading="",
            score=score,
            vector_score=score,
            lexical_score=score,
        )
        for chunk in found
    ]


def order(*rankings: Sequence[Hit], limit: int = 10) -> list[UUID]:
    return [hit.chunk_id for hit in fusion.fused(rankings, limit=limit)]


def test_one_ranking_stays_as_it_is() -> None:
    found = ranking(B, A, C)
    assert fusion.fused([found], limit=2) == found[:2]


def test_what_many_find_goes_before_what_one_finds() -> None:
    assert order(ranking(A, B), ranking(C, B), ranking(D, B))[0] == B


def test_what_as_many_find_is_in_the_order_of_the_ranks() -> None:
    assert order(ranking(C, A, B), ranking(C, A, B)) == [C, A, B]
    assert order(ranking(B, A, C), ranking(B, C, A), ranking(A, B, C)) == [B, A, C]


def test_equal_ones_are_always_in_the_same_order() -> None:
    assert order(ranking(B), ranking(A)) == order(ranking(A), ranking(B)) == [A, B]


def test_no_more_are_left_than_were_asked_for() -> None:
    assert order(ranking(A, B), ranking(A, C), limit=2) == [A, B]
    assert order([], []) == []


def test_the_score_says_how_near_it_is_to_being_the_first_of_every_ranking() -> None:
    first, second, third = fusion.fused([ranking(A, B), ranking(A), ranking(A, B, C)], limit=3)
    assert first.score == pytest.approx(1)
    assert second.score == pytest.approx(2 / 3 * 61 / 62)
    assert third.score == pytest.approx(1 / 3 * 61 / 63)


def test_its_other_scores_are_those_of_the_first_ranking_that_has_it() -> None:
    rankings = [ranking(A, score=0.9), ranking(B, A, score=0.7), ranking(A, B, score=0.5)]
    other = {hit.chunk_id: (hit.vector_score, hit.lexical_score) for hit in fusion.fused(rankings, limit=2)}
    assert other == {A: (0.9, 0.9), B: (0.7, 0.7)}


# With vectors of a provider

FACT = "Bicycles are parked behind the kitchen."
OTHER = "The lighthouse keeper feeds the gulls."
#: Shares no word with either, nor a place in the fake's vectors.
QUESTION = "Where do I leave my velocipede?"
WORDINGS = ("Where are bicycles parked?", "Who feeds the gulls?")


@pytest.fixture
def collection(scene: Scene) -> str:
    collection = scene.collection()
    for text in (FACT, OTHER):
        assert scene.wait_for_document(scene.upload(collection, text)).status == "ready"
    return collection


CHARGE = Charge(operation=OperationKind.QUERY, token_type=TokenType.EMBEDDING, payload={"question": QUESTION})


def retrieve(ctx: ExecutionContext, *collections: str, wordings: Sequence[str] = (), limit: int = 5) -> Retrieved:
    return retrieval.retrieve(
        ctx,
        QUESTION,
        wordings=wordings,
        collections=[UUID(each) for each in collections],
        limit=limit,
        similarity_threshold=0.25,
        charge=CHARGE,
    )


def found(scene: Scene, *collections: str, wordings: Sequence[str] = (), limit: int = 5) -> list[str]:
    return texts(retrieve(scene.persona.ctx, *collections, wordings=wordings, limit=limit))


def texts(retrieved: Retrieved) -> list[str]:
    return [hit.text for hit in retrieved.hits]


def embedded(scene: Scene) -> list[Any]:
    """The texts of each call that embedded the question."""
    sent = [each["body"]["input"] for each in scene.fake.arrivals() if "embeddings" in each["path"]]
    return [together for together in sent if QUESTION in together]


def test_what_only_another_wording_finds_is_found(scene: Scene, collection: str) -> None:
    assert found(scene, collection, wordings=WORDINGS[:1]) == [FACT]


def test_what_is_similar_enough_to_none_of_them_is_not_found(scene: Scene, collection: str) -> None:
    assert found(scene, collection, wordings=["Where do I leave it?", "My velocipede, where to?"]) == []


def test_all_of_them_are_embedded_in_one_call_and_booked_as_one(scene: Scene, collection: str) -> None:
    taken = retrieve(scene.persona.ctx, collection, wordings=WORDINGS).counts
    assert embedded(scene) == [[QUESTION, *WORDINGS]]
    [entry] = [entry for entry in scene.entries() if entry.operation == "query"]
    assert (entry.metadata["batch_size"], entry.total_tokens) == (3, taken.total_tokens)


def test_no_more_passages_come_of_more_wordings(scene: Scene, collection: str) -> None:
    assert len(found(scene, collection, wordings=WORDINGS, limit=1)) == 1


def test_every_kind_of_space_is_asked_with_vectors_of_its_own(scene: Scene, collection: str) -> None:
    embedding = {"provider": "fake", "model": "fake-embedding", "dimensions": DIMENSIONS // 2}
    body = {"slug": "short", "name": "Short", "embedding": embedding, "chunk_size": 64, "chunk_overlap": 0}
    other = str(scene.post("/collections", body)["id"])
    assert scene.wait_for_document(scene.upload(other, "Where bicycles are parked, it is dry.")).status == "ready"
    assert len(found(scene, collection, other, wordings=WORDINGS)) == 3
    assert embedded(scene) == [[QUESTION, *WORDINGS]] * 2


def test_what_an_earlier_delivery_had_no_vector_for_is_searched_for_by_its_words(scene: Scene, collection: str) -> None:
    config = EmbeddingConfig(provider="fake", model="fake-embedding", dimensions=DIMENSIONS)
    ctx = scene.persona.ctx
    gateway.embed(ctx, CHARGE, [QUESTION], config=config, input_type="query")
    assert texts(retrieve(ctx, collection, wordings=WORDINGS[:1])) == [FACT]
    assert embedded(scene) == [[QUESTION]]
