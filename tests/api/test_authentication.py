"""Who may call: keys, scopes, and headers that may not claim what the key does not say."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from apps.core.db import operator_scope
from apps.tenants import services
from apps.tenants.models import ApiKey, Tenant
from tests.personas import MakeTenant, Persona

AGENTS = "/api/v1/agents"
ERRORS_PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"


def client(key: str) -> APIClient:
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    return api


def check_problem(response: Any, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    assert response["Content-Type"] == "application/problem+json"
    assert body["type"].endswith(f"/errors/{code}")
    assert body["detail"]
    assert body["request_id"] == response["X-Request-ID"]
    assert f"| `{code}` | {status} |" in ERRORS_PAGE.read_text()
    return body


def test_a_key_opens_its_tenants_door(owner: Persona) -> None:
    assert owner.api.get(AGENTS).status_code == 200


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer x", "Basic Zm9vOmJhcg==", "Bearer nbl_0_1", "Bearer \xff"])
def test_without_a_valid_key_nothing_opens(database: None, header: str | None) -> None:
    api = APIClient()
    if header:
        api.credentials(HTTP_AUTHORIZATION=header)
    response = api.get(AGENTS)
    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_the_right_prefix_with_a_wrong_secret_is_refused(owner: Persona) -> None:
    check_problem(client(owner.key[:-64] + "0" * 64).get(AGENTS), 401, "invalid_api_key")


def test_a_revoked_key_is_refused(owner: Persona) -> None:
    listed = owner.api.get("/api/v1/api-keys").json()["results"]
    assert owner.api.delete(f"/api/v1/api-keys/{listed[0]['id']}").status_code == 204
    check_problem(owner.api.get(AGENTS), 401, "invalid_api_key")


def test_an_expired_key_is_refused(owner: Persona) -> None:
    _, key = services.issue_key(owner.ctx, name="old", scopes=["manage"], expires_at=timezone.now() - timedelta(1))
    check_problem(client(key).get(AGENTS), 401, "invalid_api_key")


def test_a_key_without_the_scope_is_refused(owner: Persona) -> None:
    _, key = services.issue_key(owner.ctx, name="narrow", scopes=["usage"])
    assert client(key).get("/api/v1/budget").status_code == 200
    body = check_problem(client(key).get(AGENTS), 403, "missing_scope")
    assert "manage" in body["detail"]


def test_a_tenant_that_is_switched_off_is_refused(make_tenant: MakeTenant) -> None:
    tenant = make_tenant()
    with operator_scope("test"):
        Tenant.objects.filter(pk=tenant.tenant.pk).update(is_active=False)
    check_problem(tenant.api.get(AGENTS), 403, "tenant_inactive")


def test_a_key_is_shown_once_and_stored_hashed(owner: Persona) -> None:
    made = owner.api.post("/api/v1/api-keys", {"name": "second", "scopes": ["chat"]}, format="json")
    assert made.status_code == 201
    key = made.json()["key"]
    assert client(key).get("/api/v1/runs").status_code == 200
    assert key not in str(owner.api.get("/api/v1/api-keys").json())
    with operator_scope("test"):
        row = ApiKey.objects.get(pk=made.json()["id"])
    assert key.rpartition("_")[2] not in str(vars(row))
    assert row.last_used_at is not None


@pytest.mark.parametrize(
    ("header", "value", "status", "code"),
    [
        ("X-Tenant-ID", "00000000-0000-7000-8000-000000000000", 403, "tenant_mismatch"),
        ("X-Tenant-ID", "not-an-id", 400, "invalid_request"),
        ("X-Tenant-Tier", "enterprise", 403, "tier_mismatch"),
        ("X-User-ID", "x" * 200, 400, "invalid_request"),
        ("X-Session-ID", "a b", 400, "invalid_request"),
    ],
)
def test_a_header_cannot_claim_what_the_key_does_not_say(
    owner: Persona, header: str, value: str, status: int, code: str
) -> None:
    body = check_problem(owner.api.get(AGENTS, headers={header: value}), status, code)
    if status == 400:
        assert body["errors"][0]["field"] == header


def test_headers_that_agree_with_the_key_are_accepted(owner: Persona) -> None:
    headers = {"X-Tenant-ID": str(owner.tenant.pk), "X-Tenant-Tier": "professional"}
    assert owner.api.get(AGENTS, headers=headers).status_code == 200


def test_the_request_id_is_echoed(owner: Persona) -> None:
    assert owner.api.get(AGENTS, headers={"X-Request-ID": "req-7"})["X-Request-ID"] == "req-7"
