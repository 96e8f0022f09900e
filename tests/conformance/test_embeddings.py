"""Vectors."""

import numpy as np
import pytest

from apps.providers import catalog, tokens
from apps.providers.errors import ProviderBadResponseError, ProviderRefusedError, UnsupportedDimensionsError
from tests.conformance.conftest import Tried
from tests.fakes.answers import OWN_DIMENSIONS, vector
from tests.fakes.faults import VECTORS
from tests.fakes.process import FakeProvider

TEXTS = ("the pump is heavy", "the heavy pump", "dogs bark at night")


def test_each_text_gets_a_vector_of_unit_length_in_order(embedding: Tried) -> None:
    result = embedding.embed(*TEXTS)
    assert result.vectors.shape == (3, embedding.subject.dimensions)
    assert result.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(result.vectors, axis=1), 1, atol=1e-5)
    alone = np.vstack([embedding.embed(text).vectors for text in TEXTS])
    np.testing.assert_allclose(result.vectors, alone, atol=1e-6)


def test_texts_that_say_the_same_are_nearer_than_others(embedding: Tried) -> None:
    near, same, other = embedding.embed(*TEXTS).vectors
    assert near @ same > near @ other


def test_a_smaller_vector_is_made_on_request(embedding: Tried) -> None:
    vectors = embedding.embed(*TEXTS, dimensions=embedding.subject.smaller).vectors
    assert vectors.shape == (3, embedding.subject.smaller)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_vector_larger_than_the_models_is_refused_uncounted(embedding: Tried, fake: FakeProvider) -> None:
    with pytest.raises(UnsupportedDimensionsError) as caught:
        embedding.embed(*TEXTS, dimensions=4096)
    assert caught.value.uncounted
    assert fake.tally() == []


def test_the_usage_is_all_input(embedding: Tried) -> None:
    usage = embedding.embed(*TEXTS).usage
    assert usage is not None
    assert usage.total_tokens == usage.fresh_input_tokens > 0


def test_as_much_as_the_catalogue_says_is_embedded_in_one_call(limited_embedding: Tried) -> None:
    name, size = limited_embedding.subject.name, limited_embedding.subject.smaller
    most, most_tokens = catalog.provider(name).max_texts, tokens.largest_batch(provider=name)
    assert most is not None
    assert len(limited_embedding.embed(*["pump"] * most, dimensions=size).vectors) == most
    if most_tokens is not None:
        # " pump" is one token in all vocabularies that count here.
        texts = [" pump" * (most_tokens // 16)] * 16
        assert len(limited_embedding.embed(*texts, dimensions=size).vectors) == 16


def test_more_texts_than_one_call_takes_are_refused_uncounted(limited_embedding: Tried, fake: FakeProvider) -> None:
    most = catalog.provider(limited_embedding.subject.name).max_texts
    assert most is not None
    with pytest.raises(ProviderRefusedError) as caught:
        limited_embedding.embed(*["pump"] * (most + 1))
    assert caught.value.uncounted
    assert fake.tally() == []


def test_an_empty_text_is_refused_uncounted(embedding: Tried, fake: FakeProvider) -> None:
    with pytest.raises(ProviderRefusedError) as caught:
        embedding.embed("a pump", "")
    assert caught.value.uncounted
    assert fake.tally() == []


def test_a_model_of_one_size_is_not_asked_for_it(remote_embedding: Tried, fake: FakeProvider) -> None:
    model = remote_embedding.subject.one_size
    size = OWN_DIMENSIONS[model]
    assert remote_embedding.embed(*TEXTS, dimensions=size, model=model).vectors.shape == (3, size)
    with pytest.raises(UnsupportedDimensionsError):
        remote_embedding.embed(*TEXTS, dimensions=256, model=model)
    [arrival] = fake.arrivals()
    assert not {"dimensions", "output_dimension"} & arrival["body"].keys()


@pytest.mark.parametrize("kind", VECTORS)
def test_vectors_that_cannot_be_are_a_bad_response_that_was_counted(
    remote_embedding: Tried, fake: FakeProvider, kind: str
) -> None:
    fake.fail(kind)
    with pytest.raises(ProviderBadResponseError) as caught:
        remote_embedding.embed(*TEXTS)
    assert not caught.value.uncounted
    assert caught.value.usage
    [line] = fake.tally()
    assert caught.value.usage.total_tokens == line["total"]
    assert caught.value.usage.raw


def test_vectors_come_in_the_order_of_their_index(remote_embedding: Tried, fake: FakeProvider) -> None:
    # The fake always sends the last text's first.
    first, *_, last = remote_embedding.embed(*TEXTS).vectors
    np.testing.assert_allclose(first, vector(TEXTS[0], len(first)), atol=1e-6)
    np.testing.assert_allclose(last, vector(TEXTS[-1], len(last)), atol=1e-6)


def test_the_request_goes_out_once_with_our_id(remote_embedding: Tried, fake: FakeProvider) -> None:
    remote_embedding.embed(*TEXTS)
    (arrival,) = fake.arrivals()
    assert arrival["headers"]["x-client-request-id"] == remote_embedding.request_id
    assert arrival["body"].get("input", arrival["body"].get("texts")) == list(TEXTS)
    (line,) = fake.tally()
    assert line["kind"] == "embeddings"


def test_vectors_as_lists_of_numbers_are_read_too(remote_embedding: Tried, fake: FakeProvider) -> None:
    expected = remote_embedding.embed(*TEXTS).vectors
    fake.fail("floats")
    np.testing.assert_allclose(remote_embedding.embed(*TEXTS).vectors, expected, atol=1e-6)
