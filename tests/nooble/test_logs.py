"""Logs and the request id that ties them to an answer."""

import json
import logging
import logging.config
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Literal

import pytest
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from structlog.contextvars import bound_contextvars, get_contextvars

from nooble import logs
from nooble.middleware import request_id


def refuse(key: str) -> None:
    raise ValueError(f"a key of {len(key)} characters")


@contextmanager
def logging_to(stream: StringIO, form: Literal["console", "json"]) -> Iterator[None]:
    configuration = logs.configuration(level="INFO", form=form)
    configuration["handlers"]["stderr"]["stream"] = stream
    logging.config.dictConfig(configuration)
    try:
        yield
    finally:
        logging.config.dictConfig(settings.LOGGING)


@pytest.fixture
def printed() -> Iterator[StringIO]:
    """What is logged, as JSON."""
    stream = StringIO()
    with logging_to(stream, "json"):
        yield stream


def answer(request: HttpRequest) -> HttpResponse:
    return HttpResponse(get_contextvars()["request_id"])


def test_a_line_is_json_with_what_is_bound_and_what_is_given(printed: StringIO) -> None:
    with bound_contextvars(request_id="r-1", tenant_id="t-1"):
        logging.getLogger("apps.somewhere").info("settled %d", 3, extra={"tokens": 12})
    line = json.loads(printed.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "settled 3",
        "level": "info",
        "logger": "apps.somewhere",
        "request_id": "r-1",
        "tenant_id": "t-1",
        "tokens": 12,
    }


@pytest.mark.parametrize("form", ["console", "json"])
def test_an_exception_is_logged_without_the_values_that_were_in_reach(form: Literal["console", "json"]) -> None:
    stream = StringIO()
    secret = "nbl_do-not-print"
    with logging_to(stream, form):
        try:
            refuse(secret)
        except ValueError:
            logging.getLogger("apps.somewhere").exception("failed")
    assert "ValueError" in stream.getvalue()
    assert "a key of 16 characters" in stream.getvalue()
    assert secret not in stream.getvalue()


@pytest.mark.parametrize("name", ["django.request", "uvicorn.access", "celery.worker"])
def test_the_loggers_of_others_print_once(printed: StringIO, name: str) -> None:
    logging.getLogger(name).warning("seen")
    assert len(printed.getvalue().splitlines()) == 1


def test_a_callers_request_id_comes_back() -> None:
    response = request_id(answer)(RequestFactory().get("/", headers={"X-Request-ID": "mine-1"}))
    assert isinstance(response, HttpResponse)
    assert (response.headers["X-Request-ID"], response.content) == ("mine-1", b"mine-1")
    assert "request_id" not in get_contextvars()


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, "line\nbreak"])
def test_a_missing_or_malformed_one_is_replaced(given: str) -> None:
    response = request_id(answer)(RequestFactory().get("/", headers={"X-Request-ID": given}))
    assert isinstance(response, HttpResponse)
    assert len(response.headers["X-Request-ID"]) == 36


def test_periodic_success_is_not_news_but_failure_is(printed: StringIO) -> None:
    trace = logging.getLogger("celery.app.trace")
    for name in ("maintenance.sweep", "query.answer"):
        trace.info("succeeded", extra={"data": {"name": name}})
    trace.error("failed", extra={"data": {"name": "maintenance.sweep"}})
    assert [json.loads(line)["event"] for line in printed.getvalue().splitlines()] == ["succeeded", "failed"]
