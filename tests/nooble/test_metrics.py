"""What a monitor is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from django.db import transaction
from django.db.models.functions import Now
from django.test import Client
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from apps.agents.models import Run
from apps.core import clock, counters, dispatch
from apps.core.db import unit_of_work
from apps.ledger import reconciliation, spool, till
from apps.ledger.errors import SpoolUnavailableError
from nooble.metrics import METRICS
from tests.api import rows
from tests.ledger.test_reconciliation import planted, settled
from tests.ledger.test_till import admitted, call, charge
from tests.personas import Persona

TOKEN = "a-token-for-metrics-of-the-tests"


@pytest.fixture(autouse=True)
def configured(settings: Settings, tmp_path: Path) -> None:
    settings.METRICS_TOKEN = TOKEN
    settings.SPOOL_DIR = tmp_path / "spool"


def families() -> list[Metric]:
    response = Client().get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert response.status_code == 200
    return list(text_string_to_metric_families(response.content.decode()))


def told() -> dict[tuple[str, ...], float]:
    """Every sample: (its name, its labels in the order of their names) → its value."""
    samples = [sample for family in families() for sample in family.samples]
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


@pytest.mark.parametrize("authorization", [None, "", "Bearer", f"Bearer {TOKEN}x", TOKEN, "Bearer é"])
def test_who_does_not_bring_the_token_is_told_nothing(database: None, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    response = Client().get("/metrics", headers=headers)
    assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")
    assert response["WWW-Authenticate"] == "Bearer"


def test_without_a_token_in_the_settings_there_is_no_such_page(database: None, settings: Settings) -> None:
    settings.METRICS_TOKEN = ""
    response = Client().get("/metrics", headers={"Authorization": "Bearer "})
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_every_metric_is_told_and_no_other(owner: Persona) -> None:
    reconciliation.reconcile(started_by="test")
    with published("test.metrics", clock.now()):
        assert {family.name for family in families()} == METRICS.keys()


@contextmanager
def published(task: str, moment: datetime) -> Iterator[None]:
    """A periodic task that beat has published."""
    every, _ = IntervalSchedule.objects.get_or_create(every=1, period="days")
    row = PeriodicTask.objects.create(name=task, task=task, interval=every, enabled=True)
    PeriodicTask.objects.filter(pk=row.pk).update(last_run_at=moment)
    yield
    row.delete()


def test_when_beat_last_published_a_task(database: None) -> None:
    moment = datetime(2026, 11, 1, tzinfo=UTC)
    with published("test.metrics", moment):
        assert told()["nooble_beat_timestamp_seconds", "test.metrics"] == moment.timestamp()


def test_calls_in_doubt_and_what_they_keep(owner: Persona) -> None:
    before = told()
    held = admitted(till.hold(owner.ctx, charge(), call(1000)))
    opened = told()
    till.mark_unknown(owner.ctx, held.attempt_id)
    after = told()

    def moved(now: dict[tuple[str, ...], float], state: str) -> tuple[float, float]:
        count, tokens = ("nooble_attempts", state), ("nooble_attempt_held_tokens", state)
        return now[count] - before[count], now[tokens] - before[tokens]

    assert (moved(opened, "open"), moved(opened, "unknown")) == ((1, 1000), (0, 0))
    assert (moved(after, "open"), moved(after, "unknown")) == ((0, 0), (1, 1000))


def test_differences_are_counted_until_somebody_looks_into_them(owner: Persona) -> None:
    before = told()
    held = settled(owner)
    planted("UPDATE ledger_operation SET state = 'failed' WHERE id = %s", held.operation_id)
    run = reconciliation.reconcile(started_by="test")
    after, kind = told(), ("nooble_discrepancies", "entry_without_operation")
    assert after[kind] - before[kind] == 1
    assert after["nooble_reconciled_timestamp_seconds", "everything"] >= run.started_at.timestamp()


def test_work_that_nobody_does(owner: Persona) -> None:
    before = told()
    rows.add_runs(owner, 1)
    with unit_of_work(owner.ctx):
        Run.objects.update(status="queued", lease_expires_at=None, available_at=Now() - timedelta(hours=3))
    after = told()
    assert after["nooble_work_unfinished", "run"] - before["nooble_work_unfinished", "run"] == 1
    assert 3 * 3600 <= after["nooble_work_waiting_seconds", "run"] < 4 * 3600
    with unit_of_work(owner.ctx):
        Run.objects.update(status="succeeded")


def test_usage_that_waits(owner: Persona, settings: Settings) -> None:
    assert told()["nooble_spool_events", "waiting"] == 0
    spool.add(owner.tenant.pk, [{"key": "k", "hash": "h", "id": owner.tenant.pk}])
    assert told()["nooble_spool_events", "waiting"] == 1


def test_a_spool_that_cannot_be_read_takes_no_other_metric_with_it(owner: Persona, settings: Settings) -> None:
    Path(settings.SPOOL_DIR).mkdir()
    (Path(settings.SPOOL_DIR) / "usage.sqlite3").write_text("no database, but long enough to be taken for one" * 9)
    with pytest.raises(SpoolUnavailableError):
        spool.waiting()
    now = told()
    assert ("nooble_spool_events", "waiting") not in now
    assert ("nooble_attempts", "open") in now


def test_headers_are_counted_by_name_and_client_and_never_by_value(owner: Persona) -> None:
    client, secret = f"sdk-{uuid4().hex[:8]}", uuid4().hex
    headers = {"X-Client-Version": client, "X-User-ID": secret}
    for _ in range(2):
        owner.api.get("/api/v1/agents", headers=headers)
    refused = owner.api.get("/api/v1/agents", headers={**headers, "X-LLM-Temperature": "warm"})
    assert refused.status_code == 400
    now = told()
    assert now["nooble_request_headers_total", client, "X-User-ID"] == 2
    assert ("nooble_request_headers_total", client, "X-LLM-Temperature") not in now
    assert secret not in str(now)


def test_the_sizes_of_contexts_are_told_as_prometheus_buckets(owner: Persona) -> None:
    before = told()
    dispatch.publish_on_commit("query.answer", signed_context="x" * 700, tier="free", ids={"run_id": str(uuid4())})
    after = told()

    def more(*sample: str) -> float:
        return after[sample] - before.get(sample, 0)

    buckets = [more("nooble_context_bytes_bucket", most) for most in ("512", "1024", "16384", "+Inf")]
    assert buckets == [0, 1, 1, 1]
    assert (more("nooble_context_bytes_sum"), more("nooble_context_bytes_count")) == (700, 1)


def test_a_context_is_counted_when_it_travels_and_not_if_its_transaction_rolls_back(owner: Persona) -> None:
    def publish() -> None:
        dispatch.publish_on_commit("query.answer", signed_context="x" * 700, tier="free", ids={"run_id": str(uuid4())})

    def contexts() -> int:
        return counters.read("context_bytes").get(("1024",), 0)

    before = contexts()
    with transaction.atomic():
        publish()
        transaction.set_rollback(True)
    assert contexts() == before
    with transaction.atomic():
        publish()
        assert contexts() == before
    assert contexts() == before + 1


def test_without_redis_what_the_database_knows_is_told(owner: Persona, settings: Settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert not any(name.startswith("nooble_context") for name, *_ in told())
    assert ("nooble_attempts", "open") in told()
