"""One run: set up, let work and faults loose on each other, wait for calm, read the books."""

import logging
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from django.core.management import call_command
from django.db import connection

from apps.ledger import sweeping
from nooble.processes import Supervisor
from tests.chaos import books, rounds, strikes, workload
from tests.chaos.books import Books
from tests.chaos.cluster import Cluster, working
from tests.chaos.plan import REFUSED, Plan
from tests.chaos.rounds import Rounds, Sampler
from tests.chaos.strikes import Striker
from tests.chaos.workload import Customer, Workload

logger = logging.getLogger(__name__)

_UNFINISHED = """
    SELECT (SELECT count(*) FROM agents_run WHERE status IN ('queued', 'retrieving', 'generating'))
         + (SELECT count(*) FROM collections_document WHERE status NOT IN ('ready', 'failed')) AS n
"""
_PENDING = "SELECT count(*) AS n FROM ledger_operation WHERE state = 'pending'"
_LIVE = "SELECT count(*) AS n FROM ledger_operation WHERE state = 'pending' AND lease_expires_at > clock_timestamp()"
#: An hour in which nobody drove what is still pending, and a minute in which nobody asked about what is in doubt.
_AN_HOUR_LATER = (
    "UPDATE ledger_operation SET lease_expires_at = lease_expires_at - interval '2 hours' WHERE state = 'pending'",
    "UPDATE ledger_attempt SET asked_at = asked_at - interval '2 hours'",
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    read: Sequence[Books]
    sampler: Sampler
    hits: Counter[str]
    differences: Sequence[str]


def run(plan: Plan, cluster: Cluster, *, seed: int, calm_seconds: float, hard: bool = True) -> Outcome:
    """Everything, from migrations to the books. ``hard``: the till itself keeps to the limits."""
    call_command("migrate", verbosity=0)
    customers = workload.customers(plan, hard=hard)
    sampler = Sampler(cluster=cluster, customers=customers)
    load = Workload(plan=plan, fake=cluster.fake, customers=customers)
    with working(cluster) as workers, Rounds("sweeper", rounds.SWEEP_SECONDS, rounds.sweep):
        _warm_up(cluster, customers, workers)
        with Rounds("sampler", rounds.SAMPLE_SECONDS, sampler.look):
            striker = Striker(plan=plan, cluster=cluster, workers=workers, rng=random.Random(seed))
            _let_loose(load, striker)
            unfinished = _calm(cluster, striker, seconds=calm_seconds)
            if not unfinished:
                _let_an_hour_pass(cluster)
    found = [*load.errors, *unfinished, *sampler.above]
    read = [books.read(cluster, customers, profile) for profile in plan.profiles]
    _let_the_grace_pass(cluster)
    for each in read:
        found += books.differences(each, load)
        found += books.differences_after_grace(each, books.read(cluster, customers, each.profile))
    return Outcome(read=read, sampler=sampler, hits=_hits(striker, load, read, cluster), differences=found)


def _warm_up(cluster: Cluster, customers: Sequence[Customer], workers: Supervisor) -> None:
    """A document for each collection: whoever asks finds something. It is there when the workers work."""
    for customer in customers:
        body = {"name": "first.md", "text": workload.text("first", 2)}
        path = f"/api/v1/collections/{customer.collection}/documents"
        assert workload.client(customer.key).post(path, body, format="json").status_code < 300
    if not _wait(cluster, _UNFINISHED, seconds=60):
        raise RuntimeError("the workers did not begin to work")


def _let_loose(load: Workload, striker: Striker) -> None:
    logger.warning("work begins")
    load.start()
    striker.start()
    try:
        load.join()
        logger.warning("all work is handed in")
        striker.join()
        logger.warning("the storm is over")
    finally:
        strikes.woken(striker)


def _calm(cluster: Cluster, striker: Striker, *, seconds: float) -> list[str]:
    """Wait until all work has ended, and no worker is left that could still settle something; else say so."""
    late = []
    if not _wait(cluster, _UNFINISHED, seconds=seconds):
        striker.cry()
        late.append(f"not all work ended within {seconds:g} seconds; the workers' logs say what they do")
    logger.warning("all work has ended")
    striker.end()
    _wait(cluster, _LIVE, seconds=30)
    return late


def _let_an_hour_pass(cluster: Cluster) -> None:
    with cluster.connect() as auditor:
        for statement in _AN_HOUR_LATER:
            auditor.execute(statement)
    _wait(cluster, _PENDING, seconds=10)
    # Whoever was asked about before its operation had ended is asked about again.
    with cluster.connect() as auditor:
        auditor.execute(_AN_HOUR_LATER[1])
    # The storm has cut this thread's own.
    connection.close()
    rounds.sweep()
    connection.close()


def _let_the_grace_pass(cluster: Cluster) -> None:
    with cluster.connect() as auditor:
        auditor.execute("UPDATE ledger_attempt SET deadline = deadline - interval '90 days' WHERE state = 'unknown'")
    while sweeping.give_up():
        logger.info("given up")
    connection.close()


def _wait(cluster: Cluster, count: str, *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with cluster.connect() as auditor:
                row = auditor.execute(count).fetchone()
                if row is not None and row["n"] == 0:
                    return True
        except psycopg.OperationalError:
            logger.info("the database is being restarted")
        time.sleep(0.2)
    return False


def _hits(striker: Striker, load: Workload, read: Sequence[Books], cluster: Cluster) -> Counter[str]:
    hits = Counter(striker.hits)
    hits["request sent again by a client"] = load.repeated
    hits[REFUSED] = sum(row["error_code"] == "budget_exceeded" for each in read for row in each.rows.values())
    hits.update(f"provider: {arrival['fault']}" for arrival in cluster.fake.arrivals() if "fault" in arrival)
    return hits
