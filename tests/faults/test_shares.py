"""A tenant with much to do holds up nobody else: of its work, no more than its share is at the workers at once."""

from uuid import uuid4

from apps.collections.models import EmbeddingBatch
from apps.core.db import unit_of_work
from nooble.processes import Supervisor
from tests.fakes.process import FakeProvider
from tests.faults.scene import Scene, wait_until
from tests.personas import MakeTenant

#: What the smallest tier may have under way at once; the tests' worker has eight threads.
SHARE = 5
BATCHES = 20


def scene_of(make_tenant: MakeTenant, fake: FakeProvider) -> Scene:
    return Scene(persona=make_tenant(tier="free"), fake=fake, provider="fake")


def calls_of(scene: Scene, marker: str) -> int:
    return sum(marker in str(arrival["body"]) for arrival in scene.fake.arrivals())


def test_a_backlog_takes_no_more_than_its_share_of_the_workers(
    make_tenant: MakeTenant, fake_provider: FakeProvider, worker: Supervisor
) -> None:
    busy, other = scene_of(make_tenant, fake_provider), scene_of(make_tenant, fake_provider)
    marker = uuid4().hex
    fake_provider.fail("hold", match={"path": "embeddings", "contains": marker}, times=None)
    paragraphs = "\n\n".join(f"# Pump {number}\n\n{f'{marker} ' * 400}" for number in range(BATCHES * 4))
    backlog = busy.upload(busy.collection(), paragraphs)
    wait_until(lambda: calls_of(busy, marker) == SHARE, seconds=60)

    # Every call of the backlog hangs, and there are threads left: another tenant's work is done.
    collection = other.collection()
    assert other.wait_for_document(other.upload(collection, "The pump weighs 12 kilograms.")).status == "ready"
    run = other.wait_for_run(other.ask(other.agent(collection), "How much does the pump weigh?"))
    assert (run.status, run.error_detail) == ("succeeded", "")
    assert calls_of(busy, marker) == SHARE
    with unit_of_work(busy.persona.ctx):
        assert EmbeddingBatch.objects.filter(publications__gt=0).count() == SHARE < EmbeddingBatch.objects.count()

    fake_provider.release()
    assert busy.wait_for_document(backlog).status == "ready"
    busy.check_books()
    other.check_books()
