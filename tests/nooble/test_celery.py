"""Celery as it is configured: its queues, its schedule, and a real worker behind the embedded Redis."""

import os
import subprocess
import sys

import pytest
from celery.exceptions import QueueNotFound
from django_celery_beat.models import PeriodicTask
from django_celery_results.models import TaskResult

from nooble import beat, queues
from nooble.celery import app
from nooble.processes import Supervisor


def test_the_tasks_are_known_in_a_process_that_only_publishes() -> None:
    source = "import django; django.setup(); from celery import current_app; print(*current_app.tasks)"
    command = [sys.executable, "-c", source]
    result = subprocess.run(
        command,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "settings.test"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"query.answer", "maintenance.sweep"} <= set(result.stdout.split())


def test_each_domain_has_a_queue_for_each_tier() -> None:
    assert set(app.amqp.queues) == set(queues.names())
    assert {"query.enterprise", "embedding.free", "ingestion.advance", "maintenance"} <= set(queues.names())


def test_a_message_to_a_queue_that_nobody_reads_is_an_error() -> None:
    with pytest.raises(QueueNotFound):
        app.tasks["celery.backend_cleanup"].apply_async(queue="query.fre")


def test_only_json_is_accepted() -> None:
    assert app.conf.accept_content == ["json"]
    assert (app.conf.task_serializer, app.conf.result_serializer) == ("json", "json")


def test_times_are_in_the_order_that_keeps_a_task_from_running_twice() -> None:
    visible_again = app.conf.broker_transport_options["visibility_timeout"]
    assert 60 < app.conf.task_soft_time_limit < app.conf.task_time_limit < visible_again


@pytest.mark.parametrize("queue", ["query.free", "ingestion.enterprise", "maintenance"])
def test_a_worker_does_what_is_published(worker: Supervisor, queue: str) -> None:
    result = app.tasks["celery.backend_cleanup"].apply_async(queue=queue)
    assert result.get(timeout=60) is None
    assert TaskResult.objects.get(task_id=result.id).status == "SUCCESS"


def test_everything_scheduled_exists_and_expires_before_it_comes_again() -> None:
    for entry in beat.SCHEDULE.values():
        assert entry["task"] in app.tasks
        assert entry["options"]["queue"] in queues.names()
        assert entry["options"]["expire_seconds"] < entry["schedule"]


def test_the_default_schedule_is_written_once_and_the_admins_changes_stay(database: None) -> None:
    beat.Scheduler(app=app)
    sweep = PeriodicTask.objects.get(name="sweep")
    assert sweep.interval is not None
    assert (sweep.task, sweep.interval.every, sweep.enabled) == ("maintenance.sweep", 5, True)
    sweep.priority, sweep.enabled = 7, False
    sweep.save()
    beat.Scheduler(app=app)
    sweep.refresh_from_db()
    assert (sweep.priority, sweep.enabled) == (7, False)
