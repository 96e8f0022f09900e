"""The OpenAPI schema is one that a code generator can use, and documents nothing that does not exist."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import URLPattern, get_resolver
from drf_spectacular.generators import SchemaGenerator

from apps.core.errors import NoobleError
from tests.api import openapi
from tests.api.openapi import Operation

CAMEL = re.compile(r"[a-z]+([A-Z][a-z]+)+")
EVERYWHERE = {
    *("X-Request-ID", "X-Tenant-ID", "X-Tenant-Tier", "X-Session-ID"),
    *("X-User-ID", "X-Request-Source", "X-Client-Version", "X-Context-Type"),
}
EMBEDDING = {"X-Embedding-Provider", "X-Embedding-Model", "X-Embedding-Dimensions"}
RETRIEVAL = {"X-Collection-ID", "X-RAG-Similarity-Threshold", "X-RAG-Results-Limit", *EMBEDDING}
#: By operation: what it reads besides.
OWN = {
    "askAgent": {
        *("X-Agent-ID", "X-Conversation-ID", "X-RAG-Collections", "Prefer", *RETRIEVAL),
        *("X-LLM-Provider", "X-LLM-Model", "X-LLM-Temperature", "X-LLM-Max-Tokens"),
    },
    "searchCollection": RETRIEVAL,
    "createCollection": {"X-RAG-Chunk-Size", *EMBEDDING},
    "createCollectionDocument": {"X-Collection-ID", "X-RAG-Chunk-Size", *EMBEDDING},
}

every_operation = pytest.mark.parametrize("operation", openapi.operations(), ids=str)


def test_it_is_valid_and_made_without_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "schema.yaml"
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(file))
    assert file.read_text().startswith("openapi: 3.")


def test_it_has_every_address_of_the_api() -> None:
    assert {(operation.path, operation.method) for operation in openapi.operations()} == set(_addresses())


def test_it_and_its_page_are_served_without_a_key_and_without_another_host() -> None:
    assert Client().get("/api/schema").status_code == HTTPStatus.OK
    page = Client().get("/api/docs")
    assert page.status_code == HTTPStatus.OK
    assert not re.findall(r'(?:src|href)="(?:https?:)?//[^"]*', page.text)


def test_it_is_generated_once_for_each_format(monkeypatch: pytest.MonkeyPatch) -> None:
    formats = [f"application/vnd.oai.openapi{suffix}" for suffix in ("", "+json")]
    first = [Client().get("/api/schema", headers={"Accept": accept}) for accept in formats]
    monkeypatch.delattr(SchemaGenerator, "get_schema")
    again = [Client().get("/api/schema?lang=de&version=9", headers={"Accept": accept}) for accept in formats]
    assert [response.content for response in again] == [response.content for response in first]
    assert [response["Content-Type"] for response in again] == formats
    assert json.loads(again[1].content) == openapi.document()


def test_it_is_not_sent_again_to_who_has_it() -> None:
    for accept in ("application/vnd.oai.openapi", "application/vnd.oai.openapi+json"):
        tag = Client().get("/api/schema", headers={"Accept": accept})["ETag"]
        for condition, status in ((tag, HTTPStatus.NOT_MODIFIED), ('"another"', HTTPStatus.OK)):
            response = Client().get("/api/schema", headers={"Accept": accept, "If-None-Match": condition})
            assert (response.status_code, response["ETag"]) == (status, tag)
            assert bool(response.content) == (status == HTTPStatus.OK)


def test_operation_ids_and_summaries_are_unique() -> None:
    for name in ("operationId", "summary"):
        counted = Counter(operation.spec[name] for operation in openapi.operations())
        assert [text for text, number in counted.items() if number > 1] == []


@every_operation
def test_an_operation_says_what_it_does(operation: Operation) -> None:
    assert CAMEL.fullmatch(operation.id)
    assert operation.spec["description"].startswith(operation.spec["summary"])
    assert len(operation.spec["description"]) > len(operation.spec["summary"]) + 1
    assert set(operation.spec["tags"]) <= {tag["name"] for tag in openapi.document()["tags"]}


@every_operation
def test_an_operation_lists_the_headers_that_it_reads(operation: Operation) -> None:
    expected = EVERYWHERE | OWN.get(operation.id, set())
    expected |= {"Idempotency-Key"} if operation.method == "post" else set()
    assert set(operation.parameters("header")) == expected


@every_operation
def test_an_operation_has_an_example_of_what_it_takes_and_answers(operation: Operation) -> None:
    answers = {status: said for status, said in operation.spec["responses"].items() if status < "300"}
    assert answers
    contents = [operation.body, *(said.get("content", {}) for said in answers.values())]
    assert all(said.get("examples") for content in contents for said in content.values())
    assert all(said["description"] for said in operation.spec["responses"].values())
    assert ("204" in answers) == (operation.method == "delete")


@every_operation
def test_an_operation_lists_the_problems_of_its_kind(operation: Operation) -> None:
    statuses = {400, 401, 403, 429}
    statuses |= {404} if operation.parameters("path") or "cursor" in operation.parameters("query") else set()
    statuses |= {413, 415} if operation.body else set()
    statuses |= {409, 422} if operation.method == "post" else set()
    assert statuses <= {int(status) for status in operation.spec["responses"]}


@every_operation
def test_the_codes_that_an_operation_lists_exist(operation: Operation) -> None:
    existing = {(error.status, error.code) for error in _errors(NoobleError)}
    problems = [status for status in operation.spec["responses"] if status >= "400"]
    for status in problems:
        assert operation.codes(int(status))
        assert {(int(status), code) for code in operation.codes(int(status))} <= existing


@pytest.mark.parametrize(("place", "value", "schema"), [pytest.param(*row, id=row[0]) for row in openapi.examples()])
def test_an_example_agrees_with_its_schema(place: str, value: Any, schema: dict[str, Any]) -> None:
    assert openapi.differences(value, schema) == []


@pytest.mark.parametrize("operation", [each for each in openapi.operations() if each.body], ids=str)
def test_an_example_of_a_request_is_accepted(operation: Operation) -> None:
    content = operation.body["application/json"]
    serializer = openapi.serializer(content["schema"])
    for example in content["examples"].values():
        bound = serializer(data=example["value"])
        assert bound.is_valid(), bound.errors


def test_a_document_goes_in_as_bytes() -> None:
    [adding] = [each for each in openapi.operations() if each.id == "createCollectionDocument"]
    form = openapi.resolve(adding.body["multipart/form-data"]["schema"])
    assert form["properties"]["file"] == {"type": "string", "format": "binary"}


def test_what_answers_have_is_required_of_them() -> None:
    """So that generated code need not ask whether a member is there."""
    optional = {"UsageRow": {"provider", "model", "agent", "collection", "operation", "token_type", "consumer"}}
    # Their defaults are not null: the members are always there, and a client may leave them to their defaults.
    optional |= {
        "RagConfig": {"collections", "query_expansion_enabled"},
        "ProcessingConfig": {"concurrency", "truncation_strategy", "timeout_seconds", "retry_attempts"},
    }
    optional |= {"LLMConfig": {"on_interrupted_stream", "extras"}}
    for name, schema in _answered().items():
        missing = set(schema.get("properties", ())) - set(schema.get("required", ()))
        assert missing == optional.get(name, set()), name


def _addresses() -> Iterator[tuple[str, str]]:
    for pattern, route in _routes(get_resolver().url_patterns, ""):
        if route.startswith("api/v1/"):
            # All of them are view sets; the first request to one adds "head".
            for method in set(pattern.callback.actions) - {"head"}:  # type: ignore[attr-defined]
                yield openapi.route_as_path(route), method


def _routes(patterns: list[Any], prefix: str) -> Iterator[tuple[URLPattern, str]]:
    for pattern in patterns:
        if isinstance(pattern, URLPattern):
            yield pattern, f"{prefix}{pattern.pattern}"
        else:
            yield from _routes(pattern.url_patterns, f"{prefix}{pattern.pattern}")


def _errors(root: type[NoobleError]) -> Iterator[type[NoobleError]]:
    yield root
    for error in root.__subclasses__():
        yield from _errors(error)


def _answered() -> dict[str, Any]:
    """The components that answers are made of."""
    found: dict[str, Any] = {}
    waiting = [operation.spec["responses"] for operation in openapi.operations()]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            name = str(value.get("$ref", "")).rpartition("/schemas/")[2]
            if name and name not in found:
                found[name] = openapi.resolve(value)
                waiting.append(found[name])
            waiting += value.values()
    return found
