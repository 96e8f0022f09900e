"""The OpenAPI schema as tests read it: its operations, and strict checks of values against it."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]
from rest_framework.serializers import BaseSerializer

PROBLEM = "application/problem+json"


@cache
def _generated() -> tuple[SchemaGenerator, dict[str, Any]]:
    generator = SchemaGenerator()  # type: ignore[no-untyped-call]
    schema = generator.get_schema(public=True)  # type: ignore[no-untyped-call]
    return generator, json.loads(OpenApiJsonRenderer().render(schema))


def document() -> dict[str, Any]:
    """The schema as a client reads it."""
    return _generated()[1]


@dataclass(frozen=True)
class Operation:
    """One method of one address."""

    path: str
    method: str

    def __str__(self) -> str:
        return self.id

    @property
    def id(self) -> str:
        return str(self.spec["operationId"])

    @cached_property
    def spec(self) -> dict[str, Any]:
        found: dict[str, Any] = document()["paths"][self.path][self.method]
        return found

    @property
    def body(self) -> dict[str, Any]:
        """What it takes, by media type."""
        found: dict[str, Any] = self.spec.get("requestBody", {}).get("content", {})
        return found

    def parameters(self, where: str) -> dict[str, dict[str, Any]]:
        """Its parameters in the path, the query or the headers, by name."""
        return {found["name"]: found for found in self.spec.get("parameters", ()) if found["in"] == where}

    def codes(self, status: int) -> set[str]:
        """The error codes that it lists for a status."""
        content = self.spec["responses"].get(str(status), {}).get("content", {})
        return set(content.get(PROBLEM, {}).get("examples", {}))

    def check(self, response: Any) -> None:
        """A response is one that the schema lists, member for member."""
        said = self.spec["responses"].get(str(response.status_code))
        assert said is not None, f"{self.id} does not list {response.status_code}: {response.content!r}"
        if "content" not in said:
            assert response.content == b""
            return
        media_type = response["Content-Type"].partition(";")[0]
        assert media_type in said["content"], f"{self.id} does not list {media_type} for {response.status_code}"
        body = json.loads(response.content)
        assert differences(body, said["content"][media_type]["schema"]) == []
        if media_type == PROBLEM:
            assert body["status"] == response.status_code
            assert body["code"] in self.codes(response.status_code), f"{self.id} does not list {body['code']}"


@cache
def operations() -> tuple[Operation, ...]:
    paths = document()["paths"]
    return tuple(Operation(path, method) for path, methods in paths.items() for method in methods)


def examples() -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Every example: where it stands, its value, its schema. The shared ones are all of problems."""
    for name, example in document()["components"]["examples"].items():
        yield name, example["value"], {"$ref": "#/components/schemas/Problem"}
    for operation in operations():
        for status, response in operation.spec["responses"].items():
            yield from _examples(f"{operation.id} {status}", response.get("content", {}))
        yield from _examples(f"{operation.id} request", operation.body)


def _examples(place: str, content: Mapping[str, Any]) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    for media_type, said in content.items():
        for name, example in said.get("examples", {}).items():
            if "$ref" not in example:
                yield f"{place} {media_type} {name}", example["value"], said["schema"]


def resolve(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference names; anything else is itself."""
    while "$ref" in found:
        *_, kind, name = found["$ref"].split("/")
        found = document()["components"][kind][name]
    return found


def serializer(schema: Mapping[str, Any]) -> type[BaseSerializer[Any]]:
    """The serializer class that a reference to a component was made from."""
    made = _generated()[0].registry[schema["$ref"].rpartition("/")[2], "schemas"].object
    return made if isinstance(made, type) else type(made)


def differences(value: Any, schema: Mapping[str, Any]) -> list[str]:
    """Where the value does not agree with the schema, or has a member that the schema does not name."""
    whole = {**_strict(schema), "components": {"schemas": _strict(document()["components"]["schemas"])}}
    errors = Draft202012Validator(whole, format_checker=FormatChecker()).iter_errors(value)
    return [f"{error.json_path}: {error.message}" for error in errors]


def _strict(schema: Any) -> Any:
    """An OpenAPI 3.0 schema as JSON Schema that allows no member it does not name."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: _strict(inner) for name, inner in schema.items() if name != "nullable"}
    if "properties" in schema:
        strict.setdefault("additionalProperties", False)
    return {"anyOf": [strict, {"type": "null"}]} if schema.get("nullable") is True else strict


def as_json(value: Any) -> str:
    return "" if value is None else json.dumps(value)


def route_as_path(route: str) -> str:
    """A Django route in OpenAPI's spelling: ``agents/<uuid:pk>`` → ``/agents/{id}``."""
    return "/" + re.sub(r"<(?:\w+:)?(\w+)>", lambda found: "{" + found[1].replace("pk", "id") + "}", route)
