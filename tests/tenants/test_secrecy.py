"""A tenant's own key is with the provider, and in nothing else that a run leaves behind.

One tenant's day with a real worker: documents, questions, searches, at a provider that answers, fails, and repeats the
key in what it says. Then everything is read, for the key and, since a search that finds nothing proves nothing, for
something that must be there.
"""

import base64
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.conf import settings
from django.contrib import admin
from django.db import models
from django.test import Client
from django_celery_results.models import TaskResult

from apps.agents.models import Run
from apps.collections.models import Document, EmbeddingBatch
from apps.core.admin_pages import change_url, list_url
from apps.core.context import unverified
from apps.core.db import fetch_all, fetch_one, operator_scope, unit_of_work
from apps.core.models import IdempotentResponse
from apps.ledger.models import Attempt, Entry, Operation
from apps.providers.errors import ProviderError
from apps.tenants import services
from apps.tenants.models import ProviderCredential, Tenant, User
from nooble.processes import Supervisor
from tests.fakes.process import FakeProvider
from tests.faults.scene import Scene
from tests.gateway.test_purchase import complete, context
from tests.personas import Persona

API = "/api/v1"
#: What the provider refuses, repeating the key: each with the status that it is refused with.
REFUSALS = ("400", "401", "403", "429", "500")
#: Rows of the day that have a page in the admin.
SHOWN = (ProviderCredential, Run, Document, EmbeddingBatch, Operation, Attempt, Entry, IdempotentResponse)


@dataclass(kw_only=True)
class Day:
    """What was done with the key, and what was seen of it on the way."""

    persona: Persona
    secret: str
    #: Stands in questions and documents.
    word: str
    answers: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    redis: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)

    def spellings(self) -> set[str]:
        """The key as text, as bytes are shown, and within what is written in base64."""
        raw = self.secret.encode()
        # The characters at the ends depend on what stands beside the key.
        shifted = {base64.b64encode(bytes(shift) + raw).decode()[4:-4] for shift in range(3)}
        return {self.secret, raw.hex(), *shifted}

    def rows(self, model: type[models.Model]) -> list[Any]:
        with unit_of_work(self.persona.ctx):
            return list(model._default_manager.filter(tenant_id=self.persona.tenant.pk))


@pytest.fixture(scope="module")
def day(worker: Supervisor, fake_provider_process: FakeProvider) -> Iterator[Day]:
    tenant, key = services.create_tenant(slug=f"t-{uuid4().hex[:12]}", name="Test", tier="professional")
    day = Day(persona=Persona(tenant=tenant, key=key), secret=f"sk-{uuid4().hex}{uuid4().hex}", word=uuid4().hex)
    with _watched(day):
        _live(day, fake_provider_process)
    yield day
    fake_provider_process.reset()


def _live(day: Day, fake: FakeProvider) -> None:
    _send(day, "put", "/credentials/fake", {"secret": f"{day.secret} {day.secret}"})
    _send(day, "put", "/credentials/fake", {"secret": day.secret})
    scene = Scene(persona=day.persona, fake=fake, provider="fake")
    collection = scene.collection()
    scene.wait_for_document(scene.upload(collection, f"The pump {day.word} weighs 12 kilograms."))
    agent = scene.agent(collection)
    day.runs.append(scene.wait_for_run(scene.ask(agent, f"How much does {day.word} weigh?")))
    for status in REFUSALS:
        question = f"{day.word} and {status}?"
        fake.fail(status, times=None, retry_after="0", match={"path": "chat", "contains": question})
        day.runs.append(scene.wait_for_run(scene.ask(agent, question)))
        with suppress(ProviderError):
            complete(context(day.persona), question)
    fake.fail("400", match={"path": "embeddings", "contains": f"{day.word} in vain"})
    for query in (f"{day.word} in vain", day.word, day.word):
        _send(day, "post", f"/collections/{collection}/search", {"query": query}, {"Idempotency-Key": query[:200]})
    for run in day.runs:
        _send(day, "get", f"/runs/{run.pk}")
    for path in ("/credentials", "/credentials/fake", "/usage/entries", "/runs", "/discrepancies", "/api-keys"):
        _send(day, "get", path)


def _send(day: Day, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> None:
    response = getattr(day.persona.api, method)(f"{API}{path}", body, format="json", headers=headers)
    day.answers.append(f"{response.headers}\n{response.content.decode()}")


@contextmanager
def _watched(day: Day) -> Iterator[None]:
    """Everything that is said to Redis, and everything that this process logs, goes into the day."""
    client, last = redis.Redis.from_url(settings.REDIS_URL), f"last-{uuid4().hex}"
    handler, root = _Collecting(day.logged), logging.getLogger()
    level = root.level
    with client.monitor() as monitor:  # type: ignore[no-untyped-call]
        listening = threading.Thread(target=_listen, args=[monitor, last, day.redis])
        listening.start()
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            root.setLevel(level)
            root.removeHandler(handler)
            client.echo(last)
            listening.join()


def _listen(monitor: Any, last: str, heard: list[str]) -> None:
    for said in monitor.listen():
        heard.append(said["command"])
        if last in said["command"]:
            return


class _Collecting(logging.Handler):
    """Keeps what a log would show, tracebacks and the attributes of records included."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._lines = lines
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(f"{self.format(record)} {record.__dict__}")


def check(day: Day, text: str, *, there: str) -> None:
    """The key is not in the text; ``there`` is."""
    assert there in text
    assert [spelling for spelling in day.spellings() if spelling in text] == []


def test_the_provider_had_the_key(day: Day, fake_provider_process: FakeProvider) -> None:
    calls = [call for call in fake_provider_process.arrivals() if day.word in str(call["body"])]
    assert {call["headers"]["authorization"] for call in calls} == {f"Bearer {day.secret}"}
    assert {call.get("fault") for call in calls} == {None, *REFUSALS}
    assert [run.status for run in day.runs] == ["succeeded", *["failed"] * len(REFUSALS)]


def test_no_message_has_it(day: Day) -> None:
    check(day, "\n".join(day.redis), there=str(day.runs[0].pk))


def test_no_log_has_it(day: Day) -> None:
    worker_log = Path(settings.NOOBLE_DATA_DIR) / "log" / "worker.log"
    failed = [attempt for attempt in day.rows(Attempt) if attempt.error_code]
    assert failed
    check(day, worker_log.read_text() + "\n".join(day.logged), there="provider call failed")
    assert any(str(attempt.pk) in worker_log.read_text() for attempt in failed)


def test_no_tasks_result_has_it(day: Day) -> None:
    tasks = TaskResult.objects.filter(task_id__in=[run.task_id for run in day.runs])
    check(day, str(list(tasks.values())), there=str(day.runs[0].pk))


def test_no_answer_has_it(day: Day) -> None:
    check(day, "\n".join(day.answers), there=f"How much does {day.word} weigh?")
    assert sum("idempotent-replayed" in answer.lower() for answer in day.answers) == 1


def test_no_context_has_it(day: Day) -> None:
    """They are stored compressed, where a search of the tables does not see into."""
    rows = [row for model in (Run, Document, EmbeddingBatch) for row in day.rows(model)]
    check(day, "\n".join(unverified(row.signed_context).model_dump_json() for row in rows), there="fake-chat")


def test_no_table_has_it(day: Day) -> None:
    tables = fetch_all(
        "SELECT quote_ident(table_name) AS name FROM information_schema.tables"
        " WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
    )
    names = [table["name"] for table in tables]
    assert "tenants_providercredential" in names
    found = {spelling: _holding(names, spelling) for spelling in day.spellings()}
    assert found == {spelling: [] for spelling in found}
    assert {"agents_run", "collections_chunk"} <= set(_holding(names, day.word))


def _holding(tables: list[str], text: str) -> list[str]:
    """The tables one of whose rows has the text in any of its columns."""
    with operator_scope("test"):
        return [
            name
            for name in tables
            if fetch_one(f"SELECT FROM {name} AS each WHERE strpos(each::text, %s) > 0 LIMIT 1", [text]) is not None
        ]


def test_no_page_of_the_admin_has_it(day: Day) -> None:
    browser = Client()
    browser.force_login(User.objects.create_superuser(f"operator-{uuid4().hex[:8]}"))
    urls = [change_url(row._meta.label, row.pk) for model in SHOWN for row in day.rows(model)]
    urls += [list_url(model._meta.label) for model in SHOWN if admin.site.is_registered(model)]
    urls.append(change_url(Tenant._meta.label, day.persona.tenant.pk))
    pages = [browser.get(url) for url in urls]
    assert {page.status_code for page in pages} == {200}
    check(day, "\n".join(page.content.decode() for page in pages), there=day.secret[-4:])
