"""Search by words (BM25), by meaning (cosine similarity) or by both, in one or several spaces at once.

A search is one statement and scans its spaces exactly. It is made inside a unit of work, whose row-level security keeps
it to the owner's rows, and finds only documents that are ready. ``migrations/sql`` has the functions it is made of.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol
from uuid import UUID

from pgvector import HalfVector

from apps.collections.types import Mode

#: How many chunks of a space each list, by words and by meaning, offers for both scores.
CANDIDATES = 100
#: The part of similarity in a hybrid score. Fixed, not fitted: on Cranfield, nDCG@10 is 0.536 at 0.2 and 0.3, 0.534 at
#: 0.4, and 0.531 and 0.528 at 0.1 and 0.5.
VECTOR_WEIGHT = 0.3
#: The part of a question's words, by weight, for which a chunk is found however dissimilar it is: 1 is a chunk of
#: average length that has each of them once. Lower lets in what shares common words, higher loses names in questions.
STRONG_MATCH = 0.5


class Cursor(Protocol):
    """What Django's and psycopg's cursors have in common."""

    def execute(self, statement: Any, parameters: Any, /) -> Any: ...
    def fetchall(self) -> list[tuple[Any, ...]]: ...


@dataclass(frozen=True, kw_only=True)
class SpaceQuery:
    """A space to search, and the question as that space's own model embeds it."""

    space_id: UUID
    #: As many numbers as the space has dimensions; None for a lexical search, and for a wording that an earlier
    #: delivery did not embed.
    vector: Sequence[float] | None = None
    #: The least cosine similarity, -1 to 1, that a chunk of this space is found with.
    similarity_threshold: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A chunk that was found."""

    chunk_id: UUID
    document_id: UUID
    document_name: str
    text: str
    page: int | None
    heading: str
    #: What it is ranked by: the one score of the mode, or in a hybrid search 0 to 1, which is the best by both.
    score: float
    #: Cosine similarity, -1 to 1; None in a lexical search.
    vector_score: float | None
    #: BM25, 0 without a common word and without an upper bound; None in a vector search.
    lexical_score: float | None


def search(
    cursor: Cursor, spaces: Sequence[SpaceQuery], text: str, *, mode: Mode = "hybrid", limit: int = 10
) -> list[Hit]:
    """At most ``limit`` chunks of these spaces, best first; of equal ones always the same first.

    ``lexical`` finds what shares a word with the text, ``vector`` what is similar enough. ``hybrid`` takes the best of
    both lists and ranks them by the sum of both scores, each brought to 0 to 1 over all candidates: over all, because a
    space without an answer would otherwise win places with the least bad of its chunks. Similarities are compared
    within a model only. What is not similar enough is found all the same when it holds ``STRONG_MATCH`` of the text's
    words: names and codes mean nothing to an embedding model.
    """
    parameters = {
        "spaces": [space.space_id for space in spaces],
        "vectors": [None if space.vector is None else HalfVector(list(space.vector)).to_text() for space in spaces],
        "thresholds": [space.similarity_threshold for space in spaces],
        "text": None if mode == "vector" else text,
        "candidates": CANDIDATES if mode == "hybrid" else limit,
        "limit": limit,
        "vector_weight": VECTOR_WEIGHT,
        "strong_match": STRONG_MATCH,
    }
    cursor.execute(_STATEMENTS[mode], parameters)
    return [Hit(**dict(zip(_COLUMNS, row, strict=True))) for row in cursor.fetchall()]


_COLUMNS = [field.name for field in fields(Hit)]

# NOT IN the unready, where one would join the ready: it is looked up in a hash table whatever the planner believes of
# the tables' sizes. A join it turns, for a space that was filled a moment ago, into one scan of the space a document.
_ASKED = """
    WITH unready AS MATERIALIZED (
        SELECT id FROM collections_document WHERE space_id = ANY (%(spaces)s::uuid[]) AND status <> 'ready'
    ), asked AS MATERIALIZED (
        SELECT space.id AS space_id, space.provider, space.model, space.dimensions,
               question.vector, question.threshold, nooble_question_terms(space.id, %(text)s) AS terms
          FROM unnest(%(spaces)s::uuid[], %(vectors)s::halfvec[], %(thresholds)s::float8[])
               AS question (space_id, vector, threshold)
          JOIN collections_embeddingspace AS space ON space.id = question.space_id
    )"""

# A chunk without a word of the question is not a match, only the end of the list.
_BY_WORDS = """
    SELECT asked.space_id, found.chunk_id, -found.distance AS score
      FROM asked CROSS JOIN LATERAL (
           SELECT entry.chunk_id, entry.terms <#> asked.terms AS distance
             FROM collections_chunkterms AS entry
            WHERE entry.space_id = asked.space_id AND entry.document_id NOT IN (SELECT id FROM unready)
            ORDER BY distance, entry.chunk_id
            LIMIT %(candidates)s
           ) AS found
     WHERE found.distance < 0"""

_BY_MEANING = """
    SELECT asked.space_id, found.chunk_id, 1 - found.distance AS score, asked.threshold
      FROM asked CROSS JOIN LATERAL (
           SELECT entry.chunk_id, entry.embedding <=> asked.vector AS distance
             FROM collections_chunkembedding AS entry
            WHERE entry.space_id = asked.space_id AND entry.document_id NOT IN (SELECT id FROM unready)
            ORDER BY distance, entry.chunk_id
            LIMIT %(candidates)s
           ) AS found
     WHERE found.distance <> 'NaN'"""

_LEXICAL = f"""{_ASKED}
    SELECT chunk.id, chunk.document_id, document.name, chunk.text, chunk.page, chunk.heading,
           found.score, NULL, found.score
      FROM ({_BY_WORDS}) AS found
      JOIN collections_chunk AS chunk ON chunk.id = found.chunk_id
      JOIN collections_document AS document ON document.id = chunk.document_id
     ORDER BY found.score DESC, chunk.id
     LIMIT %(limit)s"""  # noqa: S608 - put together from this module's constants

_VECTOR = f"""{_ASKED}
    SELECT chunk.id, chunk.document_id, document.name, chunk.text, chunk.page, chunk.heading,
           found.score, found.score, NULL
      FROM ({_BY_MEANING}) AS found
      JOIN collections_chunk AS chunk ON chunk.id = found.chunk_id
      JOIN collections_document AS document ON document.id = chunk.document_id
     WHERE found.score >= found.threshold
     ORDER BY found.score DESC, chunk.id
     LIMIT %(limit)s"""  # noqa: S608 - put together from this module's constants


def _min_max(score: str, window: str) -> str:
    """SQL for a score's place between the least and the greatest; where all are equal, 1 if there is anything in it."""
    least, greatest = f"min({score}) OVER {window}", f"max({score}) OVER {window}"
    return f"coalesce(({score} - {least}) / nullif({greatest} - {least}, 0), ({score} > 0)::integer)"


# Distances that are NaN, of a vector without a direction, count as no similarity.
_HYBRID = f"""{_ASKED}, candidates AS (
        SELECT space_id, chunk_id FROM ({_BY_WORDS}) AS by_words
        UNION
        SELECT space_id, chunk_id FROM ({_BY_MEANING}) AS by_meaning
    ), scored AS MATERIALIZED (
        SELECT asked.*, candidates.chunk_id, -(words.terms <#> asked.terms) AS lexical_score,
               coalesce(1 - nullif(meaning.embedding <=> asked.vector, 'NaN'), 0) AS vector_score
          FROM candidates
          JOIN asked USING (space_id)
          JOIN collections_chunkterms AS words USING (chunk_id)
          JOIN collections_chunkembedding AS meaning USING (chunk_id)
    ), ranked AS (
        SELECT scored.*, %(vector_weight)s * {_min_max("vector_score", "one_model")}
               + (1 - %(vector_weight)s) * {_min_max("lexical_score", "()")} AS score
          FROM scored
        WINDOW one_model AS (PARTITION BY provider, model, dimensions)
    ), best AS (
        SELECT * FROM ranked
         WHERE vector_score >= threshold
            OR lexical_score >= %(strong_match)s * (terms <+> nooble_sparse(NULL))
         ORDER BY score DESC, chunk_id
         LIMIT %(limit)s
    )
    SELECT chunk.id, chunk.document_id, document.name, chunk.text, chunk.page, chunk.heading,
           best.score, best.vector_score, best.lexical_score
      FROM best
      JOIN collections_chunk AS chunk ON chunk.id = best.chunk_id
      JOIN collections_document AS document ON document.id = chunk.document_id
     ORDER BY best.score DESC, chunk.id"""  # noqa: S608 - put together from this module's constants

_STATEMENTS: dict[Mode, str] = {"hybrid": _HYBRID, "vector": _VECTOR, "lexical": _LEXICAL}
