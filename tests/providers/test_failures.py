"""What a provider says of its refusals, in whatever shape."""

from typing import Any

import httpx2
import openai
import pytest

from apps.providers.adapters import failures

SECRET = "sk-4242-secret"


def detail(body: Any) -> str:
    """What we say of a refusal with that body, as OpenAI's SDK hands it over."""
    response = httpx2.Response(400, request=httpx2.Request("POST", "https://models.example.com"))
    error = openai.BadRequestError("refused", response=response, body=body)
    told = failures.of_status(error, "Acme", SECRET, request_id="req_1").detail
    return told.removeprefix("Acme refused the request (400): ")


@pytest.mark.parametrize(
    "body",
    [
        "too long",
        {"error": "too long"},
        {"error": {"message": "too long", "code": "length"}},
        {"message": "too long", "object": "error"},
        {"message": {"detail": "too long"}},
        {"detail": [{"msg": "too long", "input": "what was asked"}]},
        {"error": "", "message": "too long"},
    ],
    ids=str,
)
def test_the_reason_is_found_where_it_is(body: Any) -> None:
    assert detail(body).rstrip(".") == "too long"


@pytest.mark.parametrize("body", [None, "", "<html>Bad gateway</html>", {}, [], {"error": 42}, 42], ids=str)
def test_what_is_no_reason_is_none(body: Any) -> None:
    assert detail(body) == "it gave no reason."


def test_a_reason_without_end_is_none() -> None:
    body: Any = "too long"
    for _ in range(900):
        body = {"error": body}
    assert detail(body) == "it gave no reason."


def test_the_key_is_cut_out_of_the_reason_and_it_is_short() -> None:
    told = detail({"detail": [{"loc": ["header", 0], "msg": f"wrong key {SECRET} " + "." * 1000}]})
    assert told.startswith("header.0: wrong key [key] ")
    assert len(told) == failures.LONGEST_MESSAGE
