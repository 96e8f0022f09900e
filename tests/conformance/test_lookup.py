"""Asking a provider what became of a request."""

import threading

import numpy as np
import pytest

from apps.providers.base import ChatResult, EmbeddingResult, Fate
from apps.providers.errors import ProviderInterruptedError, ProviderRefusedError, ProviderUnavailableError
from tests.conformance.conftest import Tried
from tests.fakes.process import FakeProvider


def test_an_answer_that_never_arrived_is_found(askable: Tried, fake: FakeProvider) -> None:
    expected = askable.complete()
    fake.reset()
    fake.fail("drop")
    with pytest.raises(ProviderInterruptedError):
        askable.complete()
    found = askable.lookup()
    assert isinstance(found, ChatResult)
    assert found.usage is not None
    assert (found.text, found.usage.total_tokens) == (expected.text, fake.tally()[0]["total"])


def test_a_stream_that_was_cut_is_found_whole(askable: Tried, fake: FakeProvider) -> None:
    fake.fail("cut")
    with pytest.raises(ProviderInterruptedError):
        list(askable.stream())
    found = askable.lookup()
    assert isinstance(found, ChatResult)
    assert found.finish_reason == "stop"
    assert found.usage is not None


def test_vectors_that_never_arrived_are_found(askable: Tried, fake: FakeProvider) -> None:
    expected = askable.embed("a pump", "a dog", dimensions=256)
    fake.fail("drop")
    with pytest.raises(ProviderInterruptedError):
        askable.embed("a pump", "a dog", dimensions=256)
    found = askable.lookup()
    assert isinstance(found, EmbeddingResult)
    np.testing.assert_array_equal(found.vectors, expected.vectors)


def test_a_request_that_was_never_seen_will_never_be_counted(askable: Tried, fake: FakeProvider) -> None:
    assert askable.lookup() is Fate.NOT_SEEN
    with pytest.raises(ProviderRefusedError) as caught:
        askable.complete()
    assert caught.value.uncounted
    assert fake.tally() == []


def test_a_request_that_failed_uncounted_will_never_be_counted(askable: Tried, fake: FakeProvider) -> None:
    fake.fail("500")
    with pytest.raises(ProviderUnavailableError):
        askable.complete()
    assert askable.lookup() is Fate.NOT_SEEN
    assert fake.tally() == []


def test_a_request_at_work_is_running(askable: Tried, fake: FakeProvider) -> None:
    fake.fail("hold")
    worker = threading.Thread(target=askable.complete)
    worker.start()
    fake.await_arrival(askable.request_id)
    assert askable.lookup() is Fate.RUNNING
    fake.release()
    worker.join()
    assert isinstance(askable.lookup(), ChatResult)
