"""One suite for every adapter: each test asks for a subject and is run with all that the behaviour concerns.

- ``chat`` every adapter that answers, ``embedding`` every one that embeds,
- ``remote`` those that speak HTTP, against the fake provider, ``remote_embedding`` those of them that embed,
- ``limited_embedding`` those that embed so much in one call and no more,
- ``call`` every way to call each of these: for an answer in one piece, for a streamed one, for vectors,
- ``askable`` those that can be asked afterwards.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from django.test import override_settings

from apps.providers import registry
from apps.providers.base import (
    Askable,
    ChatChunk,
    ChatMessage,
    ChatRequest,
    ChatResult,
    EmbeddingRequest,
    EmbeddingResult,
    Fate,
    Passage,
)
from apps.providers.errors import ProviderError
from apps.providers.lines import Line
from tests.conformance.subjects import ASKABLE, EMBEDDING, LIMITED, REMOTE, SUBJECTS, Subject
from tests.fakes.process import FakeProvider

API_KEY = "sk-conformance-4242-secret"
TIMEOUT = 30.0

QUESTION = "What is the serial number of the Zorblax pump 17?"
PASSAGE = Passage(number=1, document="manual.pdf", text="The Zorblax pump 17 has serial number QX-4471.", page=3)

_numbers = count(1)


@dataclass(frozen=True, kw_only=True)
class Tried:
    """An adapter under test, with requests to put to it."""

    subject: Subject
    #: Our id of the next request: the fake keeps its books by it.
    request_id: str

    @property
    def model(self) -> str:
        return self.subject.chat_model

    def question(self, text: str = QUESTION, *, max_tokens: int = 200, temperature: float | None = 0.4) -> ChatRequest:
        """A question with one passage."""
        messages = (ChatMessage(role="system", content="Answer briefly."), ChatMessage(role="user", content=text))
        return ChatRequest(
            model=self.model, messages=messages, max_tokens=max_tokens, temperature=temperature, passages=(PASSAGE,)
        )

    def complete(self, request: ChatRequest | None = None, *, timeout: float = TIMEOUT) -> ChatResult:
        """The answer in one piece."""
        adapter = registry.chat(self.subject.name)
        return adapter.complete(request or self.question(), request_id=self.request_id, timeout=timeout)

    def stream(
        self, request: ChatRequest | None = None, *, timeout: float = TIMEOUT, line: Line | None = None
    ) -> Iterator[ChatChunk]:
        """The answer piece by piece."""
        adapter = registry.chat(self.subject.name)
        return adapter.stream(request or self.question(), request_id=self.request_id, timeout=timeout, line=line)

    def embed(
        self, *texts: str, dimensions: int | None = None, model: str = "", timeout: float = TIMEOUT
    ) -> EmbeddingResult:
        """The texts' vectors."""
        request = EmbeddingRequest(
            model=model or self.subject.embedding_model, texts=texts or ("a pump", "a dog"), dimensions=dimensions
        )
        adapter = registry.embedding(self.subject.name)
        return adapter.embed(request, request_id=self.request_id, timeout=timeout)

    def lookup(self, request_id: str = "") -> ChatResult | EmbeddingResult | Fate:
        """What became of the request."""
        adapter = registry.chat(self.subject.name)
        assert isinstance(adapter, Askable)
        return adapter.lookup(request_id or self.request_id)


#: The ways to call a provider over HTTP, each with a text that it is about.
WAYS: dict[str, Callable[[Tried, str, float], Any]] = {
    "whole": lambda tried, text, timeout: tried.complete(tried.question(text), timeout=timeout),
    "streamed": lambda tried, text, timeout: list(tried.stream(tried.question(text), timeout=timeout)),
    "embedded": lambda tried, text, timeout: tried.embed(text, "a dog", timeout=timeout),
}
CALLS = [(subject, way) for way in WAYS for subject in REMOTE if way != "embedded" or subject.embedding_model]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One way to call one remote adapter."""

    tried: Tried
    way: str

    def make(self, text: str = QUESTION, *, timeout: float = TIMEOUT) -> Any:
        return WAYS[self.way](self.tried, text, timeout)

    def failure(self, text: str = QUESTION, *, timeout: float = TIMEOUT) -> ProviderError:
        """The error that the call ends with."""
        with pytest.raises(ProviderError) as caught:
            self.make(text, timeout=timeout)
        return caught.value


@pytest.fixture(scope="session")
def fake_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeProvider]:
    provider = FakeProvider(tmp_path_factory.mktemp("fake") / "tally.jsonl")
    yield provider
    provider.stop()


@pytest.fixture(scope="session")
def other_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeProvider]:
    provider = FakeProvider(tmp_path_factory.mktemp("elsewhere") / "tally.jsonl")
    yield provider
    provider.stop()


@pytest.fixture
def fake(fake_process: FakeProvider) -> FakeProvider:
    """The fake provider with empty books and no fault to come."""
    fake_process.reset()
    return fake_process


@pytest.fixture
def elsewhere(other_process: FakeProvider) -> FakeProvider:
    """Another one, at an address that no adapter is configured with."""
    other_process.reset()
    return other_process


@pytest.fixture
def deployed(fake: FakeProvider) -> Iterator[None]:
    """A deployment of all subjects, the remote ones at the fake."""
    providers = {subject.name: subject.settings(fake.url, API_KEY) for subject in SUBJECTS}
    with override_settings(NOOBLE_PROVIDERS=providers):
        yield


@pytest.fixture(params=SUBJECTS, ids=lambda subject: subject.name)
def chat(request: pytest.FixtureRequest, deployed: None) -> Tried:
    return _tried(request.param)


@pytest.fixture(params=EMBEDDING, ids=lambda subject: subject.name)
def embedding(request: pytest.FixtureRequest, deployed: None) -> Tried:
    return _tried(request.param)


@pytest.fixture(params=REMOTE, ids=lambda subject: subject.name)
def remote(request: pytest.FixtureRequest, deployed: None) -> Tried:
    return _tried(request.param)


@pytest.fixture(params=[subject for subject in EMBEDDING if subject.is_remote], ids=lambda subject: subject.name)
def remote_embedding(request: pytest.FixtureRequest, deployed: None) -> Tried:
    return _tried(request.param)


@pytest.fixture(params=LIMITED, ids=lambda subject: subject.name)
def limited_embedding(request: pytest.FixtureRequest, deployed: None) -> Tried:
    return _tried(request.param)


@pytest.fixture(params=CALLS, ids=lambda pair: f"{pair[0].name}-{pair[1]}")
def call(request: pytest.FixtureRequest, deployed: None) -> Call:
    subject, way = request.param
    return Call(tried=_tried(subject), way=way)


@pytest.fixture(params=ASKABLE, ids=lambda subject: subject.name)
def askable(request: pytest.FixtureRequest, deployed: None) -> Tried:
    return _tried(request.param)


def _tried(subject: Subject) -> Tried:
    return Tried(subject=subject, request_id=f"nbl-{subject.name}-{next(_numbers)}")
