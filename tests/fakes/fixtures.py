"""The fake provider of a test session, and the two names under which the deployment knows it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from tests.fakes.process import FakeProvider


@pytest.fixture
def fake_provider(fake_provider_process: FakeProvider) -> Iterator[FakeProvider]:
    """The fake provider, with no fault left over from another test."""
    yield fake_provider_process
    fake_provider_process.reset()


@pytest.fixture(scope="session")
def fake_provider_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeProvider]:
    """``fake`` and ``askable`` reach it, here and in workers that are started after it."""
    tally: Path = tmp_path_factory.mktemp("fake") / "tally.jsonl"
    provider = FakeProvider(tally)
    os.environ["FAKE_PROVIDER_URL"] = provider.url
    for name in ("fake", "askable"):
        settings.NOOBLE_PROVIDERS[name]["base_url"] = f"{provider.url}/v1"
    yield provider
    provider.stop()
