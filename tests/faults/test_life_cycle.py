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
#: The windows of a tenant's rate limit: of this minute and the one before, whatever it asks. They expire.
WINDOWS = "nooble:limits:"
LONGEST_WINDOW_SECONDS = 120
#: What Redis says of a key that does not expire.
FOR_GOOD = -1


def keys() -> set[str]:
    """What is there, without the windows: at most two of each tenant's limit, and each expires."""
    with redis.Redis.from_url(settings.REDIS_URL, decode_responses=True) as client:
        found = set(client.scan_iter(count=1000))
        windows = {key for key in found if key.startswith(WINDOWS)}
        lives = [client.ttl(window) for window in windows]
    assert all(seconds != FOR_GOOD and seconds <= LONGEST_WINDOW_SECONDS for seconds in lives)
    assert len(windows) <= 2 * len({window.rpartition("}")[0] for window in windows})
    return found - windows


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
