"""An operator has a run delivered again that nobody is at, says why, and no other run."""

from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.db.models.functions import Now
from django.test import Client

from apps.agents import runs, waiting
from apps.agents.models import Run
from apps.core import delivery, work
from apps.core.admin_pages import change_url
from apps.core.db import unit_of_work
from apps.core.leases import LEASE
from apps.tenants.models import User
from nooble.processes import Supervisor
from tests.admin.test_site import staff
from tests.api import rows
from tests.personas import Persona

FORM = {"_form_submitted": "on", "reason": "Its message was lost with Redis."}
HOUR = LEASE * 240
#: What a run looks like that waits and that no sweeper will find for an hour.
PUT_OFF: dict[str, Any] = {"status": "queued", "available_at": Now() + HOUR, "published_at": Now() + HOUR}


@pytest.fixture
def operator(database: None) -> Client:
    return staff("view_run", "change_run")


@pytest.fixture
def run_id(owner: Persona) -> UUID:
    rows.add_runs(owner, 1)
    return rows.parents(owner)["run"]


def set_to(owner: Persona, run_id: UUID, **values: Any) -> None:
    with unit_of_work(owner.ctx):
        Run.objects.filter(pk=run_id).update(**values)


def read(owner: Persona, run_id: UUID) -> Run:
    with unit_of_work(owner.ctx):
        return Run.objects.get(pk=run_id)


def replay_url(run_id: UUID) -> str:
    return change_url("agents.run", run_id).replace("change/", "replay/")


def replay(browser: Client, run_id: UUID, form: dict[str, Any] = FORM) -> str:
    response = browser.post(replay_url(run_id), form)
    assert response.status_code == 200
    return response.content.decode()


@pytest.fixture
def stuck(owner: Persona, worker: Supervisor) -> UUID:
    """A question that waits for an hour, of which nobody knows, and that was delivered as often as any may be."""
    agent = owner.api.post("/api/v1/agents", {"slug": "helper", "name": "Helper"}, format="json").json()["id"]
    body = {"agent_id": agent, "message": "Hello?"}
    asked = owner.api.post("/api/v1/chat", body, format="json", headers={"Prefer": "wait=30"}).json()
    ctx = read(owner, asked["id"]).context
    with unit_of_work(ctx):
        run = runs.start_run(ctx, "And now?")
        Run.objects.filter(pk=run.pk).update(**PUT_OFF, deliveries=delivery.MAX_DELIVERIES)
    return run.pk


def test_a_run_that_was_put_off_is_delivered_now_as_a_new_one_is(operator: Client, owner: Persona, stuck: UUID) -> None:
    assert replay_url(stuck) in operator.get(change_url("agents.run", stuck)).content.decode()
    assert "The run is delivered again." in replay(operator, stuck)
    # Without the sweeper, which would find it, too.
    run = waiting.wait_for(owner.ctx, stuck, seconds=30)
    assert (run.status, run.deliveries) == ("succeeded", 1)


def test_who_replayed_it_and_why_is_noted(operator: Client, owner: Persona, run_id: UUID) -> None:
    set_to(owner, run_id, **PUT_OFF)
    replay(operator, run_id)
    note = LogEntry.objects.get(object_id=run_id)
    assert note.change_message == "Replayed: Its message was lost with Redis."
    assert note.user == User.objects.get(pk=operator.session["_auth_user_id"])


def test_without_a_reason_nothing_is_replayed(operator: Client, owner: Persona, run_id: UUID) -> None:
    set_to(owner, run_id, **PUT_OFF)
    before = read(owner, run_id)
    assert "This field is required" in replay(operator, run_id, {**FORM, "reason": ""})
    assert read(owner, run_id).available_at == before.available_at


def test_one_whose_worker_died_is_delivered_to_another(operator: Client, owner: Persona, run_id: UUID) -> None:
    set_to(owner, run_id, status="generating", lease_expires_at=Now() - LEASE, available_at=Now())
    assert "The run is delivered again." in replay(operator, run_id)
    with unit_of_work(owner.ctx):
        taken = work.claim(Run, run_id, task_id="another")
    assert taken is not None
    assert taken.deliveries == 1


def test_one_that_a_worker_is_at_is_left_to_it(operator: Client, owner: Persona, run_id: UUID) -> None:
    set_to(owner, run_id, status="generating", lease_expires_at=Now() + HOUR)
    before = read(owner, run_id)
    assert "A worker is at it." in replay(operator, run_id)
    after = read(owner, run_id)
    assert (after.lease_expires_at, after.published_at) == (before.lease_expires_at, before.published_at)
    assert not LogEntry.objects.filter(object_id=run_id).exists()


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_one_that_has_finished_stays_finished(operator: Client, owner: Persona, run_id: UUID, status: str) -> None:
    set_to(owner, run_id, status=status)
    assert f"Nothing was changed. The run is {status}." in replay(operator, run_id)
    assert (read(owner, run_id).status, LogEntry.objects.filter(object_id=run_id).count()) == (status, 0)


def test_one_whose_context_cannot_be_read_is_not_announced(operator: Client, owner: Persona, run_id: UUID) -> None:
    set_to(owner, run_id, **PUT_OFF, signed_context="damaged")
    before = read(owner, run_id)
    assert "Nothing was changed." in replay(operator, run_id)
    assert read(owner, run_id).available_at == before.available_at


def test_staff_without_permission_replay_nothing(owner: Persona, run_id: UUID) -> None:
    set_to(owner, run_id, **PUT_OFF)
    before = read(owner, run_id)
    assert staff("view_run").post(replay_url(run_id), FORM).status_code == 403
    assert read(owner, run_id).available_at == before.available_at


def test_a_run_that_is_not_there_is_not_found(operator: Client, owner: Persona, run_id: UUID) -> None:
    assert operator.post(replay_url(owner.tenant.pk), FORM).status_code == 404
