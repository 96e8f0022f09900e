from collections.abc import Iterator

import pytest

from nooble.processes import Supervisor
from tests.fakes.process import FakeProvider
from tests.faults.purchases import Buyers, Shop
from tests.faults.scene import Scene
from tests.personas import MakeTenant, Persona


@pytest.fixture(params=["fake", "askable"])
def scene(request: pytest.FixtureRequest, owner: Persona, fake_provider: FakeProvider, worker: Supervisor) -> Scene:
    """A tenant at a provider that cannot be asked, and at one that can, with a real worker."""
    return Scene(persona=owner, fake=fake_provider, provider=request.param)


@pytest.fixture(scope="session")
def buyers(database: None, fake_provider_process: FakeProvider) -> Iterator[Buyers]:
    """A process that forks buyers, each of which may die."""
    buyers = Buyers()
    yield buyers
    buyers.close()


@pytest.fixture(params=["fake", "askable"])
def shop(request: pytest.FixtureRequest, make_tenant: MakeTenant, fake_provider: FakeProvider, buyers: Buyers) -> Shop:
    """Purchases from a provider that cannot be asked, and from one that can, in processes that may die."""
    return Shop(make_tenant, fake_provider, buyers, request.param)
