"""Every way to fail, the error that it becomes, and whether a hold may be released."""

import socket
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from django.test import override_settings

from apps.providers import registry
from apps.providers.errors import (
    ProviderAuthenticationError,
    ProviderBadResponseError,
    ProviderError,
    ProviderInterruptedError,
    ProviderRateLimitedError,
    ProviderRefusedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnreachableError,
)
from tests.conformance.conftest import API_KEY, TIMEOUT, Tried
from tests.conformance.subjects import REMOTE, Subject
from tests.fakes.process import FakeProvider

Call = Callable[[Tried, float], Any]

WAYS: dict[str, Call] = {
    "whole": lambda tried, timeout: tried.complete(timeout=timeout),
    "streamed": lambda tried, timeout: list(tried.stream(timeout=timeout)),
}
#: For answers that do not come.
SHORT = 1.0


@dataclass(frozen=True)
class Failing:
    """A fault of the fake, the error it becomes, and how many answers the provider counted."""

    kind: str
    error: type[ProviderError]
    counted: int
    told: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind}-counted" if self.told.get("counted") else self.kind


ALWAYS = (
    Failing("400", ProviderRefusedError, 0),
    Failing("404", ProviderRefusedError, 0),
    Failing("413", ProviderRefusedError, 0),
    Failing("422", ProviderRefusedError, 0),
    Failing("401", ProviderAuthenticationError, 0),
    Failing("403", ProviderAuthenticationError, 0),
    Failing("429", ProviderRateLimitedError, 0),
    Failing("408", ProviderTimeoutError, 1, {"counted": True}),
    Failing("500", ProviderUnavailableError, 0),
    Failing("500", ProviderUnavailableError, 1, {"counted": True}),
    Failing("503", ProviderUnavailableError, 0),
    Failing("504", ProviderUnavailableError, 1, {"counted": True}),
    Failing("close", ProviderInterruptedError, 0),
    Failing("drop", ProviderInterruptedError, 1),
    Failing("stall", ProviderTimeoutError, 1, {"seconds": 60}),
    Failing("drip", ProviderTimeoutError, 1),
    Failing("malformed", ProviderBadResponseError, 1),
)
STREAMED = (
    Failing("cut", ProviderInterruptedError, 1, {"events": 3}),
    Failing("end_early", ProviderInterruptedError, 1, {"events": 3}),
    Failing("stream_error", ProviderUnavailableError, 1, {"events": 3}),
)


def failure(call: Call, tried: Tried, timeout: float = TIMEOUT) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        call(tried, timeout)
    return caught.value


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("failing", ALWAYS, ids=str)
def test_a_failure_becomes_its_documented_error(remote: Tried, fake: FakeProvider, failing: Failing, way: str) -> None:
    fake.fail(failing.kind, **failing.told)
    error = failure(WAYS[way], remote, SHORT if failing.error is ProviderTimeoutError else TIMEOUT)
    assert type(error) is failing.error
    assert len(fake.tally()) == failing.counted
    assert not (error.uncounted and failing.counted), "a hold would be released for work that was counted"
    assert error.uncounted == isinstance(error, ProviderRefusedError)
    assert len(fake.arrivals()) == 1, "the SDK retried"


@pytest.mark.parametrize("failing", STREAMED, ids=str)
def test_a_stream_that_fails_becomes_its_documented_error(remote: Tried, fake: FakeProvider, failing: Failing) -> None:
    fake.fail(failing.kind, **failing.told)
    stream = remote.stream()
    assert [next(stream).delta for _ in range(2)] == ["According ", "to "]
    with pytest.raises(ProviderError) as caught:
        next(stream)
    assert type(caught.value) is failing.error
    assert not caught.value.uncounted
    assert len(fake.tally()) == failing.counted
    assert len(fake.arrivals()) == 1, "the SDK retried"


def test_an_answer_without_a_choice_is_a_bad_response(remote: Tried, fake: FakeProvider) -> None:
    fake.fail("shape")
    error = failure(WAYS["whole"], remote)
    assert type(error) is ProviderBadResponseError
    assert not error.uncounted


@pytest.mark.parametrize("subject", REMOTE, ids=lambda subject: subject.name)
@pytest.mark.parametrize("way", WAYS)
def test_a_provider_that_does_not_listen_is_unreachable(subject: Subject, way: str, fake: FakeProvider) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    error = unreachable(subject, url, way)
    assert type(error) is ProviderUnreachableError
    assert error.uncounted
    assert error.retryable


@pytest.mark.parametrize("subject", REMOTE, ids=lambda subject: subject.name)
def test_a_provider_that_does_not_accept_is_unreachable(subject: Subject) -> None:
    # A full backlog: further connections are neither accepted nor refused.
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        error = unreachable(subject, f"http://127.0.0.1:{full.getsockname()[1]}", "whole")
        for one in waiting:
            one.close()
    assert type(error) is ProviderUnreachableError
    assert error.uncounted


def unreachable(subject: Subject, url: str, way: str) -> ProviderError:
    with override_settings(NOOBLE_PROVIDERS={subject.name: subject.settings(url, API_KEY)}):
        return failure(WAYS[way], Tried(subject=subject, request_id="nbl-unreachable"), SHORT)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry_after": "7"}, 7),
        ({"retry_after": "1.5"}, 1.5),
        ({"retry_after": "9", "retry_after_ms": "250"}, 0.25),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "-3"}, None),
        ({"retry_after": "inf"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_the_pause_that_the_provider_asks_for_is_passed_on(
    remote: Tried, fake: FakeProvider, headers: dict[str, str], expected: float | None
) -> None:
    for kind in ("429", "503"):
        fake.fail(kind, **headers)
        error = failure(WAYS["whole"], remote)
        assert error.retry_after == expected
        assert error.retryable


@pytest.mark.parametrize(("seconds", "expected"), [(90, 90), (-90, 0)])
def test_a_pause_may_be_a_date(remote: Tried, fake: FakeProvider, seconds: int, expected: float) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    fake.fail("429", retry_after=format_datetime(moment, usegmt=True))
    with pytest.raises(ProviderRateLimitedError) as caught:
        remote.complete()
    assert caught.value.retry_after == pytest.approx(expected, abs=30 if expected else 0)


def test_a_refusal_tells_the_providers_reason_and_its_id(remote: Tried, fake: FakeProvider) -> None:
    fake.fail("400", message="This model's maximum context length is 128000 tokens.")
    error = failure(WAYS["whole"], remote)
    assert "maximum context length" in error.detail
    assert error.provider_request_id.startswith("req_")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["400", "401", "429", "500", "malformed", "drop"])
def test_the_key_is_in_no_error_and_no_traceback(remote: Tried, fake: FakeProvider, kind: str, way: str) -> None:
    # The fake repeats the key in its refusals.
    fake.fail(kind)
    error = failure(WAYS[way], remote)
    printed = "".join(traceback.format_exception(error))
    assert API_KEY not in printed + repr(error) + error.detail + repr(error.extra) + repr(error.__cause__)
    adapter = registry.chat(remote.subject.name)
    assert API_KEY not in repr(adapter) + repr(vars(adapter))


def test_an_error_is_chained_to_what_caused_it(remote: Tried, fake: FakeProvider) -> None:
    fake.fail("500")
    assert failure(WAYS["whole"], remote).__cause__ is not None


def test_text_that_cannot_be_sent_is_refused_uncounted(remote: Tried, fake: FakeProvider) -> None:
    with pytest.raises(ProviderRefusedError):
        remote.complete(remote.question("a lone surrogate: \ud800"))
    assert fake.arrivals() == []


def test_after_a_failure_the_adapter_answers_again(remote: Tried, fake: FakeProvider) -> None:
    for kind in ("close", "500", "malformed", "drop"):
        fake.fail(kind)
        failure(WAYS["whole"], remote)
    assert remote.complete().text


def test_a_duplicate_is_counted_twice(remote: Tried, fake: FakeProvider) -> None:
    # The fake, as OpenAI, knows no idempotency: what tests of the till rely on to see a call made twice.
    remote.complete()
    remote.complete()
    assert [line["request_id"] for line in fake.tally()] == [remote.request_id] * 2
