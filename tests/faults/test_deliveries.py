"""Messages come twice, workers die, Redis forgets: in the end the work is done once and the books agree."""

import os
import signal
from collections import Counter
from datetime import timedelta
from uuid import UUID, uuid4

import redis
from django.conf import settings

from apps.collections.models import EmbeddingBatch
from apps.core.db import unit_of_work
from apps.core.leases import LEASE
from apps.core.work import WorkItem
from nooble import embedded
from nooble.beat import SCHEDULE
from nooble.processes import Supervisor
from tests.faults.scene import RESUMED_WITHIN, Scene, database_time, wait_until

PARAGRAPHS = "\n\n".join(
    f"Paragraph {number}: the pump {uuid4().hex} weighs {number} kilograms." for number in range(200)
)


def publish_again(scene: Scene, item: WorkItem, times: int) -> None:
    with unit_of_work(scene.persona.ctx):
        for _ in range(times):
            item.publish()


def batches(scene: Scene, document_id: UUID) -> list[EmbeddingBatch]:
    with unit_of_work(scene.persona.ctx):
        return list(EmbeddingBatch.objects.filter(document=document_id))


def redis_process() -> str:
    """Which start of Redis answers; it keeps nothing on disk, so another one has an empty memory."""
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        return str(client.info("server")["run_id"])


def operations(scene: Scene) -> Counter[str]:
    return Counter(entry.operation for entry in scene.entries())


def test_tasks_that_are_delivered_several_times_at_once_are_done_once(scene: Scene) -> None:
    collection = scene.collection()
    document_id = scene.upload(collection, PARAGRAPHS)
    publish_again(scene, scene.document(document_id), 4)
    wait_until(lambda: len(batches(scene, document_id)) > 1, seconds=60)
    for batch in batches(scene, document_id):
        publish_again(scene, batch, 3)
    assert scene.wait_for_document(document_id).status == "ready"

    run_id = scene.ask(scene.agent(collection), "How much does the pump weigh?")
    publish_again(scene, scene.run(run_id), 4)
    run = scene.wait_for_run(run_id)
    assert (run.status, run.error_detail) == ("succeeded", "")

    expected = {"internal": 1, "batch": len(batches(scene, document_id)), "query": 1, "chat": 1}
    assert operations(scene) == expected
    assert {attempt.state for attempt in scene.attempts()} == {"settled"}
    scene.check_books()


def test_when_a_lease_has_run_out_there_is_time_for_a_sweep_and_for_one_that_is_missed() -> None:
    sweep = timedelta(seconds=SCHEDULE["sweep"]["schedule"])
    assert LEASE + 2 * sweep < RESUMED_WITHIN


def test_a_run_whose_worker_is_killed_in_the_middle_of_the_call_gets_its_answer(
    scene: Scene, worker: Supervisor
) -> None:
    collection = scene.collection()
    scene.wait_for_document(scene.upload(collection, "The pump weighs 12 kilograms."))
    marker = uuid4().hex
    scene.fake.fail("hold", match={"path": "chat", "contains": marker})
    run_id = scene.ask(scene.agent(collection), f"How much does the pump {marker} weigh?")
    # The question comes twice: to be embedded, and in the chat.
    wait_until(lambda: any("chat" in a["path"] and marker in str(a["body"]) for a in scene.fake.arrivals()), seconds=30)

    killed_at = database_time()
    os.kill(worker.process_ids()["worker"], signal.SIGKILL)
    scene.fake.release()
    run = scene.wait_for_run(run_id)

    assert (run.status, run.error_detail) == ("succeeded", "")
    assert run.deliveries == 2
    assert killed_at < run.published_at < killed_at + RESUMED_WITHIN
    assert operations(scene) == {"internal": 1, "batch": 1, "query": 1, "chat": 1}
    # The provider counted the first call. Where it can be asked, its answer is taken and no second call is made.
    chat = [attempt.state for attempt in scene.attempts() if attempt.model == "fake-chat"]
    assert chat == (["settled"] if scene.provider == "askable" else ["unknown", "settled"])
    scene.check_books()


def test_a_document_is_ready_although_redis_came_back_with_an_empty_memory(scene: Scene) -> None:
    collection = scene.collection()
    scene.fake.fail("slow", seconds=1, times=8, match={"path": "embeddings"})
    document_id = scene.upload(collection, PARAGRAPHS)
    wait_until(lambda: len(batches(scene, document_id)) > 1, seconds=60)

    before = redis_process()
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.shutdown(nosave=True)
    embedded.ensure()
    assert redis_process() != before

    document = scene.wait_for_document(document_id)
    assert (document.status, document.error_detail) == ("ready", "")
    assert document.batches_done == document.batches_total > 1
    assert operations(scene) == {"internal": 1, "batch": document.batches_total}
    scene.check_books()
