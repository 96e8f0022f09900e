"""A provider that fails call after call is left alone for a while: nothing is held for it, and nobody waits for it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from apps.core import clock, counters
from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work
from apps.core.errors import NoobleError
from apps.gateway import circuits
from apps.gateway.circuits import Circuit
from apps.gateway.streaming import Delta
from apps.ledger.models import Attempt, Operation
from apps.providers import registry
from apps.providers.errors import (
    ProviderCircuitOpenError,
    ProviderRateLimitedError,
    ProviderRefusedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    RequestNotSentError,
    UnknownModelError,
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
    """A context whose calls have time enough for a time-out to say something."""
    ctx = context(persona, timeout=int(circuits.PATIENCE_SECONDS), **options)
    return ctx.model_copy(update={"deadline": clock.now() + timedelta(seconds=300)})


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


@pytest.mark.parametrize("buy", [complete, read])
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
    assert not [each for each in fake_provider.arrivals() if question in str(each["body"])]
    # Vectors are another model's.
    embed(patient(owner), question)


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


def test_a_proxy_that_gives_up_at_once_says_nothing(owner: Persona, fake_provider: FakeProvider, question: str) -> None:
    fails(owner, fake_provider, "408", ProviderTimeoutError)
    assert complete(patient(owner), question).text


def test_a_time_out_of_an_answer_that_was_coming_says_nothing(
    owner: Persona, fake_provider: FakeProvider, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuits, "PATIENCE_SECONDS", 1.0)
    for number in range(FAILURES):
        asked = f"{question} {number}"
        fail(fake_provider, asked, "pause", events=4, seconds=3)
        with pytest.raises(ProviderTimeoutError):
            list(stream(patient(owner), asked, choice("first", asked)))
    assert done(list(stream(patient(owner), question, choice("first", question))))


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
    choices = (choice("fake-chat", question), choice("second", question))
    assert done(list(stream(patient(owner), question, *choices)))
    with unit_of_work(owner.ctx):
        [attempt] = Attempt.objects.filter(state="settled")
    assert (attempt.model, attempt.number) == ("second", 1)


def test_another_model_is_another_circuit(owner: Persona, fake_provider: FakeProvider, question: str) -> None:
    for number in range(FAILURES):
        asked = f"{question} {number}"
        fail(fake_provider, f"{asked} first", "500")
        assert done(list(stream(patient(owner), asked)))
    assert done(list(stream(patient(owner), question)))
    with unit_of_work(owner.ctx):
        calls = list(Attempt.objects.order_by("id").values_list("model", flat=True))
    assert calls == ["first", "second"] * FAILURES + ["second"]


def test_a_call_that_was_left_says_nothing(owner: Persona, fake_provider: FakeProvider, question: str) -> None:
    for number in range(FAILURES):
        fails(owner, fake_provider, "500", ProviderUnavailableError, times=1)
        asked = f"{question} {number}"
        if number < FAILURES - 1:
            with closing(stream(patient(owner), asked, choice("fake-chat", asked))) as events:
                assert isinstance(next(events), Delta)
    with pytest.raises(ProviderCircuitOpenError):
        complete(patient(owner), question)


def test_it_may_open_between_the_look_and_the_call(owner: Persona, fake_provider: FakeProvider, question: str) -> None:
    """The other model is asked, and what was held is let go."""
    first = circuits.of(registry.chat("fake"), "fake", "first")

    def opens() -> bool:
        if is_closed(first):
            fail_in(first)
        return False

    events = list(stream(patient(owner), question, cancelled=opens))
    assert done(events)
    assert models(owner) == [("first", "void"), ("second", "settled")]
    assert check_books(owner.ctx).held_tokens == 0


def call(circuit: Circuit, error: BaseException | None = None) -> AbstractContextManager[None]:
    """A call that is under way while the block runs, and then fails in this way."""

    @contextmanager
    def under_way() -> Iterator[None]:
        with suppress(type(error or ValueError())), circuit.watching(silent=lambda: True):
            yield
            if error:
                raise error

    return under_way()


def fail_in(circuit: Circuit) -> None:
    for _ in range(FAILURES):
        with call(circuit, ProviderUnavailableError()):
            pass


def is_closed(circuit: Circuit) -> bool:
    try:
        circuit.require_closed()
    except ProviderCircuitOpenError:
        return False
    return True


@pytest.fixture
def due(settings: Any) -> Circuit:
    """One that was open, and whose time is over."""
    settings.PROVIDER_CIRCUIT_SECONDS = 0.2
    circuit = Circuit("fake", "fake-chat")
    fail_in(circuit)
    assert not is_closed(circuit)
    wait_until(lambda: is_closed(circuit), seconds=10)
    settings.PROVIDER_CIRCUIT_SECONDS = 60
    return circuit


def test_when_its_time_is_over_one_call_sees_and_the_others_are_refused(due: Circuit) -> None:
    with call(due):
        assert not is_closed(due)
        with pytest.raises(ProviderCircuitOpenError), call(due):
            pass
    with call(due), call(due):
        pass


@pytest.mark.parametrize(
    ("error", "closed"), [(None, True), (ProviderRefusedError(), True), (ProviderUnavailableError(), False)]
)
def test_what_that_one_sees_decides(due: Circuit, error: NoobleError | None, closed: bool) -> None:
    with call(due, error):
        pass
    assert is_closed(due) == closed
    if closed:
        # It takes as many failures again.
        with call(due, ProviderUnavailableError()):
            pass
        assert is_closed(due)


@pytest.mark.parametrize("error", [GeneratorExit(), RequestNotSentError(), UnknownModelError(), ZeroDivisionError()])
def test_one_that_has_seen_nothing_lets_the_next_one_see(due: Circuit, error: BaseException) -> None:
    for _ in range(2):
        with call(due, error):
            pass
    with call(due, ProviderUnavailableError()):
        pass
    assert not is_closed(due)


def test_answers_that_take_longer_than_its_time_close_it(due: Circuit, settings: Any) -> None:
    """Each comes after the next call was let through."""
    settings.PROVIDER_CIRCUIT_SECONDS = 0.1
    with ExitStack() as slow:
        slow.enter_context(call(due))
        wait_until(lambda: is_closed(due), seconds=10)
        settings.PROVIDER_CIRCUIT_SECONDS = 60
        with call(due):
            slow.close()
            assert is_closed(due)
    assert is_closed(due)


@pytest.mark.parametrize("error", [None, ProviderUnavailableError()])
def test_a_call_that_began_before_it_opened_decides_nothing(settings: Any, error: NoobleError | None) -> None:
    circuit = Circuit("fake", "fake-chat")
    with call(circuit, error):
        fail_in(circuit)
        assert not is_closed(circuit)
        before = circuit._open_until
    assert circuit._open_until == before


def test_calls_that_fail_beside_each_other_count_each() -> None:
    circuit = Circuit("fake", "fake-chat")
    with ExitStack() as calls:
        for _ in range(FAILURES):
            calls.enter_context(call(circuit, ProviderUnavailableError()))
    assert not is_closed(circuit)


def test_of_the_models_that_requests_name_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuits, "MAX_MODELS", 3)
    adapter = registry.chat("fake")
    for number in range(10):
        circuits.of(adapter, "fake", f"model-{number}")
    assert len(circuits._circuits[adapter]) <= 3


def test_operators_can_count_them(owner: Persona, fake_provider: FakeProvider) -> None:
    before = counters.read("circuits_opened").get(("fake", "fake-chat"), 0)
    fails(owner, fake_provider, "500", ProviderUnavailableError)
    assert counters.read("circuits_opened")["fake", "fake-chat"] == before + 1
