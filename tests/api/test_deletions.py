"""What is deleted while a request about it is on its way is not found, as if it had been deleted before."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from django.db.models import Model

from apps.agents.models import Agent, Conversation
from apps.collections.models import Collection, Document
from apps.collections.types import DocumentStatus
from apps.core.db import fetch_one, unit_of_work
from tests.api import rows
from tests.api.test_authentication import check_problem
from tests.personas import Persona

API = "/api/v1"
Request = Callable[[Persona, dict[str, Any]], Any]


def upload(persona: Persona, ids: dict[str, Any]) -> Any:
    path = f"{API}/collections/{ids['collection']}/documents"
    return persona.api.post(path, {"name": "a", "text": "b"}, format="json")


def rename(persona: Persona, ids: dict[str, Any]) -> Any:
    return persona.api.patch(f"{API}/collections/{ids['collection']}", {"name": "new"}, format="json")


def ask(persona: Persona, ids: dict[str, Any]) -> Any:
    body = {"agent_id": str(ids["agent"]), "message": "Hello?", "conversation_id": str(ids["conversation"])}
    return persona.api.post(f"{API}/chat", body, format="json")


def change(persona: Persona, ids: dict[str, Any]) -> Any:
    return persona.api.patch(f"{API}/agents/{ids['agent']}", {"prompt": "new"}, format="json")


def retry(persona: Persona, ids: dict[str, Any]) -> Any:
    return persona.api.post(f"{API}/documents/{ids['document']}/retry")


@pytest.mark.parametrize(
    ("model", "request_of", "code"),
    [
        (Collection, upload, "collection_not_found"),
        (Collection, rename, "collection_not_found"),
        (Conversation, ask, "conversation_not_found"),
        (Agent, change, "agent_not_found"),
        (Document, retry, "document_not_found"),
    ],
)
def test_what_is_deleted_meanwhile_is_not_found(
    owner: Persona, model: type[Model], request_of: Request, code: str
) -> None:
    rows.add_agents(owner, 1)
    rows.add_conversations(owner, 1)
    rows.add_documents(owner, 1)
    ids = rows.parents(owner)
    with unit_of_work(owner.ctx):
        Document.objects.update(status=DocumentStatus.FAILED)
    with ThreadPoolExecutor(1) as pool, unit_of_work(owner.ctx):
        model._default_manager.filter(pk=ids[model.__name__.lower()]).delete()
        answer = pool.submit(_send, request_of, owner, ids)
        assert _waits(answer)
    check_problem(answer.result(), 404, code)


def _send(request_of: Request, persona: Persona, ids: dict[str, Any]) -> Any:
    try:
        return request_of(persona, ids)
    finally:
        connection.close()


def _waits(answer: "Future[Any]") -> bool:
    """Whether the request comes to wait for the deletion before it is answered."""
    while not answer.done():
        if fetch_one("SELECT FROM pg_locks WHERE NOT granted", []) is not None:
            return True
    return False
