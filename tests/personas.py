"""Who tests act for. Every test gets tenants of its own, so that tests share a database and never meet."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from apps.core.context import ExecutionContext
from apps.core.db import operator_scope
from apps.tenants import services
from apps.tenants.models import Tenant


@dataclass(frozen=True)
class Persona:
    """A tenant with its first key: what it is, how it calls the API, and the context it acts in."""

    tenant: Tenant
    key: str

    @property
    def ctx(self) -> ExecutionContext:
        return services.context_of(self.tenant)

    @property
    def api(self) -> APIClient:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {self.key}")
        return client


MakeTenant = Callable[..., Persona]


@pytest.fixture
def make_tenant(database: None) -> MakeTenant:
    """Makes tenants; ``limit`` is a monthly token limit of their own."""

    def make(*, tier: str = "professional", limit: int | None = None, **fields: Any) -> Persona:
        tenant, key = services.create_tenant(slug=f"t-{uuid4().hex[:12]}", name="Test", tier=tier, **fields)
        if limit is not None:
            with operator_scope("test"):
                Tenant.objects.filter(pk=tenant.pk).update(monthly_token_limit=limit)
        return Persona(tenant=tenant, key=key)

    return make


@pytest.fixture
def owner(make_tenant: MakeTenant) -> Persona:
    """The tenant that a test is about."""
    return make_tenant()


@pytest.fixture
def stranger(make_tenant: MakeTenant) -> Persona:
    """Another tenant, which must see nothing of the owner's."""
    return make_tenant()


@pytest.fixture(autouse=True)
def _no_transaction_is_left_open(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "database" in request.fixturenames:
        from django.db import connection  # noqa: PLC0415 - settings first

        assert not connection.in_atomic_block
