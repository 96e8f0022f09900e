"""What services do otherwise that speak OpenAI's protocol, in the books."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from django.conf import settings
from django.test import override_settings

from apps.providers.errors import PromptCutError, ProviderReadRefusalError
from tests.fakes.process import FakeProvider
from tests.gateway.streams import attempts, counts_of, stream
from tests.gateway.test_purchase import complete, context, counted, fail, operation
from tests.ledger.test_till import check_books
from tests.personas import Persona


@pytest.fixture(autouse=True)
def deployment(fake_provider: FakeProvider) -> Iterator[None]:
    providers = {
        "azure_openai": {"api_key": "k", "base_url": f"{fake_provider.url}/azure"},
        "ollama": {"base_url": f"{fake_provider.url}/ollama"},
    }
    with override_settings(NOOBLE_PROVIDERS={**settings.NOOBLE_PROVIDERS, **providers}):
        yield


def test_a_refusal_that_azure_charges_for_keeps_its_hold(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fail(fake_provider, question, "400", code="content_filter", counted=True, times=None)
    with pytest.raises(ProviderReadRefusalError):
        complete(context(owner, provider="azure_openai", retries=2), question)
    [attempt] = attempts(owner)
    assert (attempt.state, operation(owner).state) == ("unknown", "failed")
    books = check_books(owner.ctx)
    assert (books.entries, books.spent_tokens) == (0, 0)
    assert books.held_tokens >= counted(fake_provider, owner) > 0


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_to_a_part_of_the_prompt_is_billed_to_nobody(
    owner: Persona, fake_provider: FakeProvider, streamed: bool
) -> None:
    question = f"What is {uuid4().hex}? " * 400
    ctx = context(owner, provider="ollama", retries=2)
    with pytest.raises(PromptCutError):
        list(stream(ctx, question)) if streamed else complete(ctx, question)
    [attempt] = attempts(owner)
    assert (attempt.state, operation(owner).state) == ("lost", "failed")
    assert counts_of(attempt).total_tokens == counted(fake_provider, owner) > 0
    books = check_books(owner.ctx)
    assert (books.entries, books.spent_tokens, books.held_tokens) == (0, 0, 0)
