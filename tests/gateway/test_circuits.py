"""A provider that fails call after call is left alone for a while: nothing is held for it, and nobody waits for it."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from apps.core import counters
from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work
from apps.core.errors import NoobleError
from apps.gateway import circuits
from apps.ledger.models import Operation
from apps.providers.errors import (
    ProviderCircuitOpenError,
    ProviderRateLimitedError,
    ProviderRefusedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from tests.fakes.process import FakeProvider
from tests.faults.scene import wait_until
from tests.gateway.streams import done
from tests.gateway.test_credentials import embed, read, store
from tests.gateway.test_fallbacks import choice, models, stream
from tests.gateway.test_purchase import complete, context, fail, operation, states
from tests.ledger.test_till import check_books
from tests.personas import Persona

FAILURES = 3


@pytest.fixture(autouse=True)
def circuit(settings: Any) -> Iterator[None]:
    """Circuits that open soon, and are forgotten before and after."""
    settings.PROVIDER_CIRCUIT_FAILURES, settings.PROVIDER_CIRCUIT_SECONDS = FAILURES, 60
    circuits._circuits.clear()
    yield
    circuits._circuits.clear()


def patient(persona: Persona, **options: Any) -> ExecutionContext:
    """A context whose calls have time enough to say something about the provider."""
    return context(persona, timeout=int(circuits.PATIENCE_SECONDS), **options)


def fails(
    persona: Persona, fake: FakeProvider, kind: str, error: type[NoobleError], *, times: int = FAILURES, **fault: Any
) -> None:
    """Calls that fail in this way, one after the other."""
    for _ in range(times):
        asked = f"What is {uuid4().hex}?"
        fail(fake, asked, kind, **fault)
        with pytest.raises(error):
            complete(patient(persona), asked)


def operations(persona: Persona) -> int:
    with unit_of_work(persona.ctx):
        return Operation.objects.count()


@pytest.mark.parametrize("buy", [complete, read, embed])
def test_nothing_is_sent_or_held_while_it_is_open(
    owner: Persona, fake_provider: FakeProvider, question: str, buy: Callable[[ExecutionContext, str], object]
) -> None:
    fails(owner, fake_provider, "500", ProviderUnavailableError)
    before = check_books(owner.ctx).held_tokens
    with pytest.raises(ProviderCircuitOpenError) as refused:
        buy(patient(owner, retries=3), question)
    assert 0 < (refused.value.retry_after or 0) <= 60
    assert operations(owner) == FAILURES
    assert check_books(owner.ctx).held_tokens == before
    assert not [call for call in fake_provider.arrivals() if question in str(call["body"])]


def test_it_opens_in_the_middle_of_a_purchase_too_which_does_not_wait_for_it(
    owner: Persona, fake_provider: FakeProvider, question: str, settings: Any
) -> None:
    settings.PROVIDER_CIRCUIT_SECONDS = 5
    fail(fake_provider, question, "500", times=None)
    with pytest.raises(ProviderCircuitOpenError):
        complete(patient(owner, retries=9), question)
    assert states(owner) == ["unknown"] * FAILURES
    # Whoever drives the work again goes on.
    assert operation(owner).state == "pending"


def test_what_was_bought_is_given_again(owner: Persona, fake_provider: FakeProvider, question: str) -> None:
    ctx = patient(owner)
    answer = complete(ctx, question)
    fails(owner, fake_provider, "500", ProviderUnavailableError)
    again = complete(ctx, question)
    assert (again.text, again.replayed) == (answer.text, True)


def test_an_answer_between_the_failures_keeps_it_closed(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fails(owner, fake_provider, "500", ProviderUnavailableError, times=FAILURES - 1)
    assert complete(patient(owner), question).text
    fails(owner, fake_provider, "500", ProviderUnavailableError)


@pytest.mark.parametrize(("kind", "error"), [("429", ProviderRateLimitedError), ("400", ProviderRefusedError)])
def test_a_provider_that_answers_is_well_whatever_it_answers(
    owner: Persona, fake_provider: FakeProvider, question: str, kind: str, error: type[NoobleError]
) -> None:
    fails(owner, fake_provider, kind, error, times=2 * FAILURES)
    assert complete(patient(owner), question).text


def test_a_tenants_haste_keeps_no_other_from_calling(
    owner: Persona, stranger: Persona, fake_provider: FakeProvider, question: str
) -> None:
    for number in range(FAILURES):
        fail(fake_provider, f"{question} {number}", "stall", seconds=3)
        with pytest.raises(ProviderTimeoutError):
            complete(context(owner, timeout=1), f"{question} {number}")
    assert complete(patient(stranger), question).text


def test_time_outs_of_patient_calls_open_it(
    owner: Persona, fake_provider: FakeProvider, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuits, "PATIENCE_SECONDS", 1.0)
    fails(owner, fake_provider, "stall", ProviderTimeoutError, seconds=3)
    with pytest.raises(ProviderCircuitOpenError):
        complete(patient(owner), question)


def test_another_key_is_another_circuit(
    owner: Persona, stranger: Persona, fake_provider: FakeProvider, question: str
) -> None:
    store(owner)
    fails(owner, fake_provider, "500", ProviderUnavailableError)
    assert complete(patient(stranger), question).text
    with pytest.raises(ProviderCircuitOpenError):
        complete(patient(owner), question)


def test_a_fallback_model_is_asked_instead_and_the_first_one_has_no_attempt(
    owner: Persona, fake_provider: FakeProvider, question: str
) -> None:
    fails(owner, fake_provider, "500", ProviderUnavailableError)
    choices = (choice("first", question), choice("second", question, provider="askable"))
    assert done(list(stream(patient(owner), question, *choices)))
    assert models(owner)[-1] == ("second", "settled")
    assert ("first", "void") not in models(owner)


@pytest.mark.parametrize("healed", [True, False])
def test_when_the_time_is_over_one_call_decides(
    owner: Persona, fake_provider: FakeProvider, question: str, settings: Any, healed: bool
) -> None:
    settings.PROVIDER_CIRCUIT_SECONDS = 1
    fails(owner, fake_provider, "500", ProviderUnavailableError)
    [circuit] = circuits._circuits.values()
    wait_until(lambda: circuit._seconds_left() <= 0, seconds=10)
    if healed:
        assert complete(patient(owner), question).text
        fails(owner, fake_provider, "500", ProviderUnavailableError, times=FAILURES - 1)
        assert complete(patient(owner), f"{question} again").text
    else:
        fails(owner, fake_provider, "500", ProviderUnavailableError, times=1)
        with pytest.raises(ProviderCircuitOpenError):
            complete(patient(owner), question)


def test_operators_can_count_them(owner: Persona, fake_provider: FakeProvider) -> None:
    before = counters.read("circuits_opened").get(("fake",), 0)
    fails(owner, fake_provider, "500", ProviderUnavailableError)
    assert counters.read("circuits_opened")[("fake",)] == before + 1
