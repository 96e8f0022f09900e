"""The mathematics of search in the database: terms, statistics, scores, ranking."""

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection

from apps.collections import search
from apps.collections.models import Chunk, ChunkEmbedding, Collection, Document, EmbeddingSpace
from apps.collections.search import Hit, SpaceQuery
from apps.collections.types import DocumentStatus, Mode
from apps.core.context import ExecutionContext
from apps.core.db import fetch_all, fetch_one, unit_of_work
from tests.personas import Persona

EAST, NORTH, UP = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]
NO_THRESHOLD = -1.0


@dataclass
class Library:
    """A collection in the making; its vectors have three dimensions, so that similarities can be chosen."""

    ctx: ExecutionContext
    model: str = "model-3"
    space: EmbeddingSpace = field(init=False)

    def __post_init__(self) -> None:
        tenant_id = self.ctx.tenant_id
        with unit_of_work(self.ctx):
            collection = Collection.objects.create(tenant_id=tenant_id, slug=f"c-{uuid4().hex[:12]}", name="Test")
            self.space = EmbeddingSpace.objects.create(
                tenant_id=tenant_id,
                collection=collection,
                provider="fake",
                model=self.model,
                dimensions=3,
                chunk_size=512,
                chunk_overlap=64,
            )

    def add(self, *texts: str, vector: Sequence[float] = EAST, status: str = DocumentStatus.READY) -> Document:
        """A document of these chunks, indexed."""
        document = self.store(*texts, vector=vector, status=status)
        self.index(document)
        return document

    def store(self, *texts: str, vector: Sequence[float] = EAST, status: str = DocumentStatus.READY) -> Document:
        keys = {"tenant_id": self.ctx.tenant_id, "space_id": self.space.pk}
        with unit_of_work(self.ctx):
            document = Document.objects.create(
                **keys,
                collection_id=self.space.collection_id,
                name=texts[0][:20],
                size_bytes=1,
                content_hash=uuid4().hex,
                status=status,
                signed_context="",
            )
            for ordinal, text in enumerate(texts):
                chunk = Chunk.objects.create(**keys, document=document, ordinal=ordinal, text=text, tokens=1)
                ChunkEmbedding.objects.create(**keys, chunk=chunk, document=document, embedding=list(vector))
        return document

    def index(self, document: Document) -> int:
        return self._call("nooble_index_document", document)

    def unindex(self, document: Document) -> int:
        return self._call("nooble_unindex_document", document)

    def _call(self, function: str, document: Document) -> int:
        with unit_of_work(self.ctx):
            row = fetch_one(f"SELECT {function}(%s, %s) AS chunks", [self.space.pk, document.pk])
        assert row is not None
        return int(row["chunks"])

    def query(self, vector: Sequence[float] | None = EAST, *, threshold: float = NO_THRESHOLD) -> SpaceQuery:
        return SpaceQuery(space_id=self.space.pk, vector=vector, similarity_threshold=threshold)

    def statistics(self) -> tuple[dict[int, int], tuple[int, int]]:
        """What the space believes of itself: chunks by term, and how many chunks and lexemes there are."""
        with unit_of_work(self.ctx):
            terms = fetch_all("SELECT term, chunks FROM collections_termstatistic WHERE space_id = %s", [self.space.pk])
            self.space.refresh_from_db()
        return {row["term"]: row["chunks"] for row in terms}, (self.space.chunks, self.space.lexemes)

    def recount(self) -> tuple[dict[int, int], tuple[int, int]]:
        """The same, counted anew from the texts of the chunks that are indexed."""
        rows = self._terms_of_chunks()
        found: dict[int, int] = {}
        for row in rows:
            if row["term"] is not None:
                found[row["term"]] = found.get(row["term"], 0) + 1
        lengths = sum(row["occurrences"] or 0 for row in rows)
        return found, (len({row["chunk_id"] for row in rows}), lengths)

    def _terms_of_chunks(self) -> list[dict[str, Any]]:
        with unit_of_work(self.ctx):
            return fetch_all(
                "SELECT indexed.chunk_id, entry.term, entry.occurrences FROM collections_chunkterms AS indexed"
                " JOIN collections_chunk AS chunk ON chunk.id = indexed.chunk_id"
                " LEFT JOIN LATERAL nooble_terms('english', chunk.text) AS entry ON true WHERE indexed.space_id = %s",
                [self.space.pk],
            )


@pytest.fixture
def library(owner: Persona) -> Library:
    return Library(owner.ctx)


def find(
    ctx: ExecutionContext, spaces: Sequence[SpaceQuery], text: str, *, mode: Mode = "hybrid", limit: int = 10
) -> list[Hit]:
    with unit_of_work(ctx), connection.cursor() as cursor:
        return search.search(cursor, spaces, text, mode=mode, limit=limit)


def texts(hits: Sequence[Hit]) -> list[str]:
    return [hit.text for hit in hits]


def terms(text: str, config: str = "english") -> dict[int, int]:
    rows = fetch_all("SELECT term, occurrences FROM nooble_terms(%s::regconfig, %s)", [config, text])
    return {row["term"]: row["occurrences"] for row in rows}


def term(lexeme: str) -> int:
    """What ``nooble_term`` computes, computed elsewhere."""
    return (int(hashlib.md5(lexeme.encode()).hexdigest()[:7], 16)) + 1


# Terms


def test_a_terms_place_is_the_same_on_every_platform(database: None) -> None:
    words = ["flow", "flows", "flowing", "résumé"]
    assert terms(" ".join(words), "simple") == {term(word): 1 for word in words}
    assert term("flow") == 218059928


def test_words_are_reduced_to_stems_and_stop_words_dropped(database: None) -> None:
    assert terms("the flows were flowing") == {term("flow"): 2}


@pytest.mark.parametrize("text", ["“flow”", "—flow—", "¿flow?", "«flow»", "ﬂow", "\uff46\uff4c\uff4f\uff57"])
def test_typography_does_not_hide_a_word(database: None, text: str) -> None:
    assert terms(text) == {term("flow"): 1}


def test_stems_with_one_place_count_as_one_term(database: None) -> None:
    first, second = _colliding_words()
    assert terms(f"{first} {second} {second}", "simple") == {term(first): 3}


def _colliding_words() -> tuple[str, str]:
    seen: dict[int, str] = {}
    for number in count():
        word = f"w{number}x"
        if (place := term(word)) in seen:
            return seen[place], word
        seen[place] = word
    raise AssertionError


@pytest.mark.parametrize("text", ["", " \n ", "the of and", "!?", "<" * 5000])
def test_a_text_without_words_has_no_terms(database: None, text: str) -> None:
    assert terms(text) == {}


@pytest.mark.parametrize(
    "text",
    ["1@a" * 30_000, "a_" * 30_000, "word " * 300_000, "x" * 3_000, "\U00010480-" * 65_536, "\ufdfa" * 65_536],
    ids=["quadratic", "quadratic too", "above 1 MB", "a word above 2 kB", "four bytes a letter", "grows when composed"],
)
def test_a_hostile_text_is_read_within_the_limits_of_to_tsvector(database: None, text: str) -> None:
    row = fetch_one("SELECT nooble_readable(%s) AS text", [text])
    assert row is not None
    assert max(map(len, row["text"].split())) <= 200
    assert len(row["text"]) <= 65_536 * 201 / 200
    assert len(terms(text, "simple")) <= 16_000


def test_a_text_has_no_more_terms_than_a_sparse_vector_holds(database: None, library: Library) -> None:
    library.add(" ".join(f"{chr(0x4E00 + number)}-{chr(0x20000 + number)}" for number in range(16_000)))
    assert len(library.statistics()[0]) == 16_000


# Statistics


def test_indexing_counts_terms_chunks_and_lexemes(library: Library) -> None:
    library.add("flow over a wing", "the flow", "")
    assert library.statistics() == ({term("flow"): 2, term("wing"): 1}, (3, 3))


def test_indexing_twice_is_indexing_once(library: Library) -> None:
    document = library.add("flow over a wing")
    before = library.statistics()
    assert library.index(document) == 0
    assert library.statistics() == before


def test_indexing_a_document_that_is_gone_changes_nothing(library: Library) -> None:
    document = library.store("flow")
    with unit_of_work(library.ctx):
        Document.objects.filter(pk=document.pk).delete()
    assert library.index(document) == 0
    assert library.statistics() == ({}, (0, 0))


def test_unindexing_is_the_inverse_of_indexing(library: Library) -> None:
    library.add("flow over a wing")
    before = library.statistics()
    document = library.add("heat flow", "", "the of")
    assert library.unindex(document) == 3
    assert library.statistics() == before
    assert library.unindex(document) == 0
    assert library.statistics() == before


def test_statistics_equal_a_recount_whatever_happens_at_once(library: Library) -> None:
    chance = random.Random(7)
    words = [f"word{number}" for number in range(60)]
    documents = [library.store(*(" ".join(chance.choices(words, k=30)) for _ in range(3))) for _ in range(12)]
    doomed = documents[8:]
    work: list[tuple[Callable[[Document], object], Document]] = []
    work += [(library.index, document) for document in documents] * 3
    work += [(library.unindex, document) for document in documents] * 2
    work += [(partial(_delete, library), document) for document in doomed]
    chance.shuffle(work)
    with ThreadPoolExecutor(6) as pool:
        for outcome in [pool.submit(_in_thread, step, document) for step, document in work]:
            outcome.result()
    assert library.statistics() == library.recount()
    for document in documents:
        library.index(document)
    assert library.statistics() == library.recount()
    assert library.statistics()[1][0] == 8 * 3


def _in_thread(step: Callable[[Document], object], document: Document) -> None:
    try:
        step(document)
    finally:
        connection.close()


def _delete(library: Library, document: Document) -> None:
    with unit_of_work(library.ctx), connection.cursor() as cursor:
        cursor.execute("SELECT nooble_unindex_document(%s, %s)", [library.space.pk, document.pk])
        Document.objects.filter(pk=document.pk).delete()


# Scores


def test_the_lexical_score_is_bm25(library: Library) -> None:
    library.add("flow flow wing", "heat", "wing plate plate plate")
    best = find(library.ctx, [library.query()], "flow flow wing", mode="lexical")[0]
    assert best.text == "flow flow wing"
    flow, wing = bm25(2, df=1, length=3), bm25(1, df=2, length=3)
    assert best.score == pytest.approx(2 * flow + wing, rel=1e-5)


def bm25(occurrences: int, *, df: int, length: int, average: float = 8 / 3, chunks: int = 3) -> float:
    idf = math.log(1 + (chunks - df + 0.5) / (df + 0.5))
    return idf * occurrences * 2.5 / (occurrences + 1.5 * (0.25 + 0.75 * length / average))


def test_a_chunk_without_a_common_word_is_no_lexical_match(library: Library) -> None:
    library.add("flow over a wing", "heat in a slab", "")
    assert texts(find(library.ctx, [library.query()], "wings", mode="lexical")) == ["flow over a wing"]
    assert find(library.ctx, [library.query()], "the of", mode="lexical") == []


def test_the_vector_score_is_cosine_similarity_and_stays_above_the_threshold(library: Library) -> None:
    library.add("east", vector=[2.0, 0.0, 0.0])
    library.add("north-east", vector=[1.0, 1.0, 0.0])
    library.add("north", vector=NORTH)
    hits = find(library.ctx, [library.query(threshold=0.5)], "", mode="vector")
    assert [(hit.text, round(hit.score, 3)) for hit in hits] == [("east", 1.0), ("north-east", 0.707)]
    assert [hit.lexical_score for hit in hits] == [None, None]


def test_a_vector_without_a_direction_is_similar_to_nothing(library: Library) -> None:
    library.add("nothing", vector=[0.0, 0.0, 0.0])
    library.add("east wing", vector=EAST)
    assert texts(find(library.ctx, [library.query(threshold=NO_THRESHOLD)], "", mode="vector")) == ["east wing"]
    hits = find(library.ctx, [library.query(threshold=NO_THRESHOLD)], "nothing east wing")
    assert {hit.text: hit.vector_score for hit in hits} == {"east wing": pytest.approx(1.0), "nothing": 0.0}


def test_the_hybrid_score_weighs_words_and_meaning(library: Library) -> None:
    library.add("flow over a wing", vector=NORTH)
    library.add("heat in a slab", vector=EAST)
    hits = find(library.ctx, [library.query()], "wing")
    assert [(hit.text, round(hit.score, 3)) for hit in hits] == [("flow over a wing", 0.7), ("heat in a slab", 0.3)]


def test_a_single_candidate_has_the_best_score(library: Library) -> None:
    library.add("flow over a wing")
    [hit] = find(library.ctx, [library.query()], "wing")
    assert hit.score == pytest.approx(1.0)


def test_without_a_common_word_meaning_ranks_alone(library: Library) -> None:
    library.add("flow", vector=NORTH)
    library.add("heat", vector=EAST)
    hits = find(library.ctx, [library.query()], "unheard-of")
    assert [(hit.text, round(hit.score, 3)) for hit in hits] == [("heat", 0.3), ("flow", 0.0)]


@pytest.mark.parametrize("mode", ["hybrid", "vector", "lexical"])
def test_equal_chunks_come_in_the_same_order_every_time(library: Library, mode: Mode) -> None:
    library.add(*["flow over a wing"] * 5)
    everything = [hit.chunk_id for hit in find(library.ctx, [library.query()], "wing", mode=mode)]
    assert everything == sorted(everything)
    assert [hit.chunk_id for hit in find(library.ctx, [library.query()], "wing", mode=mode, limit=2)] == everything[:2]


# The threshold in a hybrid search


def test_a_weak_match_below_the_threshold_is_not_found(library: Library) -> None:
    library.add("a slab and a wing", vector=NORTH)
    assert find(library.ctx, [library.query(threshold=0.5)], "price of the wing of an ostrich") == []


def test_a_strong_match_below_the_threshold_is_found(library: Library) -> None:
    library.add("ERR-4711 means that the valve is stuck", vector=NORTH)
    library.add("valves, in general", vector=UP)
    hits = find(library.ctx, [library.query(threshold=0.5)], "what does ERR-4711 mean")
    assert texts(hits) == ["ERR-4711 means that the valve is stuck"]


# What is searched


@pytest.mark.parametrize("mode", ["hybrid", "vector", "lexical"])
@pytest.mark.parametrize("status", [status for status in DocumentStatus.values if status != DocumentStatus.READY])
def test_only_documents_that_are_ready_are_found(library: Library, mode: Mode, status: str) -> None:
    library.add("the other wing", status=status)
    library.add("a wing")
    assert texts(find(library.ctx, [library.query()], "wing", mode=mode)) == ["a wing"]


@pytest.mark.parametrize("mode", ["hybrid", "vector", "lexical"])
def test_a_stranger_finds_nothing(library: Library, stranger: Persona, mode: Mode) -> None:
    library.add("a wing")
    assert find(library.ctx, [library.query()], "wing", mode=mode) != []
    assert find(stranger.ctx, [library.query()], "wing", mode=mode) == []


def test_a_hit_says_where_it_stands(library: Library) -> None:
    document = library.add("a wing")
    with unit_of_work(library.ctx):
        Chunk.objects.filter(document=document).update(page=3, heading="Guide > Wings")
        chunk_id: UUID = Chunk.objects.get(document=document).pk
    [hit] = find(library.ctx, [library.query()], "wing")
    assert (hit.chunk_id, hit.document_id, hit.document_name) == (chunk_id, document.pk, document.name)
    assert (hit.page, hit.heading) == (3, "Guide > Wings")


def test_a_space_without_an_answer_wins_no_places(library: Library) -> None:
    other = Library(library.ctx)
    library.add("flow over a wing", vector=EAST)
    library.add("the wing of a plane", vector=[2.0, 1.0, 0.0])
    other.add("a cake", vector=[1.0, 3.0, 0.0])
    other.add("with cream", vector=UP)
    hits = find(library.ctx, [library.query(), other.query()], "wing in a flow")
    assert texts(hits) == ["flow over a wing", "the wing of a plane", "a cake", "with cream"]


def test_words_count_for_what_they_weigh_in_their_own_space(library: Library) -> None:
    other = Library(library.ctx)
    library.add("flow over a wing", "flow in a pipe", *["heat in a slab"] * 8)
    other.add("a wing", "a cake")
    hits = find(library.ctx, [library.query(), other.query()], "wing in a flow", limit=3)
    assert texts(hits) == ["flow over a wing", "flow in a pipe", "a wing"]


def test_similarities_of_two_models_are_not_compared(library: Library) -> None:
    other = Library(library.ctx, model="another")
    for place, vector in ((library, EAST), (library, [1.0, 1.0, 0.0]), (other, [1.0, 4.0, 0.0]), (other, NORTH)):
        place.add("text", vector=vector)
    hits = find(library.ctx, [library.query(), other.query()], "unheard-of")
    assert sorted(round(hit.score, 3) for hit in hits) == [0.0, 0.0, 0.3, 0.3]
