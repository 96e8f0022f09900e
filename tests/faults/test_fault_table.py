"""The faults that nooble is built for, row by row, and the tests that show what is true afterwards.

Rows are named by their number. Where a test elsewhere shows it, the table names that test.
"""

import ast
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from django.conf import settings
from django.db import connections
from django.db.models.functions import Now

from apps.agents.models import Run
from apps.core import clock, delivery, dispatch, maintenance
from apps.core.db import operator_scope, unit_of_work
from apps.core.models import DeadLetter
from apps.gateway import resolution
from apps.ledger import statements, sweeping, till
from apps.ledger.models import Attempt, Operation
from nooble import embedded
from nooble.processes import Supervisor
from settings.variables import ROOT
from tests.chaos.proxy import Proxy
from tests.faults.line import SOCKET, line_to_database
from tests.faults.purchases import Buyers, Purchase, Shop, Way
from tests.faults.scene import RESUMED_WITHIN, Scene, database_time, wait_until
from tests.faults.test_deliveries import publish_again

FAULTS: dict[int, tuple[str, list[str]]] = {
    1: (
        "web process killed after COMMIT, before publishing",
        ["test_row_1_a_web_process_that_dies_before_it_publishes_is_made_up_for_by_the_sweeper"],
    ),
    2: (
        "killed before COMMIT, or the reply to COMMIT is lost",
        [
            "test_row_2_a_request_that_is_repeated_with_its_key_is_the_same_run",
            "tests/api/test_idempotency.py::test_sent_at_the_same_time_it_happens_once",
        ],
    ),
    3: (
        "worker killed between pop and unacked",
        ["test_row_3_a_message_that_a_worker_took_to_its_grave_is_published_again"],
    ),
    4: (
        "killed after hold, before the request leaves",
        [
            "test_row_4_killed_before_the_request_leaves",
            "tests/faults/test_crash_points.py::test_killed_at_any_instant_it_is_paid_once",
        ],
    ),
    5: (
        "killed while the provider works, or before settle",
        [
            "test_row_5_killed_before_settle",
            "tests/faults/test_crash_points.py::test_killed_while_the_provider_works_it_is_paid_once",
            "tests/faults/test_deliveries.py::"
            "test_a_run_whose_worker_is_killed_in_the_middle_of_the_call_gets_its_answer",
        ],
    ),
    6: (
        "killed after settle, before ack",
        ["test_row_6_killed_after_settle_the_next_delivery_neither_calls_nor_writes"],
    ),
    7: (
        "COMMIT of settle sent, connection cut",
        [
            "test_row_7_a_settle_whose_reply_is_lost_is_repeated_and_books_once",
            "tests/faults/test_crash_points.py::test_killed_inside_the_transaction_of_settle_it_is_paid_once",
        ],
    ),
    8: (
        "message delivered ten times at once",
        [
            "tests/ledger/test_till.py::test_of_many_deliveries_at_once_one_makes_the_call",
            "tests/core/test_work.py::test_of_many_deliveries_at_once_one_gets_the_row",
            "tests/faults/test_deliveries.py::test_tasks_that_are_delivered_several_times_at_once_are_done_once",
        ],
    ),
    9: (
        "task longer than the visibility timeout",
        [
            "test_row_9_a_second_copy_of_a_long_task_finds_it_busy",
            "tests/nooble/test_celery.py::test_times_are_in_the_order_that_keeps_a_task_from_running_twice",
        ],
    ),
    10: ("stopped past the lease, then continued", ["test_row_10_the_answer_of_a_worker_that_slept_settles_once"]),
    11: (
        "the child dies on every try",
        [
            "test_row_11_poison_fails_after_its_deliveries_and_what_it_held_is_resolved",
            "tests/core/test_work.py::test_poison_is_given_up_and_buried",
        ],
    ),
    12: (
        "Redis killed, restarted, flushed under load",
        [
            "test_row_12_a_call_on_its_way_settles_and_what_waits_is_done_although_redis_is_flushed",
            "tests/faults/test_deliveries.py::test_a_document_is_ready_although_redis_came_back_with_an_empty_memory",
        ],
    ),
    13: ("PostgreSQL restarted with -m immediate", ["test_row_13_a_call_outlives_a_crash_of_the_database"]),
    14: ("network black hole during settle", ["test_row_14_a_settle_that_falls_into_a_black_hole_books_once"]),
    15: (
        "provider 500, 429, time-out, reset, truncated stream, wrong usage",
        [
            "tests/gateway/test_purchase.py::test_a_hold_is_released_on_proof_only",
            "tests/gateway/test_purchase.py::test_a_time_out_proves_nothing",
            "tests/gateway/test_purchase.py::test_usage_that_cannot_be_is_estimated_and_flagged",
            "tests/gateway/test_streaming.py::test_a_broken_stream_is_tried_again_after_a_reset",
            "tests/conformance/test_failures.py::test_a_failure_becomes_its_documented_error",
        ],
    ),
    16: (
        "many requests at once, budget for some",
        [
            "tests/faults/test_stampede.py::test_of_200_equal_requests_at_once_the_50_that_the_budget_covers_are_made",
            "tests/ledger/test_till.py::test_of_many_holds_at_once_exactly_as_many_pass_as_the_budget_covers",
        ],
    ),
    17: (
        "two beats, no beat, a clock that jumps",
        [
            "test_row_17_no_hold_is_released_by_a_workers_clock",
            "tests/core/test_work.py::test_two_beats_have_one_effect_in_each_period",
            "tests/core/test_work.py::test_of_sweeps_at_once_one_publishes",
            "tests/nooble/test_metrics.py::test_when_beat_last_published_a_task",
        ],
    ),
    18: (
        "tenant A's key with B's header, ids or text",
        [
            "tests/api/test_authentication.py::test_a_header_cannot_claim_what_the_key_does_not_say",
            "tests/api/test_ids.py::test_somebody_elses_is_as_one_that_nobody_has",
            "tests/api/test_ids.py::test_nothing_is_done_to_somebody_elses",
            "tests/api/test_ids.py::test_nothing_comes_of_naming_somebody_elses",
            "tests/architecture/test_row_level_security.py::test_another_tenants_row_cannot_be_seen_changed_or_deleted",
            "tests/collections/test_search_sql.py::test_a_stranger_finds_nothing",
        ],
    ),
}


def test_every_row_is_shown_by_tests_that_exist() -> None:
    assert sorted(FAULTS) == list(range(1, 19))
    for number, (_, shown_by) in FAULTS.items():
        assert shown_by
        for node in shown_by:
            path, _, name = node.rpartition("::")
            assert name in _tests(Path(path) if path else Path(__file__)), f"row {number}: {node}"
            assert path or name.startswith(f"test_row_{number}_")


def _tests(path: Path) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def agent(scene: Scene) -> str:
    """One without collections, so that a question is one operation."""
    llm = {"provider": scene.provider, "model": "fake-chat", "max_tokens": 50}
    return str(scene.post("/agents", {"slug": f"a-{uuid4().hex[:8]}", "name": "A", "llm": llm})["id"])


def chat(scene: Scene) -> dict[str, Any]:
    return {"agent_id": agent(scene), "message": f"What is {uuid4().hex}?"}


def runs(scene: Scene) -> list[Run]:
    with unit_of_work(scene.persona.ctx):
        return list(Run.objects.order_by("id"))


def check_answered_once(scene: Scene) -> None:
    [run] = runs(scene)
    assert (run.status, run.error_detail) == ("succeeded", "")
    assert [entry.operation for entry in scene.entries()] == ["chat"]
    scene.check_books()


def post_and_die(scene: Scene, buyers: Buyers, body: dict[str, Any], instant: str, key: str) -> None:
    """Send the request to a web process that does not survive that instant."""
    headers = {"Authorization": f"Bearer {scene.persona.key}", "Idempotency-Key": key}
    order = {"work": "post", "path": "/api/v1/chat", "body": body, "headers": headers, "kill": [instant, 0]}
    assert buyers.carry_out({**order, "ctx": scene.persona.ctx.sign()})["status"] == -signal.SIGKILL


def test_row_1_a_web_process_that_dies_before_it_publishes_is_made_up_for_by_the_sweeper(
    scene: Scene, buyers: Buyers
) -> None:
    post_and_die(scene, buyers, chat(scene), "before publish", "key")
    [run] = runs(scene)
    assert (run.status, run.publications) == ("queued", 1)
    scene.wait_for_run(run.pk)
    assert runs(scene)[0].publications == 2
    check_answered_once(scene)


@pytest.mark.parametrize("instant", ["after COMMIT of the request", "before publish"])
def test_row_2_a_request_that_is_repeated_with_its_key_is_the_same_run(
    scene: Scene, buyers: Buyers, instant: str
) -> None:
    body = chat(scene)
    post_and_die(scene, buyers, body, instant, "key")
    before = runs(scene)
    assert len(before) == (0 if instant == "after COMMIT of the request" else 1)
    response = scene.persona.api.post("/api/v1/chat", body, format="json", headers={"Idempotency-Key": "key"})
    assert response.status_code < 300, response.json()
    assert [str(run.pk) for run in runs(scene)] == [response.json()["run_id"]]
    scene.wait_for_run(UUID(response.json()["run_id"]))
    check_answered_once(scene)


def test_row_3_a_message_that_a_worker_took_to_its_grave_is_published_again(scene: Scene, worker: Supervisor) -> None:
    body = chat(scene)
    # It waits for a message, gets it and does not get to writing that down.
    process = worker.process_ids()["worker"]
    os.kill(process, signal.SIGSTOP)
    run_id = UUID(scene.post("/chat", body)["run_id"])
    os.kill(process, signal.SIGKILL)
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.flushall()
    run = scene.wait_for_run(run_id)
    assert (run.deliveries, run.publications) == (1, 2)
    assert run.published_at - run.created_at < RESUMED_WITHIN
    check_answered_once(scene)


@contextmanager
def stopped(worker: Supervisor) -> Iterator[None]:
    process = worker.process_ids()["worker"]
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def killed_at(shop: Shop, instant: str) -> Purchase:
    purchase = shop.purchase(Way(work="complete"))
    assert purchase.drive((instant, 0))["status"] == -signal.SIGKILL
    return purchase


@pytest.mark.parametrize("swept", [False, True])
def test_row_4_killed_before_the_request_leaves(shop: Shop, swept: bool) -> None:
    purchase = killed_at(shop, "before send")
    assert (purchase.states(), purchase.arrivals()) == (["open"], [])
    ended = purchase.finish(swept=swept)
    assert purchase.states() == (["void", "settled"] if shop.provider == "askable" else ["unknown", "settled"])
    purchase.check()
    purchase.check_replay(ended)


@pytest.mark.parametrize("swept", [False, True])
def test_row_5_killed_before_settle(shop: Shop, swept: bool) -> None:
    purchase = killed_at(shop, "before settle")
    assert (purchase.states(), len(purchase.arrivals())) == (["open"], 1)
    purchase.finish(swept=swept)
    assert purchase.states() == (["settled"] if shop.provider == "askable" else ["unknown", "settled"])
    assert len(purchase.arrivals()) == len(purchase.states())
    purchase.check()


def test_row_6_killed_after_settle_the_next_delivery_neither_calls_nor_writes(shop: Shop) -> None:
    purchase = killed_at(shop, "after settle")
    purchase.check()
    ended = purchase.drive()
    assert ended["bought"]
    assert [name for name, _ in ended["instants"]] == ["before hold", "after hold"]
    assert len(purchase.arrivals()) == 1
    purchase.check()


@pytest.mark.parametrize("work", ["complete", "embed"])
def test_row_7_a_settle_whose_reply_is_lost_is_repeated_and_books_once(
    shop: Shop, work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For vectors the reply to COMMIT is lost; an answer is settled by one statement, whose reply it is."""
    purchase = shop.purchase(Way(work=work))
    settle, losses = till.settle, iter([True])

    def cut_off(*args: Any, **kwargs: Any) -> Any:
        lost = next(losses, False)
        if work == "complete":
            line.loses_next_reply = lost
        settled = settle(*args, **kwargs)
        if work == "embed":
            line.loses_next_reply = lost
        return settled

    with line_to_database() as line:
        monkeypatch.setattr(till, "settle", cut_off)
        purchase.buy_here()
    assert next(losses, None) is None
    assert purchase.states() == ["settled"]
    purchase.check()


def test_row_9_a_second_copy_of_a_long_task_finds_it_busy(scene: Scene) -> None:
    """The call lasts longer than a lease; what is delivered meanwhile, before and after that, is turned away."""
    body = chat(scene)
    scene.fake.fail("hold", match={"contains": body["message"]})
    run_id = UUID(scene.post("/chat", body)["run_id"])
    wait_until(lambda: bool(scene.fake.running()), seconds=60)
    first_lease = scene.run(run_id).lease_expires_at
    assert first_lease is not None
    publish_again(scene, scene.run(run_id), 2)
    wait_until(lambda: database_time() > first_lease, seconds=60)
    publish_again(scene, scene.run(run_id), 2)
    with unit_of_work(scene.persona.ctx):
        [operation] = Operation.objects.all()
    assert operation.lease_epoch == 1
    scene.fake.release()
    run = scene.wait_for_run(run_id)
    assert run.deliveries == 1
    assert [attempt.state for attempt in scene.attempts()] == ["settled"]
    check_answered_once(scene)


def test_row_10_the_answer_of_a_worker_that_slept_settles_once(shop: Shop) -> None:
    purchase = shop.purchase(Way(work="complete", fault="hold"))
    process = shop.buyers.begin(purchase.order())
    request_id = purchase.await_call()
    os.kill(process, signal.SIGSTOP)
    shop.fake.release()
    purchase.await_count(request_id)
    with Buyers() as other:
        purchase.outlive()
        ended = other.carry_out(purchase.order())
        os.kill(process, signal.SIGCONT)
        woken = shop.buyers.end()
    assert woken["status"] == 0
    assert woken["bought"] == ended["bought"]
    # Asked, the provider gives the answer that sleeps; else another is bought, and what comes late is billed to nobody.
    assert purchase.states() == (["settled"] if shop.provider == "askable" else ["lost", "settled"])
    purchase.check()


def test_row_11_poison_fails_after_its_deliveries_and_what_it_held_is_resolved(
    scene: Scene, buyers: Buyers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is delivered to processes that die; the worker hears of other work only."""
    with monkeypatch.context() as unheard:
        unheard.setattr(dispatch, "_publish", lambda *_: None)
        run_id = UUID(scene.post("/chat", chat(scene))["run_id"])
    for _ in range(delivery.MAX_DELIVERIES):
        told = deliver(scene, buyers, run_id, kill=["before send", 0])
        assert told["status"] == -signal.SIGKILL
        expire(scene)
    other = scene.ask(agent(scene), "Does other work go on?")
    assert deliver(scene, buyers, run_id)["status"] == 0
    run = scene.run(run_id)
    assert (run.status, run.error_code) == ("failed", "work_failed")
    with unit_of_work(scene.persona.ctx):
        assert DeadLetter.objects.filter(row_id=run_id).count() == 1
        assert set(Operation.objects.filter(run_id=run_id).values_list("state", flat=True)) == {"failed"}
    resolution.resolve_unknown()
    with operator_scope("test"):
        doubtful = Attempt.objects.filter(state="unknown", tenant_id=scene.persona.tenant.pk)
        doubtful.update(deadline=Now() - timedelta(days=2))
    while sweeping.give_up():
        pass
    assert scene.wait_for_run(other).status == "succeeded"
    with unit_of_work(scene.persona.ctx):
        states = set(Attempt.objects.filter(operation__run_id=run_id).values_list("state", flat=True))
    assert states == ({"void"} if scene.provider == "askable" else {"lost"})
    assert statements.statement(scene.persona.ctx, clock.today("UTC").replace(day=1)).held_tokens == 0
    scene.check_books()


def deliver(
    scene: Scene, buyers: Buyers, run_id: UUID, *, kill: list[Any] | None = None, **order: str
) -> dict[str, Any]:
    ctx = scene.run(run_id).signed_context
    return buyers.carry_out({"work": "answer", "run": str(run_id), "kill": kill, "ctx": ctx, **order})


def expire(scene: Scene) -> None:
    """The leases of the process that died run out."""
    past = {"lease_expires_at": Now() - timedelta(seconds=1)}
    with unit_of_work(scene.persona.ctx):
        Run.objects.filter(status__in=Run.unfinished).update(**past)
        Operation.objects.filter(state="pending").update(**past)


def test_row_12_a_call_on_its_way_settles_and_what_waits_is_done_although_redis_is_flushed(
    scene: Scene, worker: Supervisor
) -> None:
    first = chat(scene)
    scene.fake.fail("hold", match={"contains": first["message"]})
    on_its_way = UUID(scene.post("/chat", first)["run_id"])
    wait_until(lambda: bool(scene.fake.running()), seconds=60)
    with stopped(worker):
        waiting = [UUID(scene.post("/chat", chat(scene))["run_id"]) for _ in range(3)]
        with redis.Redis.from_url(settings.REDIS_URL) as client:
            client.flushall()
    scene.fake.release()
    assert {scene.wait_for_run(run_id).status for run_id in (on_its_way, *waiting)} == {"succeeded"}
    assert scene.run(on_its_way).deliveries == 1
    assert len(scene.entries()) == 4
    scene.check_books()


def test_row_13_a_call_outlives_a_crash_of_the_database(scene: Scene) -> None:
    body = chat(scene)
    scene.fake.fail("hold", match={"contains": body["message"]})
    run_id = UUID(scene.post("/chat", body)["run_id"])
    wait_until(lambda: bool(scene.fake.running()), seconds=60)
    connections.close_all()
    postmaster = settings.NOOBLE_DATA_DIR / "postgres" / "postmaster.pid"
    # What `pg_ctl stop -m immediate` sends.
    os.kill(int(postmaster.read_text().splitlines()[0]), signal.SIGQUIT)
    try:
        scene.fake.release()
    finally:
        embedded.ensure()
    scene.wait_for_run(run_id)
    check_answered_once(scene)


def test_row_14_a_settle_that_falls_into_a_black_hole_books_once(shop: Shop) -> None:
    """Nothing comes back from the database and nothing breaks. The lease runs out, somebody else drives the work."""
    purchase = shop.purchase(Way(work="complete", fault="hold"))
    with behind_a_proxy() as (proxy, buyers):
        buyers.begin(purchase.order())
        request_id = purchase.await_call()
        proxy.hole()
        shop.fake.release()
        purchase.await_count(request_id)
        wait_until(lambda: proxy.hits["pieces kept back"] > 0, seconds=60)
        assert purchase.states() == ["open"]
        ended = purchase.finish()
        # The network is back, as one that has forgotten its connections.
        proxy.reset()
        proxy.pass_on()
        woken = buyers.end()
    assert woken["bought"] == ended["bought"]
    assert purchase.states() == (["settled"] if shop.provider == "askable" else ["lost", "settled"])
    purchase.check()


@contextmanager
def behind_a_proxy() -> Iterator[tuple[Proxy, Buyers]]:
    """Buyers whose way to the database can swallow what is sent."""
    database = connections["default"].settings_dict
    proxy = Proxy(Path(database["HOST"]) / SOCKET)
    url = f"postgresql://{database['USER']}@127.0.0.1:{proxy.port}/{database['NAME']}"
    buyers = Buyers(DATABASE_URL=f"{url}?sslmode=disable&gssencmode=disable")
    try:
        yield proxy, buyers
    finally:
        proxy.pass_on()
        buyers.close()
        proxy.close()


def test_row_17_no_hold_is_released_by_a_workers_clock(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose clock is a day fast: what it gives up and takes over goes by the database's time."""
    purchase = shop.purchase(Way(work="complete", fault="hold"))
    shop.buyers.begin(purchase.order())
    purchase.await_call()
    now = clock.now
    for jump in (timedelta(days=2), -timedelta(days=2)):
        monkeypatch.setattr(clock, "now", lambda jump=jump: now() + jump)
        sweeping.close_abandoned()
        sweeping.give_up()
        maintenance.republish([Run])
        [attempt] = purchase.attempts().values()
        assert (attempt.state, attempt.held_tokens) == ("open", attempt.hold_tokens)
    monkeypatch.undo()
    shop.fake.release()
    assert shop.buyers.end()["bought"]
    assert purchase.states() == ["settled"]
    purchase.check()
