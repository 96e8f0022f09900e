"""What the API really answers has the shape that schema and contract give, and a list costs the same at any size."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from apps.core import clock
from apps.core.db import operator_scope
from apps.tenants import services as tenants
from apps.tenants.models import Tenant
from nooble.processes import Supervisor
from tests.api import openapi, rows
from tests.api.openapi import Operation
from tests.faults.scene import wait_until
from tests.personas import MakeTenant, Persona

#: The members that integrators program against; ``llm: a b`` are the members of ``llm``.
CONTRACT = {
    "getAgent": {
        "": "id slug name prompt llm rag fallback_models created_at updated_at",
        "llm": "provider model temperature max_tokens",
        "rag": "collections max_results similarity_threshold query_expansion_enabled",
    },
    "getCollection": {
        "": "id slug name language embedding chunk_size chunk_overlap documents chunks status created_at",
        "embedding": "provider model dimensions",
    },
    "getDocument": {
        "": "id collection_id name content_type size_bytes content_hash status progress error chunks tokens pages "
        "metadata created_at",
    },
    "searchCollection": {
        "": "results usage",
        "results": "chunk_id document_id document_name text page heading score vector_score lexical_score",
    },
    "askAgent": {"": "run_id context_id session_id conversation_id status events_url"},
    "getRun": {
        "": "id status answer citations usage config error timings_ms",
        "citations": "document_id document_name chunk_id page score quote",
        "usage": "input_tokens output_tokens cached_input_tokens expansion_tokens embedding_tokens cost_usd "
        "token_source",
        "timings_ms": "queue retrieve generate total",
    },
    "listUsageEntries": {
        "": "next previous results",
        "results": "id kind idempotency_key token_type operation provider model model_family input_tokens "
        "cached_input_tokens cache_write_tokens output_tokens reasoning_tokens total_tokens token_source billable "
        "cost_usd price_id payer_tenant_id owner_tenant_id consumer_tenant_id agent_id collection_id document_id "
        "conversation_id run_id context_id provider_request_id attempts occurred_at recorded_at corrects metadata",
    },
    "getUsage": {
        "": "from to granularity group_by results totals",
        "results": "period provider model input_tokens cached_input_tokens output_tokens reasoning_tokens "
        "total_tokens cost_usd entries",
        "totals": "input_tokens cached_input_tokens output_tokens reasoning_tokens total_tokens cost_usd entries",
    },
    "listDiscrepancies": {
        "": "next previous results",
        "results": "id kind state subject amount_tokens evidence times_seen first_seen_at last_seen_at resolved_at "
        "resolution",
    },
    "getCredential": {"": "provider hint base_url created_at rotated_at"},
    "getBudget": {
        "": "period limit_tokens spent_tokens held_tokens unknown_tokens available_tokens resets_at hard",
    },
}
_UNPRICED = {"unpriced_entries": "says of how many entries the cost is not in the sum"}
#: What is answered beyond the contract, and why.
BEYOND_THE_CONTRACT = {
    "getUsage": {"results": _UNPRICED, "totals": _UNPRICED},
    "getBudget": {"": {"day": "the present day's budget, where a day has a limit of its own"}},
    "getAgent": {
        "": {
            "version": "a run names the version that it was asked of",
            "shared": "an agent of another tenant says whose it is and who pays",
        },
        "llm": {
            "on_interrupted_stream": "what becomes of an answer that breaks off",
            "timeout_seconds": "the longest call",
            "retry_attempts": "how often a failed call is made again",
            "extras": "what only the agent's provider takes",
            "temperature_by_query_type": "a temperature for each kind of question",
        },
    },
    "getDocument": {"": {"task_id": "finds the document's last task among the operator's task results"}},
    "getRun": {
        "": {
            "agent_id": "a list of runs has to say whose each of them is",
            "agent_version": "names what the agent said and how when it was asked",
            "conversation_id": "where the run's messages are",
            "session_id": "where the run's events are",
            "question": "a list of runs has to say what was asked",
            "finish_reason": "says whether the answer is whole",
            "task_id": "finds the run's last task among the operator's task results",
            "created_at": "a list of runs is in this order",
        }
    },
}

API = "/api/v1"
TEXT = "Hotel rooms are reimbursed up to EUR 170 per night including breakfast."
QUESTION = "Up to how much are hotel rooms reimbursed per night?"

Answers = dict[str, Any]


REPORTED = {
    "idempotency_key": "tuning-1",
    "token_type": "fine_tuning",
    "operation": "batch",
    "provider": "elsewhere",
    "model": "tuned",
    "input_tokens": 10,
    "occurred_at": f"{clock.now():%Y-%m-%dT%H:%M:%SZ}",
}


@pytest.fixture(scope="module")
def answers(worker: Supervisor) -> Answers:
    """One answer of every operation, by its id: a tenant's first day, with the local provider and a real worker."""
    tenant, key = tenants.create_tenant(slug="shapes", name="Shapes", tier="professional")
    api = Persona(tenant=tenant, key=key).api
    return {**_documents(api), **_questions(api), **_books(api), **_administration(api), **_deletions(api)}


def _documents(api: APIClient) -> Answers:
    made = _post(api, "/collections", {"slug": "policies", "name": "Policies"})
    here = f"/collections/{made.json()['id']}"
    added = _post(api, f"{here}/documents", {"name": "hotels.md", "text": TEXT, "metadata": {"by": "finance"}})
    broken = SimpleUploadedFile("broken.pdf", b"This is no PDF.", "application/pdf")
    failed = api.post(f"{API}{here}/documents", {"file": broken}, format="multipart").json()["id"]
    document = f"/documents/{added.json()['id']}"
    wait_until(lambda: _get(api, here).json()["status"] == "ready", seconds=60)
    return {
        "createCollection": made,
        "createCollectionDocument": added,
        "getDocument": _get(api, document),
        "listDocumentChunks": _get(api, f"{document}/chunks"),
        "listCollectionDocuments": _get(api, f"{here}/documents"),
        "retryDocument": _post(api, f"/documents/{failed}/retry"),
        "getCollection": _get(api, here),
        "updateCollection": api.patch(f"{API}{here}", {"name": "Company policies"}, format="json"),
        "listCollections": _get(api, "/collections"),
        "searchCollection": _post(api, f"{here}/search", {"query": QUESTION}),
    }


def _questions(api: APIClient) -> Answers:
    collection = _get(api, "/collections").json()["results"][0]["id"]
    made = _post(api, "/agents", {"slug": "helper", "name": "Helper", "rag": {"collections": [collection]}})
    here = f"/agents/{made.json()['id']}"
    asked = _post(api, "/chat", {"agent_id": made.json()["id"], "message": QUESTION})
    shared = _post(api, f"{here}/shares", {"tenant_id": str(uuid4()), "payer": "owner"})
    run, conversation = (f"/{name}s/{asked.json()[f'{name}_id']}" for name in ("run", "conversation"))
    wait_until(lambda: _get(api, run).json()["status"] == "succeeded", seconds=60)
    return {
        "createAgent": made,
        "askAgent": asked,
        "getRun": _get(api, run),
        "cancelRun": _post(api, f"{run}/cancel"),
        "listRuns": _get(api, "/runs"),
        "getConversation": _get(api, conversation),
        "listConversations": _get(api, "/conversations"),
        "listConversationMessages": _get(api, f"{conversation}/messages"),
        "getAgent": _get(api, here),
        "updateAgent": api.patch(f"{API}{here}", {"llm": {"temperature": 0}}, format="json"),
        "listAgents": _get(api, "/agents"),
        "createAgentShare": shared,
        "listAgentShares": _get(api, f"{here}/shares"),
        "deleteAgentShare": api.delete(f"{API}{here}/shares/{shared.json()['id']}"),
    }


def _books(api: APIClient) -> Answers:
    return {
        "getUsage": _get(api, "/usage?group_by=provider,model"),
        "listUsageEntries": _get(api, "/usage/entries"),
        "getBudget": _get(api, "/budget"),
        "reportUsageEvents": _post(api, "/usage/events", {"events": [REPORTED, {}]}),
        "listDiscrepancies": _conflict(api),
    }


def _conflict(api: APIClient) -> Any:
    """The discrepancy that comes of a key with other content."""
    _post(api, "/usage/events", {"events": [{**REPORTED, "input_tokens": 11}]})
    return _get(api, "/discrepancies?state=open")


def _administration(api: APIClient) -> Answers:
    key = _post(api, "/api-keys", {"name": "second", "scopes": ["chat"]})
    member = _post(api, "/members", {"username": "shapes", "role": "admin"})
    return {
        "createApiKey": key,
        "listApiKeys": _get(api, "/api-keys"),
        "revokeApiKey": api.delete(f"{API}/api-keys/{key.json()['id']}"),
        "storeCredential": _store(api, "sk-of-the-tenant-0001"),
        "listCredentials": _get(api, "/credentials"),
        "getCredential": _get(api, "/credentials/fake"),
        "deleteCredential": api.delete(f"{API}/credentials/fake"),
        "createMember": member,
        "listMembers": _get(api, "/members"),
        "deleteMember": api.delete(f"{API}/members/{member.json()['id']}"),
    }


def _store(api: APIClient, secret: str) -> Any:
    return api.put(f"{API}/credentials/fake", {"secret": secret}, format="json")


def _deletions(api: APIClient) -> Answers:
    [agent], [conversation], [collection] = (
        _get(api, f"/{name}").json()["results"] for name in ("agents", "conversations", "collections")
    )
    document = _get(api, f"/collections/{collection['id']}/documents").json()["results"][-1]
    return {
        "deleteAgent": api.delete(f"{API}/agents/{agent['id']}"),
        "deleteConversation": api.delete(f"{API}/conversations/{conversation['id']}"),
        "deleteDocument": api.delete(f"{API}/documents/{document['id']}"),
        "deleteCollection": api.delete(f"{API}/collections/{collection['id']}"),
    }


def _get(api: APIClient, path: str) -> Any:
    return api.get(f"{API}{path}")


def _post(api: APIClient, path: str, body: Any = None) -> Any:
    return api.post(f"{API}{path}", body, format="json")


@pytest.mark.parametrize("operation", openapi.operations(), ids=str)
def test_an_answer_is_what_the_schema_says(answers: Answers, operation: Operation) -> None:
    response = answers[operation.id]
    assert response.status_code < 300, response.content
    operation.check(response)


@pytest.mark.parametrize("operation", CONTRACT)
def test_an_answer_has_the_members_of_the_contract(answers: Answers, operation: str) -> None:
    body = answers[operation].json()
    for place, expected in CONTRACT[operation].items():
        beyond = BEYOND_THE_CONTRACT.get(operation, {}).get(place, {})
        found = body[place] if place else body
        for item in found if isinstance(found, list) else [found]:
            assert set(item) == {*expected.split(), *beyond}, place
        assert found, place


def test_a_credential_that_is_stored_again_is_answered_in_the_same_shape(owner: Persona) -> None:
    for status in (201, 200):
        response = _store(owner.api, "sk-of-the-tenant-0001")
        assert response.status_code == status
        _operation("storeCredential").check(response)


def test_money_is_a_decimal_string_even_where_there_is_none(answers: Answers, owner: Persona) -> None:
    for usage in (answers["getUsage"], owner.api.get(f"{API}/usage")):
        for sums in (usage.json()["totals"], *usage.json()["results"]):
            assert sums["cost_usd"] == "0.0000000000"


def test_without_groups_the_sums_name_none(owner: Persona) -> None:
    rows.add_entries(owner, 1)
    response = owner.api.get(f"{API}/usage")
    _operation("getUsage").check(response)
    assert not {"provider", "model", "agent"} & set(response.json()["results"][0])


def test_without_dates_the_sums_end_with_the_tenants_own_day(make_tenant: MakeTenant) -> None:
    # 26 hours apart: it is never the same date in both.
    zones = ("Pacific/Kiritimati", "Etc/GMT+12")
    ends = [make_tenant(time_zone=zone).api.get(f"{API}/usage").json()["to"] for zone in zones]
    assert ends == [clock.today(zone).isoformat() for zone in zones]


def test_a_budget_shows_the_day_where_that_has_a_limit(make_tenant: MakeTenant) -> None:
    persona = make_tenant(limit=1000)
    assert persona.api.get(f"{API}/budget").json()["day"] is None
    with operator_scope("test"):
        Tenant.objects.filter(pk=persona.tenant.pk).update(daily_token_limit=100)
    day = persona.api.get(f"{API}/budget").json()["day"]
    today = clock.today("UTC")
    assert (day["period"], day["available_tokens"]) == (today.isoformat(), 100)
    assert day["resets_at"] == f"{today + timedelta(days=1)}T00:00:00Z"


def test_a_problem_may_say_more_than_all_problems_do(make_tenant: MakeTenant) -> None:
    poor = make_tenant(limit=1)
    collection = _post(poor.api, "/collections", {"slug": "notes", "name": "Notes"}).json()["id"]
    response = _post(poor.api, f"/collections/{collection}/search", {"query": QUESTION})
    assert (response.status_code, response.json()["code"]) == (402, "budget_exceeded")
    assert response.json()["limit_tokens"] == 1
    _operation("searchCollection").check(response)


def test_an_address_that_no_view_has_is_answered_with_a_problem(owner: Persona) -> None:
    for path in ("/agents/0", "/agents/", "/nothing"):
        response = owner.api.get(f"{API}{path}")
        assert (response.status_code, response["Content-Type"]) == (404, openapi.PROBLEM)
        assert openapi.differences(response.json(), {"$ref": "#/components/schemas/Problem"}) == []
        assert response.json()["code"] == "not_found"
        assert response.json()["request_id"] == response["X-Request-ID"]


def test_a_form_is_taken_for_a_document_and_nowhere_else(owner: Persona) -> None:
    response = owner.api.post(f"{API}/agents", {"slug": "a", "name": "A"}, format="multipart")
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


def test_a_form_with_too_many_fields_is_refused(owner: Persona) -> None:
    collection = _post(owner.api, "/collections", {"slug": "notes", "name": "Notes"}).json()["id"]
    form = {f"field-{number}": "" for number in range(1500)}
    response = owner.api.post(f"{API}/collections/{collection}/documents", form, format="multipart")
    assert (response.status_code, response.json()["code"]) == (413, "too_large")


def test_a_body_without_end_is_not_read_to_its_end(owner: Persona, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    for name, status in (("n" * 100, 201), ("n" * 1000, 413)):
        body = json.dumps({"slug": "a", "name": name})
        response = owner.api.post(f"{API}/agents", body, content_type="application/json")
        assert response.status_code == status


def _operation(name: str) -> Operation:
    [found] = [each for each in openapi.operations() if each.id == name]
    return found


LISTS = {
    "listAgents": ("/agents", rows.add_agents),
    "listAgentShares": ("/agents/{agent}/shares", rows.add_shares),
    "listCollections": ("/collections", rows.add_collections),
    "listCollectionDocuments": ("/collections/{collection}/documents", rows.add_documents),
    "listDocumentChunks": ("/documents/{document}/chunks", rows.add_chunks),
    "listRuns": ("/runs", rows.add_runs),
    "listConversations": ("/conversations", rows.add_conversations),
    "listConversationMessages": ("/conversations/{conversation}/messages", rows.add_answers),
    "listUsageEntries": ("/usage/entries", rows.add_entries),
    "listDiscrepancies": ("/discrepancies", rows.add_discrepancies),
    "listApiKeys": ("/api-keys", rows.add_api_keys),
    "listCredentials": ("/credentials", rows.add_credentials),
    "listMembers": ("/members", rows.add_members),
}


@pytest.mark.parametrize("operation", LISTS)
def test_a_list_takes_as_many_queries_for_forty_rows_as_for_three(owner: Persona, operation: str) -> None:
    path, add = LISTS[operation]
    add(owner, 3)
    counts = dict(_counted(owner, path.format(**rows.parents(owner))))
    add(owner, 37)
    counts |= _counted(owner, path.format(**rows.parents(owner)))
    (few, queries), (many, queries_of_many) = counts.items()
    assert few >= 3
    assert many >= few + 37
    assert queries_of_many == queries


def test_every_list_is_counted() -> None:
    paged = {each.id for each in openapi.operations() if "cursor" in each.parameters("query")}
    assert paged == set(LISTS)


def _counted(persona: Persona, path: str) -> Iterator[tuple[int, int]]:
    """How many rows a list shows, and how many queries it takes."""
    with CaptureQueriesContext(connection) as queries:
        response = persona.api.get(f"{API}{path}?page_size=200")
    assert response.status_code == 200, response.content
    yield len(response.json()["results"]), len(queries)
