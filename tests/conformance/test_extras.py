"""What only one provider takes goes out to it, and the answer is counted as any other."""

from dataclasses import replace
from typing import Any

import pytest

from apps.providers import catalog, extras
from apps.providers.base import ChatRequest
from apps.providers.extras import Extra
from tests.conformance.conftest import Tried
from tests.fakes.process import FakeProvider


def value_of(extra: Extra) -> Any:
    """The greatest of its values, or the last."""
    return extra.choices[-1] if extra.choices else extra.type(extra.maximum)


def asking(tried: Tried) -> list[ChatRequest]:
    """A question with each extra that the subject takes, to the first of its models that does."""
    asked: dict[str, ChatRequest] = {}
    for spec in catalog.models(tried.subject.name, "chat"):
        for name, extra in extras.of(spec.provider, spec.model).items():
            question = replace(tried.question(), model=spec.model, extras={name: value_of(extra)})
            asked.setdefault(name, question)
    return list(asked.values())


@pytest.mark.parametrize("way", ["whole", "streamed"])
def test_each_extra_arrives_and_is_taken(remote: Tried, fake: FakeProvider, way: str) -> None:
    # The fake refuses what its provider would: words that are none of its, and those that the model does not take.
    requests = asking(remote)
    for request in requests:
        answer = remote.complete(request) if way == "whole" else list(remote.stream(request))[-1]
        assert answer.usage
        assert answer.usage.total_tokens == fake.tally()[-1]["total"]
    place = remote.subject.extras_in
    for arrival, request in zip(fake.arrivals(), requests, strict=True):
        body = arrival["body"][place] if place else arrival["body"]
        assert {name: body.get(name) for name in request.extras} == request.extras
    assert requests or remote.subject.name == "askable"


def test_without_any_none_goes_out(remote: Tried, fake: FakeProvider) -> None:
    remote.complete()
    [arrival] = fake.arrivals()
    names = {name for offered in extras.table().values() for name in offered} | {"extra_body", "output_config"}
    assert not names & arrival["body"].keys()
