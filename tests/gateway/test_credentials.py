"""Whose key a call is made with: that of whoever pays for it, as it is when the purchase begins."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from apps.core.context import EmbeddingConfig, ExecutionContext
from apps.core.db import operator_scope, unit_of_work
from apps.gateway import resolution
from apps.gateway import services as gateway
from apps.gateway.streaming import Done
from apps.ledger import till
from apps.ledger.models import Attempt, Entry
from apps.ledger.types import Admitted, Call, TokenType
from apps.providers import registry
from apps.providers.base import Credential
from apps.providers.errors import ProviderAuthenticationError, ProviderNotConfiguredError
from apps.tenants import credentials
from apps.tenants.errors import CredentialUnreadableError
from apps.tenants.models import ProviderCredential
from tests.fakes.process import FakeProvider
from tests.gateway.streams import stream
from tests.gateway.test_purchase import asked, complete, context, fail
from tests.ledger.test_till import check_books
from tests.personas import Persona

SECRET, OTHER = "sk-tenants-own-key-4242-first", "sk-tenants-own-key-4242-other"
DEPLOYMENTS = "test-key"
EMBEDDING = EmbeddingConfig(provider="fake", model="fake-embedding", dimensions=16)

Buy = Callable[[ExecutionContext, str], object]


def embed(ctx: ExecutionContext, question: str) -> object:
    charge, _ = asked(question)
    charge = replace(charge, token_type=TokenType.EMBEDDING)
    return gateway.embed(ctx, charge, [question], config=EMBEDDING)


def read(ctx: ExecutionContext, question: str) -> object:
    return list(stream(ctx, question))


EVERY_WAY = pytest.mark.parametrize("buy", [complete, read, embed])


def store(persona: Persona, secret: str = SECRET, provider: str = "fake") -> None:
    credentials.store(persona.ctx, provider=provider, secret=secret)


def keys_sent(fake: FakeProvider, question: str) -> list[str]:
    """The keys that the provider was called with, in the order of the calls."""
    calls = [call for call in fake.arrivals() if question in str(call["body"])]
    return [call["headers"]["authorization"].removeprefix("Bearer ") for call in calls]


def said(persona: Persona) -> list[str | None]:
    """Whose keys the entries name."""
    with unit_of_work(persona.ctx):
        return [entry.metadata.get("credential") for entry in Entry.objects.order_by("id")]


@EVERY_WAY
def test_a_call_is_made_with_the_payers_own_key(
    owner: Persona, fake_provider: FakeProvider, question: str, buy: Buy
) -> None:
    store(owner)
    buy(context(owner), question)
    assert keys_sent(fake_provider, question) == [SECRET]
    assert said(owner) == ["tenant"]


@EVERY_WAY
def test_without_one_it_is_made_with_the_deployments(
    owner: Persona, stranger: Persona, fake_provider: FakeProvider, question: str, buy: Buy
) -> None:
    store(stranger)
    buy(context(owner), question)
    assert keys_sent(fake_provider, question) == [DEPLOYMENTS]
    assert said(owner) == ["deployment"]


def test_a_provider_without_keys_names_none(owner: Persona, question: str) -> None:
    list(stream(context(owner, provider="local"), question))
    assert said(owner) == [None]


def test_whoever_pays_is_asked_for_the_key(
    owner: Persona, stranger: Persona, fake_provider: FakeProvider, question: str
) -> None:
    """A guest asks the owner's agent: once at the owner's cost, once at its own."""
    store(owner)
    store(stranger, OTHER)
    guest = context(stranger).model_copy(update={"owner_tenant_id": owner.tenant.pk})
    complete(guest.model_copy(update={"payer_tenant_id": owner.tenant.pk}), f"{question} 1")
    complete(guest, f"{question} 2")
    assert keys_sent(fake_provider, question) == [SECRET, OTHER]


def test_a_key_that_was_changed_or_taken_back_is_not_used_again(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    for number, change in enumerate([store, lambda who: store(who, OTHER), _take_back]):
        change(owner)
        complete(context(owner), f"{question} {number}")
    assert keys_sent(fake_provider, question) == [SECRET, OTHER, DEPLOYMENTS]


def _damage(persona: Persona) -> None:
    with operator_scope("test"):
        ProviderCredential.objects.filter(tenant=persona.tenant).update(encrypted_secret=b"damaged")


def _take_back(persona: Persona) -> None:
    credentials.remove(persona.ctx, "fake")


def test_a_key_that_is_refused_is_not_replaced_by_the_deployments(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    store(owner)
    fail(fake_provider, question, "401")
    with pytest.raises(ProviderAuthenticationError) as caught:
        complete(context(owner), question)
    assert keys_sent(fake_provider, question) == [SECRET]
    assert SECRET not in caught.value.detail


@EVERY_WAY
def test_a_key_that_cannot_be_read_is_not_replaced_either(
    owner: Persona, fake_provider: FakeProvider, question: str, buy: Buy
) -> None:
    store(owner)
    _damage(owner)
    with pytest.raises(CredentialUnreadableError):
        buy(context(owner), question)
    assert keys_sent(fake_provider, question) == []
    assert check_books(owner.ctx).held_tokens == 0


@EVERY_WAY
def test_what_was_bought_is_given_again_although_there_is_no_key_any_more(
    owner: Persona, fake_provider: FakeProvider, question: str, buy: Buy
) -> None:
    """The worker died between the booking and the answer's row, and the key was lost meanwhile."""
    store(owner)
    ctx = context(owner)
    bought = buy(ctx, question)
    _damage(owner)
    assert _brought(buy(ctx, question)) == _brought(bought)
    assert keys_sent(fake_provider, question) == [SECRET]
    assert said(owner) == ["tenant"]


def test_nothing_else_is_given_then_and_nothing_to_others(owner: Persona, stranger: Persona, question: str) -> None:
    store(owner)
    ctx = context(owner)
    complete(ctx, question)
    _damage(owner)
    guest = context(stranger).model_copy(update=dict.fromkeys(("owner_tenant_id", "payer_tenant_id"), owner.tenant.pk))
    for who, what in [(ctx, f"{question} 2"), (guest, question)]:
        with pytest.raises(CredentialUnreadableError):
            complete(who, what)


def _brought(bought: object) -> object:
    match bought:
        case gateway.Completion():
            return bought.text
        case gateway.Embedded():
            return bought.vectors.tolist() if bought.vectors is not None else None
        case [*_, Done() as done]:
            return done.completion.text
    raise AssertionError(bought)


def test_why_a_key_cannot_be_read_is_told_in_the_log_alone(
    owner: Persona, question: str, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Who asks may be another tenant than the one whose key it is, and neither has the deployment's keys."""
    settings.CREDENTIAL_KEYS = {"2026a": bytes(range(32))}
    store(owner)
    settings.CREDENTIAL_KEYS = {"2026b": bytes(range(32, 64))}
    with pytest.raises(CredentialUnreadableError) as caught:
        complete(context(owner), question)
    assert "key for fake cannot be read just now. Try again later" in caught.value.detail
    assert not any(word in caught.value.detail for word in ("CREDENTIAL_KEYS", "2026", SECRET, str(owner.tenant.pk)))
    [logged] = [record for record in caplog.records if record.getMessage() == "credential cannot be read"]
    assert (vars(logged)["tenant"], vars(logged)["provider"]) == (str(owner.tenant.pk), "fake")
    assert "CREDENTIAL_KEYS lacks the key '2026a'" in vars(logged)["reason"]
    assert SECRET not in caplog.text


def test_a_tenants_key_is_enough_where_the_deployment_has_none(owner: Persona, question: str, settings: Any) -> None:
    entry = {**settings.NOOBLE_PROVIDERS["fake"], "api_key": ""}
    settings.NOOBLE_PROVIDERS = {**settings.NOOBLE_PROVIDERS, "openai": entry}
    with pytest.raises(ProviderNotConfiguredError, match="PUT /credentials/openai"):
        complete(context(owner, provider="openai"), question)
    store(owner, provider="openai")
    assert complete(context(owner, provider="openai"), question).text


def test_what_was_received_before_a_break_says_whose_key_it_was(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    store(owner)
    fail(fake_provider, question, "cut", events=4)
    list(stream(context(owner), question, partial="keep"))
    assert said(owner) == ["tenant"]


def test_a_provider_is_asked_about_a_call_with_the_key_that_it_was_made_with(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    """The worker dies after the call, and the operation ends: nobody but the sweeper asks any more."""
    store(owner, provider="askable")
    attempt_id = _called_and_left(owner, question)
    with unit_of_work(owner.ctx):
        assert Attempt.objects.get(pk=attempt_id).state == "unknown"
    resolution.resolve_unknown()
    with unit_of_work(owner.ctx):
        attempt = Attempt.objects.get(pk=attempt_id)
    assert attempt.state == "lost"
    assert attempt.input_tokens > 0


def _called_and_left(owner: Persona, question: str) -> UUID:
    charge, request = asked(question)
    call = Call(provider="askable", model=request.model, hold_tokens=1000, deadline_seconds=30)
    held = till.hold(owner.ctx, charge, call)
    assert isinstance(held, Admitted)
    adapter = registry.chat("askable", Credential(api_key=SECRET))
    adapter.complete(request, request_id=str(held.attempt_id), timeout=10)
    assert till.fail(owner.ctx, held.operation_id, epoch=held.epoch, code="x", detail="x")
    return held.attempt_id
