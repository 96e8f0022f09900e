"""Which chunks are embedded in one call."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from apps.collections import batching
from apps.collections.models import Chunk
from apps.core.context import ProcessingConfig
from apps.providers import tokens


def chunks(*sizes: int, heading: str = "", first: int = 0) -> list[Chunk]:
    return [Chunk(ordinal=ordinal, tokens=size, heading=heading) for ordinal, size in enumerate(sizes, start=first)]


def spans(found: list[Chunk], *, provider: str, batch_size: int = 2048) -> list[tuple[int, int]]:
    config = ProcessingConfig(max_text_length=8192, batch_size=batch_size, chunk_size=512, chunk_overlap=0)
    return list(batching.spans(found, config, provider=provider))


@given(
    sizes=st.lists(st.integers(0, 10_000), min_size=1, max_size=300),
    batch_size=st.integers(1, 300),
    first=st.integers(0, 50),
)
def test_every_chunk_is_in_one_batch_that_is_as_great_as_it_may_be(
    sizes: list[int], batch_size: int, first: int
) -> None:
    rows, most = chunks(*sizes, first=first), tokens.largest_batch(provider="mistral")
    found = spans(rows, provider="mistral", batch_size=batch_size)
    assert most == 8192
    assert (found[0][0], found[-1][1]) == (first, first + len(sizes) - 1)
    assert all(last + 1 == after for (_, last), (after, _) in pairwise(found))
    batches = [rows[start - first : end - first + 1] for start, end in found]
    lengths = [sum(row.searched_tokens for row in batch) for batch in batches]
    for batch, length in zip(batches, lengths, strict=True):
        assert len(batch) <= min(batch_size, 256)
        assert length <= most or len(batch) == 1
    for (batch, length), (after, _) in pairwise(zip(batches, lengths, strict=True)):
        assert len(batch) == min(batch_size, 256) or length + after[0].searched_tokens > most


def test_the_headings_of_chunks_are_embedded_too() -> None:
    assert spans(chunks(*[64] * 100), provider="mistral") == [(0, 99)]
    assert len(spans(chunks(*[64] * 100, heading="A heading > " * 10), provider="mistral")) == 3


def test_a_provider_whose_limits_are_not_known_is_sent_what_the_tier_says() -> None:
    assert spans(chunks(*[4096] * 250), provider="local", batch_size=100) == [(0, 99), (100, 199), (200, 249)]
