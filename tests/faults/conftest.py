import pytest

from nooble.processes import Supervisor
from tests.fakes.process import FakeProvider
from tests.faults.scene import Scene
from tests.personas import Persona


@pytest.fixture(params=["fake", "askable"])
def scene(request: pytest.FixtureRequest, owner: Persona, fake_provider: FakeProvider, worker: Supervisor) -> Scene:
    """A tenant at a provider that cannot be asked, and at one that can, with a real worker."""
    return Scene(persona=owner, fake=fake_provider, provider=request.param)
