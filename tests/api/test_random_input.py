"""Whatever is sent to whichever operation, the answer is one that the schema lists, and never an error of ours.

What is sent is made from the schema: mostly right, with something wrong in it. The examples are the same in every run,
and a failure prints the request that it shrank to.
"""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.tenants import services
from tests.api import openapi, rows
from tests.api.openapi import Operation
from tests.personas import Persona

EXAMPLES = 30
MAX_TEXT = 40

#: What JSON can say, and what a program may choke on.
junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | st.text(max_size=MAX_TEXT)
    | st.sampled_from(["\0", "\ud800", "a\0b", "0" * 5000, "2026-13-45", "../../etc/passwd", "%00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
#: What a header's line can carry.
junk_header = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=MAX_TEXT)


@dataclass(frozen=True)
class World:
    """A tenant that has one of everything, so that what is sent gets further than to "not found"."""

    key: str
    #: What makes sense, by the names that paths, bodies and headers give it.
    known: dict[str, Any]


@pytest.fixture(scope="module")
def world(database: None) -> World:
    tenant, key = services.create_tenant(slug="random", name="Random", tier="professional")
    persona = Persona(tenant=tenant, key=key)
    rows.add_shares(persona, 1)
    rows.add_chunks(persona, 1)
    rows.add_runs(persona, 1)
    found = rows.parents(persona)
    known = {
        **{f"{name}_id": str(identifier) for name, identifier in found.items()},
        **{f"{name}s": str(identifier) for name, identifier in found.items()},
        "X-Agent-ID": str(found["agent"]),
        "X-Conversation-ID": str(found["conversation"]),
        "X-Tenant-ID": str(tenant.pk),
        "X-Tenant-Tier": "professional",
        "X-LLM-Provider": "local",
        "X-LLM-Max-Tokens": 100,
        "max_tokens": 100,
        "provider": "local",
        "language": "english",
        "username": "random",
        "credentials": "fake",
        "secret": "sk-of-the-tenant-0001",
    }
    return World(key=key, known=known)


def mostly(usual: st.SearchStrategy[Any], other: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Three times of four the usual: what is wrong in one place is refused there, and shows nothing of the rest."""
    return st.integers(0, 3).flatmap(lambda number: other if number == 3 else usual)


def values(schema: Any, world: World, name: str = "") -> st.SearchStrategy[Any]:
    """What the schema allows, mostly what makes sense. ``name``: of the member or header, or what the path says."""
    schema = openapi.resolve(schema)
    if "allOf" in schema:
        return values(schema["allOf"][0], world, name)
    found = allowed(schema, world, name)
    if schema.get("nullable"):
        found |= st.none()
    return mostly(st.just(world.known[name]), found) if name in world.known else found


def allowed(schema: Any, world: World, name: str) -> st.SearchStrategy[Any]:
    found: st.SearchStrategy[Any] = st.booleans()
    match schema["type"]:
        case "object":
            found = objects(schema, world)
        case "array":
            found = st.lists(values(schema["items"], world, name.removesuffix("s") + "_id"), max_size=3)
        case "integer":
            found = st.integers(schema.get("minimum", -(2**63)), schema.get("maximum", 2**63))
        case "number":
            found = st.floats(schema.get("minimum", -1e300), schema.get("maximum", 1e300))
        case "string":
            found = texts(schema)
    return found


def objects(schema: Any, world: World) -> st.SearchStrategy[Any]:
    if "properties" not in schema:
        return st.dictionaries(st.text(max_size=8), junk, max_size=3)
    members = {name: values(inner, world, name) for name, inner in schema["properties"].items()}
    required = {name: member for name, member in members.items() if name in schema.get("required", ())}
    optional = {name: member for name, member in members.items() if name not in required}
    right = st.fixed_dictionaries(required, optional=optional)
    wrong = st.builds(
        lambda whole, name, value: {**whole, name: value}, right, st.sampled_from([*members, "unknown"]), junk
    )
    return mostly(right, wrong)


def texts(schema: Any) -> st.SearchStrategy[str]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("format") == "uuid":
        return st.uuids(version=4).map(str)
    if schema.get("format") == "date":
        return st.dates().map(str)
    if schema.get("format") == "date-time":
        return st.datetimes().map(lambda moment: f"{moment.isoformat()}Z")
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True, alphabet=st.characters(max_codepoint=127))
    return st.text(min_size=1, max_size=min(schema.get("maxLength", MAX_TEXT), MAX_TEXT))


@dataclass(frozen=True)
class Sent:
    """One request, as a failure prints it."""

    method: str
    path: str
    query: dict[str, Any]
    headers: dict[str, str]
    body: Any

    def send(self, key: str) -> Any:
        return Client(raise_request_exception=False).generic(
            self.method,
            f"{self.path}?{urlencode(self.query, errors='surrogatepass')}",
            openapi.as_json(self.body),
            content_type="application/json",
            headers={**self.headers, "Authorization": f"Bearer {key}"},
        )


def requests(operation: Operation, world: World) -> st.SearchStrategy[Sent]:
    return st.builds(
        Sent,
        method=st.just(operation.method.upper()),
        path=_paths(operation, world),
        query=_some(operation.parameters("query"), world, st.text(max_size=MAX_TEXT)),
        headers=_some(operation.parameters("header"), world, junk_header),
        body=_bodies(operation, world),
    )


def _paths(operation: Operation, world: World) -> st.SearchStrategy[str]:
    """The address with an id in it. What there is is not deleted: the next request needs it."""
    schema = {"type": "string", "format": "uuid"}
    ids = {
        name: texts(schema) if operation.method == "delete" else values(schema, world, noun)
        for noun, name in re.findall(r"(\w+)/{(\w+)}", operation.path)
    }
    return st.fixed_dictionaries(ids).map(lambda found: operation.path.format(**found))


def _bodies(operation: Operation, world: World) -> st.SearchStrategy[Any]:
    if not operation.body:
        return st.none()
    return mostly(values(operation.body["application/json"]["schema"], world), junk)


def _some(parameters: Any, world: World, wrong: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, str]]:
    """Values for at most two of the parameters; one that is wrong hides what the others would do."""
    if not parameters:
        return st.just({})
    one = st.sampled_from(sorted(parameters)).flatmap(
        lambda name: st.tuples(st.just(name), mostly(_texts(parameters[name], world), wrong))
    )
    return st.lists(one, max_size=2).map(dict)


def _texts(parameter: Any, world: World) -> st.SearchStrategy[str]:
    name = parameter["name"]
    if name == "X-RAG-Collections":
        return st.lists(st.just(world.known["collections"]), max_size=2).map(openapi.as_json)
    if name == "Idempotency-Key":
        return st.sampled_from(["first", "second"])
    return values(parameter["schema"], world, name).map(str)


@pytest.mark.parametrize("operation", openapi.operations(), ids=str)
def test_an_answer_is_one_that_the_schema_lists(world: World, operation: Operation) -> None:
    @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None)
    @given(sent=requests(operation, world))
    def check(sent: Sent) -> None:
        response = sent.send(world.key)
        assert response.status_code < 500, response.content
        operation.check(response)

    check()


@pytest.mark.parametrize("metadata", ['{"k": "\\ud800"}', '{"\\udfff": 1}', '{"k": ["a\\u0000"]}', '{"k": 1e400}'])
def test_metadata_that_the_database_cannot_hold_are_refused(world: World, metadata: str) -> None:
    path = f"/api/v1/collections/{world.known['collection_id']}/documents"
    body = f'{{"name": "a", "text": "b", "metadata": {metadata}}}'
    headers = {"Authorization": f"Bearer {world.key}"}
    response = Client().post(path, body, content_type="application/json", headers=headers)
    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, "metadata")


def test_usage_up_to_the_first_day_of_all_begins_with_it(world: World) -> None:
    response = Client().get("/api/v1/usage?to=0001-01-07", headers={"Authorization": f"Bearer {world.key}"})
    assert response.json()["from"] == "0001-01-01"
