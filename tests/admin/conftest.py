from collections.abc import Iterator
from uuid import uuid4

import pytest
from django.test import Client

from apps.core.db import operator_scope
from apps.tenants.models import User
from tests.admin import rows


@pytest.fixture(scope="session")
def planted(database: None) -> Iterator[None]:
    """A thousand rows of every model."""
    mark = uuid4().hex[:8]
    with operator_scope("test"):
        rows.plant(mark)
    yield
    rows.uproot(mark)


@pytest.fixture
def superuser(database: None) -> User:
    return User.objects.create_superuser(f"operator-{uuid4().hex[:8]}")


@pytest.fixture
def operator(superuser: User) -> Client:
    """A browser in which an operator who may do everything is signed in."""
    client = Client()
    client.force_login(superuser)
    return client
