"""Several rankings of passages become one, by reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from apps.collections.search import Hit

#: How little the first ranks differ from each other: the paper's constant.
RANK_CONSTANT = 60


def fused(rankings: Sequence[Sequence[Hit]], *, limit: int) -> list[Hit]:
    """At most ``limit`` hits, best first; of equal ones always the same first. One ranking stays as it is.

    The scores of different searches cannot be compared, ranks can. A hit's score is then 0 to 1: 1 is the first of
    every ranking. Its other scores are those of the first ranking that has it.
    """
    if len(rankings) == 1:
        return list(rankings[0][:limit])
    hits: dict[UUID, Hit] = {}
    scores: defaultdict[UUID, float] = defaultdict(float)
    for ranking in rankings:
        for rank, hit in enumerate(ranking, start=1):
            hits.setdefault(hit.chunk_id, hit)
            scores[hit.chunk_id] += (RANK_CONSTANT + 1) / (RANK_CONSTANT + rank) / len(rankings)
    best = sorted(scores, key=lambda chunk_id: (-scores[chunk_id], chunk_id))[:limit]
    return [replace(hits[chunk_id], score=scores[chunk_id]) for chunk_id in best]
