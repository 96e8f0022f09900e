"""What Celery keeps of the work, for an operator to look at: which task did what, by ids alone."""

import ast
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from celery import current_app
from django.conf import settings
from django.db import connections
from django.db.models import Q
from django_celery_results.models import TaskResult

from apps.collections.models import EmbeddingBatch
from apps.core import counters
from apps.core.admin_pages import change_url, list_url
from apps.core.db import unit_of_work
from apps.core.dispatch import CONTEXT_HEADER
from tests.admin.test_links import follow, shows, text
from tests.admin.test_site import staff
from tests.faults.scene import Scene, wait_until

SECONDS = 30
RUN_ID = "00000000-0000-7000-8000-000000000001"


@pytest.fixture
def marker() -> str:
    """Stands in the document, in the question, and so in the answer."""
    return uuid4().hex


def done(task_id: str) -> TaskResult:
    """The task's row, once Celery has written how it ended."""
    ended = TaskResult.objects.filter(task_id=task_id, status__in=["SUCCESS", "FAILURE"])
    wait_until(ended.exists, seconds=SECONDS)
    return TaskResult.objects.get(task_id=task_id)


def facts(task: TaskResult) -> tuple[str, str, Any, Any, Any]:
    """What ran, how it ended, with which arguments, and with which result."""
    positional, named = (ast.literal_eval(json.loads(text)) for text in (task.task_args, task.task_kwargs))
    return task.task_name, task.status, positional, named, json.loads(task.result)


def stored(tasks: list[TaskResult]) -> str:
    """Everything in every column of the rows."""
    return "\n".join(str(row) for row in TaskResult.objects.filter(pk__in=[task.pk for task in tasks]).values())


def test_each_row_of_work_names_its_task_and_an_operator_finds_it(scene: Scene, marker: str) -> None:
    collection = scene.collection()
    document = scene.wait_for_document(scene.upload(collection, f"The pump {marker} weighs 12 kilograms."))
    run = scene.wait_for_run(scene.ask(scene.agent(collection), f"How much does the pump {marker} weigh?"))
    with unit_of_work(scene.persona.ctx):
        batch = EmbeddingBatch.objects.get(document=document)
    work = {
        "ingestion.chunk": ("documents", document, {"document_id": str(document.pk)}),
        "embedding.embed_batch": (None, batch, {"embeddingbatch_id": str(batch.pk)}),
        "query.answer": ("runs", run, {"run_id": str(run.pk)}),
    }
    browser = staff("view_document", "view_embeddingbatch", "view_run", "view_taskresult")
    for name, (path, row, ids) in work.items():
        task = done(row.task_id)
        assert facts(task) == (name, "SUCCESS", (), ids, ids)
        assert shows(follow(browser, change_url(row._meta.label, row.pk), row.task_id), task)
        if path:
            assert scene.persona.api.get(f"/api/v1/{path}/{row.pk}").json()["task_id"] == row.task_id
    assert row_of(text(browser, list_url("collections.document", q=document.pk)), "progress") == "1.0"


def row_of(page: str, column: str) -> str:
    """The value of a column on a list of one row."""
    _, _, cell = page.partition(f"field-{column}")
    return cell.partition(">")[2].partition("<")[0].strip()


def test_nothing_that_was_said_and_no_key_is_in_a_task_s_row(scene: Scene, marker: str) -> None:
    collection = scene.collection()
    document = scene.wait_for_document(scene.upload(collection, f"The pump {marker} weighs 12 kilograms."))
    agent = scene.agent(collection)
    answered = scene.wait_for_run(scene.ask(agent, f"How much does the pump {marker} weigh?"))
    assert marker in answered.answer
    scene.fake.fail("400", message=f"Not {marker}!", match={"path": "chat", "contains": marker})
    failed = scene.wait_for_run(scene.ask(agent, f"And {marker}?"))
    assert failed.status == "failed"

    tasks = [done(row.task_id) for row in (document, answered, failed)]
    with unit_of_work(scene.persona.ctx):
        tasks += [done(batch.task_id) for batch in EmbeddingBatch.objects.filter(document=document)]
    secrets = [marker, scene.persona.key, settings.NOOBLE_PROVIDERS["fake"]["api_key"]]
    contexts = [row.signed_context for row in (document, answered, failed)]
    assert len(tasks) == 4
    assert [each for each in (*secrets, *contexts) if each in stored(tasks)] == []
    # Nor in any other task's, such as one that came twice.
    everywhere = Q(result__contains=marker) | Q(task_kwargs__contains=marker) | Q(traceback__contains=marker)
    assert not TaskResult.objects.filter(everywhere).exists()


def test_a_task_that_is_refused_does_not_keep_what_it_came_with(scene: Scene) -> None:
    forged = f"{scene.persona.ctx.sign()}x"
    before = counters.read("messages_refused").get(("query.answer", "forged"), 0)
    sent = current_app.tasks["query.answer"].apply_async(
        kwargs={"run_id": str(uuid4())}, headers={CONTEXT_HEADER: forged}, queue="query.professional"
    )
    task = done(sent.id)
    assert (task.task_name, task.status) == ("query.answer", "FAILURE")
    assert json.loads(task.result)["exc_type"] == "ContextRefusedError"
    assert forged.partition(":")[0] not in stored([task])
    assert counters.read("messages_refused")["query.answer", "forged"] == before + 1


@pytest.mark.parametrize(
    ("positional", "named"),
    [
        ((), {}),
        ((), {"run_id": "hidden"}),
        ((), {"run_id": RUN_ID, "hidden": 1}),
        ((), {"run_id": RUN_ID, "self": "hidden"}),
        ((RUN_ID,), {}),
        (("hidden",), {"run_id": RUN_ID}),
    ],
)
def test_a_task_whose_payload_is_none_is_refused_and_does_not_keep_it(
    scene: Scene, positional: tuple[Any, ...], named: dict[str, Any]
) -> None:
    before = counters.read("messages_refused").get(("query.answer", "payload"), 0)
    sent = current_app.tasks["query.answer"].apply_async(
        positional, named, headers={CONTEXT_HEADER: scene.persona.ctx.sign()}, queue="query.professional"
    )
    task = done(sent.id)
    assert (task.status, json.loads(task.result)["exc_type"]) == ("FAILURE", "PayloadRefusedError")
    assert "hidden" not in str(task.traceback)
    assert counters.read("messages_refused")["query.answer", "payload"] == before + 1


def test_a_task_that_fails_over_a_row_does_not_keep_what_the_row_says(scene: Scene, marker: str) -> None:
    agent = scene.agent(scene.collection())
    with refused_answers():
        run_id = scene.ask(agent, f"How much does the pump {marker} weigh?")
        wait_until(lambda: scene.run(run_id).task_id != "", seconds=SECONDS)
        task = done(scene.run(run_id).task_id)
    assert json.loads(task.result)["exc_type"] == "IntegrityError"
    assert marker not in stored([task])
    scene.post(f"/runs/{run_id}/cancel", {})


@contextmanager
def refused_answers() -> Iterator[None]:
    """Let the database take no answer meanwhile, whose words it would tell in its reason."""
    with connections["owner"].cursor() as cursor:
        cursor.execute("ALTER TABLE agents_message ADD CONSTRAINT refused CHECK (author <> 'assistant') NOT VALID")
        try:
            yield
        finally:
            cursor.execute("ALTER TABLE agents_message DROP CONSTRAINT refused")
