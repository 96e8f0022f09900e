"""Whatever work leaves in Redis is gone when its result is there: what is kept is kept in PostgreSQL."""

import os

import pytest
import redis
from django.conf import settings

from apps.agents.models import Run
from apps.core.db import unit_of_work
from tests.faults.scene import Scene, wait_until

#: ``make endurance`` asks a thousand.
QUESTIONS = int(os.environ.get("ENDURANCE_QUESTIONS", "100"))
WARM_UP = 20
#: The broker's: what a worker has taken, and which messages wait. There while there is work.
IN_FLIGHT = {"unacked", "unacked_index", "unacked_mutex"}


def keys() -> set[str]:
    with redis.Redis.from_url(settings.REDIS_URL, decode_responses=True) as client:
        return set(client.scan_iter(count=1000))


def answered(scene: Scene) -> int:
    with unit_of_work(scene.persona.ctx):
        return Run.objects.filter(status="succeeded").count()


def ask(scene: Scene, agent: str, questions: int) -> None:
    """Ask, and wait until all are answered and no message is under way."""
    expected = answered(scene) + questions
    for number in range(questions):
        scene.ask(agent, f"How much does pump {number} weigh?")
    wait_until(lambda: answered(scene) == expected and not IN_FLIGHT & keys(), seconds=60 + questions)


@pytest.mark.parametrize("scene", ["fake"], indirect=True)
def test_after_many_questions_redis_holds_what_it_held_before(scene: Scene) -> None:
    collection = scene.collection()
    scene.wait_for_document(scene.upload(collection, "The pump weighs 12 kilograms."))
    agent = scene.agent(collection)
    ask(scene, agent, WARM_UP)
    before = keys()

    ask(scene, agent, QUESTIONS)

    assert keys() - before == set()
    scene.check_books()
