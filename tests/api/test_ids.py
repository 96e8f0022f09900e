"""An id that nobody has, somebody else's, and what is no id at all: on every address, in bodies and in headers.

Somebody else's is answered as one that nobody has: byte for byte, so that nobody learns what others have.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.http import HttpResponse

from apps.tenants import services
from tests.api import openapi, rows
from tests.api.openapi import Operation
from tests.api.test_authentication import check_problem
from tests.personas import Persona

#: What is answered about a thing that is not there, by the noun before its id.
NOT_FOUND = {
    "agents": "agent_not_found",
    "shares": "share_not_found",
    "collections": "collection_not_found",
    "documents": "document_not_found",
    "runs": "run_not_found",
    "conversations": "conversation_not_found",
    "api-keys": "not_found",
    "members": "not_found",
}
#: Addressed by names that are the same for every tenant: see ``tests/tenants/test_credentials.py``.
BY_NAME = {"credentials"}
NO_IDS = ["0", "%00", "..%2f..", "x" * 500, "1" * 32, "00000000-0000-0000-0000-00000000000g"]


@dataclass(frozen=True)
class World:
    """A tenant and one of everything; ids by the nouns of their addresses."""

    persona: Persona
    ids: Mapping[str, UUID]

    def send(self, operation: Operation, noun: str, identifier: Any) -> HttpResponse:
        """The operation on the tenant's own things, but for the one that the noun names."""
        nouns = {name: noun for noun, name in _places(operation)}
        ids = {name: identifier if each == noun else self.ids[each] for name, each in nouns.items()}
        path = operation.path.format(**ids)
        sent: HttpResponse = self.persona.api.generic(
            operation.method.upper(), path, _body(operation), content_type="application/json"
        )
        return sent

    def shown(self) -> list[Any]:
        """All that its lists show, but for when its keys were used."""
        found = []
        for path in ("agents", "collections", "runs", "conversations", "members", "api-keys", "usage/entries"):
            found += self._results(path)
        found += self._results(f"agents/{self.ids['agents']}/shares")
        found += self._results(f"collections/{self.ids['collections']}/documents")
        found += self._results(f"documents/{self.ids['documents']}/chunks")
        return found + self._results(f"conversations/{self.ids['conversations']}/messages")

    def _results(self, path: str) -> list[Any]:
        results = self.persona.api.get(f"/api/v1/{path}").json()["results"]
        return [{name: value for name, value in row.items() if name != "last_used_at"} for row in results]


def _places(operation: Operation) -> list[tuple[str, str]]:
    """The noun before each id of the address, and the id's name."""
    return re.findall(r"([\w-]+)/{(\w+)}", operation.path)


def _body(operation: Operation) -> str:
    if not operation.body:
        return ""
    first = next(iter(operation.body["application/json"]["examples"].values()))
    return openapi.as_json(first["value"])


PLACES = [
    (operation, noun) for operation in openapi.operations() for noun, _ in _places(operation) if noun not in BY_NAME
]
READING = [(operation, noun) for operation, noun in PLACES if operation.method == "get"]
DOING = [(operation, noun) for operation, noun in PLACES if operation.method != "get"]
every_place = pytest.mark.parametrize(("operation", "noun"), PLACES, ids=str)


@pytest.fixture(scope="module")
def owners(database: None) -> World:
    return _world()


@pytest.fixture(scope="module")
def strangers(database: None) -> World:
    return _world()


def _world() -> World:
    tenant, key = services.create_tenant(slug=f"t-{uuid4().hex[:12]}", name="Test", tier="professional")
    persona = Persona(tenant=tenant, key=key)
    return World(persona=persona, ids=rows.add_one_of_everything(persona))


def answered(response: HttpResponse, identifier: Any) -> tuple[int, dict[str, str], bytes]:
    """A response without what differs by necessity: the id asked for, the request's own, how many may follow."""
    headers = {name: value for name, value in response.items() if name not in {"X-Request-ID", "RateLimit"}}
    body = response.content.replace(str(identifier).encode(), b"<id>")
    return response.status_code, headers, body.replace(response["X-Request-ID"].encode(), b"<request>")


@every_place
def test_an_id_that_nobody_has_is_not_found(owners: World, operation: Operation, noun: str) -> None:
    check_problem(owners.send(operation, noun, uuid4()), 404, NOT_FOUND[noun])
    assert NOT_FOUND[noun] in operation.codes(404)


@every_place
def test_somebody_elses_is_as_one_that_nobody_has(
    owners: World, strangers: World, operation: Operation, noun: str
) -> None:
    unknown, foreign = uuid4(), owners.ids[noun]
    expected = answered(strangers.send(operation, noun, unknown), unknown)
    assert answered(strangers.send(operation, noun, foreign), foreign) == expected
    assert expected[0] == 404


@pytest.mark.parametrize(("operation", "noun"), DOING, ids=str)
def test_nothing_is_done_to_somebody_elses(owners: World, strangers: World, operation: Operation, noun: str) -> None:
    before = owners.shown()
    strangers.send(operation, noun, owners.ids[noun])
    assert owners.shown() == before


@every_place
def test_what_is_no_id_is_no_address(owners: World, operation: Operation, noun: str) -> None:
    for identifier in NO_IDS:
        check_problem(owners.send(operation, noun, identifier), 404, "not_found")


@pytest.mark.parametrize(("operation", "noun"), READING, ids=str)
def test_ones_own_is_found(owners: World, operation: Operation, noun: str) -> None:
    assert owners.send(operation, noun, owners.ids[noun]).status_code == 200


def test_lists_show_nothing_of_others(owners: World, strangers: World) -> None:
    for mine, theirs in ((owners, strangers), (strangers, owners)):
        shown = str(mine.shown())
        assert all(str(identifier) in shown for identifier in mine.ids.values())
        assert not any(str(identifier) in shown for identifier in theirs.ids.values())


Request = Callable[[World, Any], HttpResponse]


def post(path: str, body: Callable[[Any], Any], header: str = "") -> Request:
    """A POST with an id in its body, or in a header."""

    def send(world: World, identifier: Any) -> HttpResponse:
        headers = {header: f'["{identifier}"]' if header == "X-RAG-Collections" else str(identifier)} if header else {}
        sent: HttpResponse = world.persona.api.post(
            f"/api/v1/{path}", {**_own(world, path), **body(str(identifier))}, format="json", headers=headers
        )
        return sent

    return send


def patch_agent(world: World, identifier: Any) -> HttpResponse:
    body = {"name": "changed", "rag": {"collections": [str(identifier)]}}
    sent: HttpResponse = world.persona.api.patch(f"/api/v1/agents/{world.ids['agents']}", body, format="json")
    return sent


def _own(world: World, path: str) -> dict[str, Any]:
    if path == "chat":
        return {"agent_id": str(world.ids["agents"]), "message": "Hello?"}
    return {"slug": "thief", "name": "Thief"}


NAMED: list[tuple[str, str, Request]] = [
    ("an agent's collection", "collections", post("agents", lambda each: {"rag": {"collections": [each]}})),
    ("a changed agent's collection", "collections", patch_agent),
    ("a question's agent", "agents", post("chat", lambda each: {"agent_id": each})),
    ("a question's conversation", "conversations", post("chat", lambda each: {"conversation_id": each})),
    ("a question's collection", "collections", post("chat", lambda each: {"collections": [each]})),
    ("X-Agent-ID", "agents", post("chat", lambda each: {"agent_id": each}, "X-Agent-ID")),
    ("X-Conversation-ID", "conversations", post("chat", lambda _: {}, "X-Conversation-ID")),
    ("X-RAG-Collections", "collections", post("chat", lambda _: {}, "X-RAG-Collections")),
]


@pytest.mark.parametrize(("noun", "send"), [pytest.param(*row, id=name) for name, *row in NAMED])
def test_nothing_comes_of_naming_somebody_elses(owners: World, strangers: World, noun: str, send: Request) -> None:
    before = strangers.shown()
    unknown, foreign = uuid4(), owners.ids[noun]
    refused = send(strangers, unknown)
    check_problem(refused, 404, NOT_FOUND[noun])
    assert answered(send(strangers, foreign), foreign) == answered(refused, unknown)
    assert strangers.shown() == before


@pytest.mark.parametrize("noun", ["agents", "collections", "conversations"])
def test_usage_from_elsewhere_may_name_what_is_nobodys(owners: World, strangers: World, noun: str) -> None:
    """The books keep an id as it was reported, whose ever it is: it opens nothing."""
    event = {
        "idempotency_key": f"foreign-{noun}",
        "token_type": "llm",
        "operation": "chat",
        "provider": "elsewhere",
        "model": "model",
        "input_tokens": 1,
        "occurred_at": strangers.persona.api.get("/api/v1/agents").json()["results"][0]["created_at"],
        f"{noun.removesuffix('s')}_id": str(owners.ids[noun]),
    }
    before = owners.shown()
    reported = strangers.persona.api.post("/api/v1/usage/events", {"events": [event]}, format="json").json()
    assert [result["outcome"] for result in reported["results"]] == ["created"]
    assert owners.shown() == before


def test_every_noun_with_an_id_has_a_code() -> None:
    assert {noun for operation in openapi.operations() for noun, _ in _places(operation)} == set(NOT_FOUND) | BY_NAME
