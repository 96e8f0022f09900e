"""Who strikes: processes are killed and stopped, the broker and the database are cut off, emptied, restarted."""

import logging
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import psycopg
import redis
from django.db import DatabaseError, connection

from apps.agents.models import Run
from apps.collections.models import Document, EmbeddingBatch
from apps.core.db import operator_scope, unit_of_work
from apps.core.work import WorkItem
from nooble.processes import Supervisor
from tests.chaos.cluster import Cluster, children
from tests.chaos.plan import STOP_SECONDS, STRIKES, Event, Plan
from tests.chaos.providers import PROCESS_HEADER

logger = logging.getLogger(__name__)

BETWEEN = STRIKES["kill"]
STOPPED = STRIKES["stop"]
CHILD_KILLED, WORKER_KILLED = "child killed", "worker killed"
_OPEN = "SELECT count(*) AS n FROM ledger_attempt WHERE state = 'open' AND id = ANY(%s)"
_TAKEN = """
    SELECT count(*) AS n FROM ledger_attempt a JOIN ledger_operation o ON o.id = a.operation_id
     WHERE a.id = ANY(%s) AND (a.state <> 'open' OR o.lease_epoch > a.epoch OR o.lease_expires_at < clock_timestamp())
"""


@dataclass(kw_only=True)
class Striker:
    """Carries out a plan's strikes and events; ``hits`` counts what really happened."""

    plan: Plan
    cluster: Cluster
    workers: Supervisor
    rng: random.Random
    hits: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._struck: set[str] = set()
        self._stopped: set[int] = set()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self._began = time.monotonic()
        self._run(self._watch)
        self._run(self._follow)

    def join(self) -> None:
        """Return when the last event is over; requests are watched until :meth:`end`."""
        # Not the one that watches; with those that begin meanwhile.
        for thread in islice(self._threads, 1, None):
            thread.join()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def cry(self) -> None:
        """Let the workers write down what each of their threads is at: Celery does on this signal."""
        _signal(list(self.workers.process_ids().values()), signal.SIGUSR1)
        time.sleep(1)

    def _run(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=_excused, args=[work, *arguments], daemon=True)
        self._threads.append(thread)
        thread.start()

    def _watch(self) -> None:
        """Strike the processes whose requests are marked to be struck, when the provider has them."""
        while not self._ended.wait(0.05):
            for request in self.cluster.fake.running():
                label, request_id = request.get("label", ""), request["request_id"]
                if label and request_id not in self._struck:
                    self._struck.add(request_id)
                    # Somewhere in the call.
                    self._run(self._strike, label, int(request["headers"][PROCESS_HEADER.lower()]))

    def _strike(self, how: str, process_id: int) -> None:
        time.sleep(self.rng.uniform(0, 1.2))
        if how == "stop":
            self._stop(process_id)
        elif how == "kill worker":
            self._kill(os.getpgid(process_id))
        elif os.getpgid(process_id) != process_id or self._may_kill_whole():
            self._kill(process_id)

    def _may_kill_whole(self) -> bool:
        """A worker without forks is killed as a whole and takes seconds to come back: not each time it is struck."""
        return self.hits[WORKER_KILLED] < self.plan.form.whole_workers

    def _kill(self, process_id: int) -> None:
        """SIGKILL; it is stopped before, so that what it was doing can be seen."""
        alone = os.getpgid(process_id) != process_id
        members = [process_id] if alone else [process_id, *children(process_id)]
        os.kill(process_id, signal.SIGSTOP)
        _signal(members, signal.SIGSTOP)
        calls = self._calls_of(members)
        _signal(members, signal.SIGKILL)
        self.hits[CHILD_KILLED if alone else WORKER_KILLED] += 1
        if calls and self._count(_OPEN, calls):
            self.hits[BETWEEN] += 1

    def _stop(self, process_id: int) -> None:
        """Put a process to sleep for longer than its lease lasts."""
        if process_id in self._stopped:
            return
        self._stopped.add(process_id)
        os.kill(process_id, signal.SIGSTOP)
        try:
            calls = self._calls_of([process_id])
            time.sleep(STOP_SECONDS)
            overtaken = self._count(_TAKEN, calls)
        finally:
            self._stopped.discard(process_id)
            os.kill(process_id, signal.SIGCONT)
        self.hits[STOPPED] += bool(overtaken)

    def _calls_of(self, process_ids: Sequence[int]) -> list[str]:
        """The requests of these processes that the provider is at work on."""
        mine = {str(process_id) for process_id in process_ids}
        running = self.cluster.fake.running()
        return [request["request_id"] for request in running if request["headers"][PROCESS_HEADER.lower()] in mine]

    def _count(self, statement: str, calls: Sequence[str]) -> int:
        deadline = time.monotonic() + 10
        while True:
            try:
                with self.cluster.connect() as auditor:
                    row = auditor.execute(statement, [list(calls)]).fetchone()
                    assert row is not None
                    return int(row["n"])
            except psycopg.OperationalError:
                # It may be recovering from another strike.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _follow(self) -> None:
        """The events of the plan, each when its time has come; those that last go on beside the next."""
        for event in self.plan.events:
            time.sleep(max(0.0, self._began + event.at - time.monotonic()))
            logger.warning("%s (%.1f s)", event.kind, event.seconds)
            _excused(_EVENTS[event.kind], self, event)

    def _kill_child(self, event: Event) -> None:
        self._kill(self.rng.choice(_until_any(lambda: children(self.workers.process_ids().get("forks", 0)))))

    def _kill_worker(self, event: Event) -> None:
        self._kill(self.rng.choice(_until_any(lambda: list(self.workers.process_ids().values()))))

    def _double(self, event: Event) -> None:
        # Beside the next event: a broker that does not answer holds it up.
        self._run(self._publish_again, event)

    def _publish_again(self, event: Event) -> None:
        """Publish three more messages for a piece of work that waits or is being done, as soon as there is one."""
        for _ in range(200):
            try:
                with operator_scope("chaos"):
                    models = (Run, Document, EmbeddingBatch)
                    rows = [model._default_manager.filter(status__in=model.unfinished) for model in models]
                    items: list[WorkItem] = [item for found in rows for item in found]
                if items:
                    item = self.rng.choice(items)
                    with unit_of_work(item.context):
                        for _ in range(3):
                            item.publish()
                    self.hits[event.kind] += 1
                    break
            except DatabaseError:
                logger.info("the database is away")
            connection.close()
            time.sleep(0.1)
        connection.close()

    def _flush(self, event: Event) -> None:
        """Empty Redis; counted when it held a message, waited for until it does."""
        with redis.Redis.from_url(self.cluster.redis_url) as client:
            for _ in range(200):
                if client.hlen("nooble:unacked"):
                    break
                time.sleep(0.02)
            with client.pipeline(transaction=True) as pipeline:
                pipeline.hlen("nooble:unacked")
                pipeline.flushall()
                unacked, _ = pipeline.execute()
        self.hits[event.kind] += bool(unacked)

    def _hole(self, event: Event) -> None:
        proxy = self.cluster.redis_proxy if event.kind.startswith("broker") else self.cluster.database_proxy

        def last() -> None:
            before = proxy.hits["pieces kept back"]
            proxy.hole()
            time.sleep(event.seconds)
            proxy.pass_on()
            self.hits[event.kind] += proxy.hits["pieces kept back"] > before

        self._run(last)

    def _cut(self, event: Event) -> None:
        """Cut the connections that there are, once there are any: another strike may have left none."""
        proxy = self.cluster.redis_proxy if event.kind.startswith("broker") else self.cluster.database_proxy
        deadline = time.monotonic() + 10
        while not (cut := proxy.reset()) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.hits[event.kind] += bool(cut)

    def _restart(self, event: Event) -> None:
        self.cluster.restart_database()
        self.hits[event.kind] += 1


_EVENTS: dict[str, Callable[[Striker, Event], None]] = {
    CHILD_KILLED: Striker._kill_child,
    WORKER_KILLED: Striker._kill_worker,
    "message delivered twice": Striker._double,
    "broker flushed": Striker._flush,
    "broker in a black hole": Striker._hole,
    "broker's connections cut": Striker._cut,
    "database restarted": Striker._restart,
    "database in a black hole": Striker._hole,
    "database's connections cut": Striker._cut,
}


def _excused(work: Callable[..., None], *arguments: Any) -> None:
    """Do it, unless another strike has taken away what it needs: it does not count as a hit then."""
    try:
        work(*arguments)
    except (ProcessLookupError, DatabaseError, psycopg.OperationalError, redis.RedisError) as error:
        logger.warning("%s did not come off: %r", work.__name__, error)
        connection.close()


def _until_any(find: Callable[[], list[int]]) -> list[int]:
    """The processes that there are, once there are any: another strike may have left none."""
    deadline = time.monotonic() + 30
    while not (found := find()):
        if time.monotonic() > deadline:
            raise ProcessLookupError
        time.sleep(0.1)
    return found


def _signal(process_ids: Sequence[int], number: signal.Signals) -> None:
    """To those that are still there."""
    for process_id in process_ids:
        with suppress(ProcessLookupError):
            os.kill(process_id, number)


def woken(striker: Striker) -> None:
    """Let every stopped process go on, however a run ended."""
    _signal(list(striker._stopped), signal.SIGCONT)
