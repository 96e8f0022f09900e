"""Every way to fail, the error that it becomes, and whether a hold may be released."""

import re
import socket
import traceback
from collections.abc import Mapping
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
    ProviderReadRefusalError,
    ProviderRedirectedError,
    ProviderRefusedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnreachableError,
    RequestNotSentError,
)
from tests.conformance.conftest import API_KEY, QUESTION, TIMEOUT, Call, Tried
from tests.fakes.process import FakeProvider

#: For answers that do not come, and which faults make them stay away.
SHORT = 1.0
STAYING_AWAY = ("stall", "drip")


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
    Failing("303", ProviderBadResponseError, 1, {"counted": True}),
    Failing("400", ProviderRefusedError, 0),
    Failing("404", ProviderRefusedError, 0),
    Failing("413", ProviderRefusedError, 0),
    Failing("422", ProviderRefusedError, 0),
    Failing("401", ProviderAuthenticationError, 0),
    Failing("403", ProviderAuthenticationError, 0),
    Failing("429", ProviderRateLimitedError, 0),
    Failing("408", ProviderTimeoutError, 1, {"counted": True}),
    Failing("499", ProviderTimeoutError, 1, {"counted": True}),
    Failing("500", ProviderUnavailableError, 0),
    Failing("500", ProviderUnavailableError, 1, {"counted": True}),
    Failing("503", ProviderUnavailableError, 0),
    Failing("504", ProviderUnavailableError, 1, {"counted": True}),
    Failing("529", ProviderUnavailableError, 0),
    Failing("close", ProviderInterruptedError, 0),
    Failing("drop", ProviderInterruptedError, 1),
    Failing("stall", ProviderTimeoutError, 1, {"seconds": 60}),
    Failing("drip", ProviderTimeoutError, 1),
    Failing("cut", ProviderInterruptedError, 1),
    Failing("malformed", ProviderBadResponseError, 1),
    Failing("bottomless", ProviderBadResponseError, 1),
)
STREAMED = (
    Failing("cut", ProviderInterruptedError, 1, {"events": 3}),
    Failing("end_early", ProviderInterruptedError, 1, {"events": 3}),
    Failing("stream_error", ProviderUnavailableError, 1, {"events": 3}),
)


@pytest.mark.parametrize("failing", ALWAYS, ids=str)
def test_a_failure_becomes_its_documented_error(call: Call, fake: FakeProvider, failing: Failing) -> None:
    fake.fail(failing.kind, **failing.told)
    error = call.failure(timeout=SHORT if failing.kind in STAYING_AWAY else TIMEOUT)
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


@pytest.mark.parametrize("kind", ["shape", "no_text"])
def test_an_answer_without_a_choice_or_a_text_is_a_bad_response(remote: Tried, fake: FakeProvider, kind: str) -> None:
    fake.fail(kind)
    with pytest.raises(ProviderBadResponseError) as caught:
        remote.complete()
    assert not caught.value.uncounted
    assert caught.value.usage
    assert [line["total"] for line in fake.tally()] == [caught.value.usage.total_tokens]


def test_a_piece_that_is_no_text_is_a_bad_response(remote: Tried, fake: FakeProvider) -> None:
    fake.fail("no_text")
    with pytest.raises(ProviderBadResponseError) as caught:
        list(remote.stream())
    assert not caught.value.uncounted
    assert caught.value.provider_request_id


def test_a_provider_that_does_not_listen_is_unreachable(call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    error = unreachable(call, url)
    assert type(error) is ProviderUnreachableError
    assert error.uncounted
    assert error.retryable


def test_a_provider_that_does_not_accept_is_unreachable(call: Call) -> None:
    # A full backlog: further connections are neither accepted nor refused.
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        error = unreachable(call, f"http://127.0.0.1:{full.getsockname()[1]}")
        for one in waiting:
            one.close()
    assert type(error) is ProviderUnreachableError
    assert error.uncounted


def unreachable(call: Call, url: str) -> ProviderError:
    subject = call.tried.subject
    with override_settings(NOOBLE_PROVIDERS={subject.name: subject.settings(url, API_KEY)}):
        return call.failure(timeout=SHORT)


@pytest.mark.parametrize("status", ["301", "302", "307", "308"])
def test_a_redirect_is_not_followed(call: Call, fake: FakeProvider, elsewhere: FakeProvider, status: str) -> None:
    fake.fail(status, location=elsewhere.url)
    error = call.failure()
    assert type(error) is ProviderRedirectedError
    assert error.uncounted
    assert not error.retryable
    assert elsewhere.arrivals() == []


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
    call: Call, fake: FakeProvider, headers: dict[str, str], expected: float | None
) -> None:
    for kind in ("429", "503"):
        fake.fail(kind, **headers)
        error = call.failure()
        assert error.retry_after == expected
        assert error.retryable


@pytest.mark.parametrize(("seconds", "expected"), [(90, 90), (-90, 0)])
def test_a_pause_may_be_a_date(call: Call, fake: FakeProvider, seconds: int, expected: float) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    fake.fail("429", retry_after=format_datetime(moment, usegmt=True))
    assert call.failure().retry_after == pytest.approx(expected, abs=30 if expected else 0)


def test_a_refusal_tells_the_providers_reason_and_its_id(call: Call, fake: FakeProvider) -> None:
    fake.fail("400", message="This model's maximum context length is 128000 tokens.")
    error = call.failure()
    assert "maximum context length" in error.detail
    assert error.provider_request_id.startswith("req_")


@pytest.mark.parametrize("kind", ["400", "401", "429", "500", "malformed", "drop"])
def test_the_key_is_in_no_error_and_no_traceback(call: Call, fake: FakeProvider, kind: str) -> None:
    # The fake repeats the key in its refusals.
    fake.fail(kind)
    error = call.failure()
    printed = "".join(traceback.format_exception(error))
    assert API_KEY not in printed + repr(error) + error.detail + repr(error.extra) + repr(error.__cause__)
    adapter = registry.chat(call.tried.subject.name)
    assert API_KEY not in repr(adapter) + repr(vars(adapter))


def test_a_reason_that_is_too_long_is_none(call: Call, fake: FakeProvider) -> None:
    fake.fail("400", message="too long " * 10_000)
    assert call.failure().detail.endswith(" refused the request (400): it gave no reason.")


@pytest.mark.parametrize("body", ["cut", "drip"])
def test_a_reason_that_does_not_come_whole_and_in_time_is_none(remote: Tried, fake: FakeProvider, body: str) -> None:
    fake.fail("400", body=body)
    with pytest.raises(ProviderError, match="it gave no reason") as caught:
        remote.complete(timeout=SHORT)
    # Azure charges for some refusals, and has not said that this is none of them.
    charges = remote.subject.name == "azure_openai"
    assert type(caught.value) is (ProviderReadRefusalError if charges else ProviderRefusedError)
    assert caught.value.provider_request_id


def test_what_was_sent_is_in_no_error_and_no_traceback(call: Call, fake: FakeProvider) -> None:
    wrong = {"loc": ["body", "top_k"], "msg": "Extra inputs are not permitted", "input": QUESTION}
    fake.fail("422", message={"detail": [wrong]})
    error = call.failure(QUESTION)
    assert error.detail.endswith(" refused the request (422): body.top_k: Extra inputs are not permitted.")
    assert QUESTION not in "".join(traceback.format_exception(error)) + repr(error) + repr(error.__cause__)


def test_an_error_is_chained_to_what_caused_it(call: Call, fake: FakeProvider) -> None:
    fake.fail("500")
    assert call.failure().__cause__ is not None


def test_text_that_cannot_be_sent_is_refused_uncounted(call: Call, fake: FakeProvider) -> None:
    error = call.failure("a lone surrogate: \ud800")
    assert type(error) is RequestNotSentError
    assert fake.arrivals() == []


def test_after_a_failure_the_adapter_answers_again(call: Call, fake: FakeProvider) -> None:
    expected = repr(call.make())
    for kind in ("close", "500", "malformed", "drop", "cut"):
        fake.fail(kind)
        call.failure()
    assert without_id(repr(call.make())) == without_id(expected)


def without_id(result: str) -> str:
    """Each call has its own id at the provider."""
    return re.sub(r"req_\w+", "", result)


def test_a_duplicate_is_counted_twice(call: Call, fake: FakeProvider) -> None:
    # The fake, as OpenAI, knows no idempotency: what tests of the till rely on to see a call made twice.
    call.make()
    call.make()
    assert [line["request_id"] for line in fake.tally()] == [call.tried.request_id] * 2
