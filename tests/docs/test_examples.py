"""The examples of the API's page agree with the schema, which ``tests/api`` holds against what is really answered."""

import re

import pytest

from apps.ledger.metadata import model_of
from apps.ledger.types import OperationKind, TokenType
from nooble.management.commands import document_errors
from tests.docs import examples
from tests.docs.examples import Answer, Request
from tests.docs.pages import page

PAGE = page("docs/api.md")
ANSWERS = examples.answers(PAGE)
REQUESTS = examples.requests(PAGE)

EACH_ANSWER = pytest.mark.parametrize("answer", ANSWERS, ids=str)
EACH_REQUEST = pytest.mark.parametrize("request_", REQUESTS, ids=str)


def test_every_example_is_read() -> None:
    assert len(ANSWERS) == len(PAGE.blocks("json"))
    assert len(REQUESTS) == len(re.findall(r"^api ", PAGE.text, re.MULTILINE))


@EACH_ANSWER
def test_an_answer_has_the_members_that_the_schema_names(answer: Answer) -> None:
    found = [examples.differences(answer.value, schema) for schema in answer.schemas()]
    assert found, "its heading names no operation that answers anything"
    assert min(found, key=len) == []


@EACH_REQUEST
def test_a_request_is_one_that_the_schema_knows(request_: Request) -> None:
    operation = request_.operation
    assert request_.headers <= set(operation.parameters("header"))
    assert request_.query <= set(operation.parameters("query"))
    if request_.body is not None and request_.section != "Errors":  # where a wrong one is shown
        assert examples.differences(request_.body, operation.body["application/json"]["schema"]) == []


def test_a_problem_is_one_of_ours() -> None:
    problems = [answer.value for answer in ANSWERS if answer.schemas()[0].get("$ref", "").endswith("/Problem")]
    known = {(error.code, error.status, error.title()) for error in document_errors.error_classes()}
    assert problems
    assert {(problem["code"], problem["status"], problem["title"]) for problem in problems} <= known


def test_an_entrys_metadata_has_the_words_of_its_kind() -> None:
    """The schema leaves them open, since clients report what they like."""
    entries = [answer.value for answer in ANSWERS if "token_type" in answer.value]
    assert entries
    for entry in entries:
        words = model_of(OperationKind(entry["operation"]), TokenType(entry["token_type"])).model_fields
        assert entry["metadata"].keys() - {examples.CUT} <= words.keys()
