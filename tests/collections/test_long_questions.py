"""A question that is longer than the model that embeds it takes: its vector is of what is left of it.

Cohere's model takes 512 of its own tokens, which are counted with another vocabulary: 256 are sure to fit.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from apps.core.db import operator_scope
from apps.providers import tokens
from apps.tenants.models import Tier
from tests.api.test_headers import make_collection
from tests.fakes.process import FakeProvider
from tests.personas import MakeTenant, Persona

#: The tier that is edited here.
EDITED = "advance"
MODEL = {"provider": "cohere", "model": "embed-english-v3.0", "dimensions": 1024}
LONGEST = 256
QUESTION = " ".join(f"word{number}" for number in range(300))


@pytest.fixture
def tenant(make_tenant: MakeTenant) -> Iterator[Persona]:
    kept = Tier.objects.get(pk=EDITED)
    yield make_tenant(tier=EDITED)
    with operator_scope("test"):
        kept.save()


@pytest.fixture
def deployed(fake_provider: FakeProvider) -> Iterator[None]:
    with override_settings(NOOBLE_PROVIDERS={"cohere": {"api_key": "test-key", "base_url": fake_provider.url}}):
        yield


def embedded(tenant: Persona, fake: FakeProvider, question: str) -> str:
    """The text of the question that the provider was sent."""
    collection = make_collection(tenant, embedding=MODEL).json()["id"]
    path = f"/api/v1/collections/{collection}/search"
    response = tenant.api.post(path, {"query": question}, format="json")
    assert response.status_code == 200, response.json()
    [text] = fake.arrivals()[-1]["body"]["texts"]
    return str(text)


def count(text: str) -> int:
    return tokens.count(text, provider="cohere", model=str(MODEL["model"])).tokens


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize("defaults", [{}, *({"truncation_strategy": part} for part in ("end", "start", "middle"))])
def test_what_is_left_of_it_is_as_the_tier_says(
    tenant: Persona, fake_provider: FakeProvider, defaults: dict[str, Any]
) -> None:
    with operator_scope("test"):
        settings = {f"processing_config.{name}": value for name, value in defaults.items()}
        Tier.objects.filter(pk=EDITED).update(defaults=settings)
    assert count(QUESTION) > LONGEST
    text = embedded(tenant, fake_provider, QUESTION)
    assert count(text) <= LONGEST
    left_out = defaults.get("truncation_strategy", "end")
    assert text.startswith("word0 ") == (left_out != "start")
    assert text.endswith(" word299") == (left_out != "end")
    assert (tokens.GAP in text) == (left_out == "middle")


@pytest.mark.usefixtures("deployed")
def test_a_question_that_fits_is_sent_as_it_is(tenant: Persona, fake_provider: FakeProvider) -> None:
    question = QUESTION[:500]
    assert embedded(tenant, fake_provider, question) == question
