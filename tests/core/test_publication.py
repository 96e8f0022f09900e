"""How much of a tenant's work has a message at once, and who is next."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.db.models.functions import Now

from apps.agents.models import Conversation, Run
from apps.core import delivery, maintenance, publication, work
from apps.core.context import ExecutionContext, ProcessingConfig
from apps.core.db import unit_of_work
from apps.core.errors import BusyError, NoobleError
from apps.core.ids import new_id
from tests.personas import MakeTenant, Persona

SHARE = 3
SECONDS = 20


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """The runs whose messages were handed to the broker, in their order; nobody is woken up."""
    ids: list[UUID] = []
    monkeypatch.setattr(
        "celery.app.task.Task.apply_async", lambda self, **message: ids.append(UUID(message["kwargs"]["run_id"]))
    )
    return ids


@pytest.fixture
def tenant(make_tenant: MakeTenant) -> Iterator[Persona]:
    persona = make_tenant()
    yield persona
    with unit_of_work(persona.ctx):
        Run.objects.update(status="cancelled")


def context(persona: Persona) -> ExecutionContext:
    processing = ProcessingConfig(
        max_text_length=8192, batch_size=50, concurrency=SHARE, chunk_size=512, chunk_overlap=64
    )
    return persona.ctx.model_copy(update={"processing_config": processing})


def write(persona: Persona, number: int) -> list[UUID]:
    """So many runs, in one transaction that admits them; their ids, the oldest first."""
    ctx = context(persona)
    with unit_of_work(ctx):
        tenant = dict.fromkeys(("tenant_id", "owner_tenant_id", "payer_tenant_id"), persona.tenant.pk)
        conversation = Conversation.objects.create(tenant_id=persona.tenant.pk, agent_id=new_id())
        rows = [
            Run(
                **tenant,
                agent_id=new_id(),
                agent_version=1,
                conversation=conversation,
                session_id="s",
                question="Why?",
                signed_context=ctx.sign(),
            )
            for _ in range(number)
        ]
        ids = [row.pk for row in Run.objects.bulk_create(rows)]
        publication.admit(ctx, Run)
    return ids


def change(persona: Persona, run: UUID, **values: Any) -> None:
    with unit_of_work(persona.ctx):
        Run.objects.filter(pk=run).update(**values)


def deliver(persona: Persona, run: UUID, error: NoobleError | None = None) -> None:
    def perform(ctx: ExecutionContext, item: Run) -> None:
        if error:
            raise error
        change(persona, item.pk, status="succeeded", lease_expires_at=None)

    delivery.drive(context(persona), Run, run, task_id="t", perform=perform, give_up=lambda *_: None)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_of_much_work_a_tenants_share_is_published_the_oldest_first(tenant: Persona, sent: list[UUID]) -> None:
    runs = write(tenant, 5)
    assert sent == runs[:SHARE]
    assert write(tenant, 1)
    assert sent == runs[:SHARE]


def test_each_tenant_has_its_own(tenant: Persona, stranger: Persona, sent: list[UUID]) -> None:
    write(tenant, 5)
    before = len(sent)
    [run] = write(stranger, 1)
    assert sent[before:] == [run]
    change(stranger, run, status="cancelled")


def test_what_ends_makes_room_for_the_next(tenant: Persona, sent: list[UUID]) -> None:
    runs = write(tenant, 6)
    deliver(tenant, runs[0])
    assert sent == runs[:4]
    # One that nobody wants any more has ended, too.
    change(tenant, runs[1], status="cancelled")
    deliver(tenant, runs[1])
    assert sent == runs[:5]


def test_what_is_put_off_makes_room_and_comes_back_when_it_is_due(tenant: Persona, sent: list[UUID]) -> None:
    runs = write(tenant, 4)
    deliver(tenant, runs[0], BusyError())
    assert sent == runs
    change(tenant, runs[0], available_at=Now() - timedelta(seconds=1))
    maintenance.republish([Run])
    assert sent == runs
    deliver(tenant, runs[1])
    assert sent == [*runs, runs[0]]


def test_what_was_put_off_keeps_its_place(tenant: Persona, sent: list[UUID]) -> None:
    runs = write(tenant, 3 * SHARE)
    deliver(tenant, runs[0], BusyError())
    change(tenant, runs[0], available_at=Now())
    deliver(tenant, runs[1])
    assert sent == [*runs[: SHARE + 1], runs[0]]


def test_what_an_old_message_brings_back_has_its_place_in_the_share(tenant: Persona, sent: list[UUID]) -> None:
    runs = write(tenant, SHARE + 2)
    deliver(tenant, runs[0], BusyError())
    change(tenant, runs[0], available_at=Now())
    with unit_of_work(tenant.ctx):
        assert work.claim(Run, runs[0], task_id="t")
    deliver(tenant, runs[1])
    assert sent == runs[: SHARE + 1]


def test_the_sweeper_comes_to_every_tenant_however_many_have_no_room(make_tenant: MakeTenant, sent: list[UUID]) -> None:
    tenants = sorted((make_tenant() for _ in range(3)), key=lambda each: each.tenant.pk)
    *_, late = [write(each, 2 * SHARE) for each in tenants]
    for run in late[:SHARE]:
        change(tenants[-1], run, status="succeeded")
    before = len(sent)
    maintenance.republish([Run])
    assert sent[before:] == late[SHARE:]
    for persona in tenants:
        with unit_of_work(persona.ctx):
            Run.objects.update(status="cancelled")


def test_a_tenant_that_is_handing_in_keeps_the_sweeper_from_no_other(make_tenant: MakeTenant, sent: list[UUID]) -> None:
    _, second = tenants = sorted((make_tenant() for _ in range(2)), key=lambda each: each.tenant.pk)
    (*_, waits), _ = runs = [write(each, SHARE + 1) for each in tenants]
    for persona, (*published, _) in zip(tenants, runs, strict=True):
        for run in published:
            change(persona, run, status="cancelled")

    def sweep() -> None:
        try:
            maintenance.republish([Run])
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with unit_of_work(second.ctx):
            publication.admit(context(second), Run)
            sweeping = pool.submit(sweep)
            wait_until(lambda: waits in sent)
            assert not sweeping.done()
        sweeping.result(timeout=SECONDS)
    for persona in tenants:
        with unit_of_work(persona.ctx):
            Run.objects.update(status="cancelled")


def test_the_sweeper_admits_what_a_dead_worker_did_not(tenant: Persona, sent: list[UUID]) -> None:
    runs = write(tenant, 4)
    # It had finished its row, and was killed before it looked for the next.
    change(tenant, runs[0], status="succeeded", lease_expires_at=None)
    maintenance.republish([Run])
    assert sent == runs


def test_those_who_admit_at_once_admit_no_more_than_there_is_room_for(tenant: Persona, sent: list[UUID]) -> None:
    runs = write(tenant, 12)
    for run in runs[:SHARE]:
        change(tenant, run, status="succeeded")

    def admit(_: int) -> int:
        try:
            with unit_of_work(tenant.ctx):
                return publication.admit(context(tenant), Run)
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(admit, range(6))) == SHARE
    assert sorted(sent) == sorted(runs[: 2 * SHARE])


def test_rows_that_cannot_be_read_keep_no_place(tenant: Persona, sent: list[UUID]) -> None:
    *ended, last = runs = write(tenant, 2 * SHARE + 1)
    for run in ended[SHARE:]:
        change(tenant, run, signed_context="damaged")
    for run in ended[:SHARE]:
        change(tenant, run, status="succeeded")
    # Of a tenant whose oldest cannot be read, neither can its share: they are gone through one by one.
    for _ in range(SHARE + 1):
        maintenance.republish([Run])
    assert sent == [*runs[:SHARE], last]
