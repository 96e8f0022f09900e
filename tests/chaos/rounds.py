"""What goes on all the time: the sweeper does its rounds, and somebody looks at the budgets."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg
from django.db import DatabaseError, connection

from tasks import maintenance
from tests.chaos.cluster import Auditor, Cluster
from tests.chaos.workload import Customer

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 2.0
SAMPLE_SECONDS = 0.05
_BUDGETS = "SELECT tenant_id, spent_tokens, held_tokens FROM ledger_budget WHERE tenant_id = ANY(%s)"


class Rounds:
    """Something that is done again and again in a thread until it is ended; an outage of the database skips a round."""

    def __init__(self, name: str, seconds: float, work: Callable[[], None]) -> None:
        self._seconds, self._work = seconds, work
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name=name, daemon=True)

    def __enter__(self) -> "Rounds":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._ended.wait(self._seconds):
            try:
                self._work()
            except (DatabaseError, psycopg.OperationalError) as error:
                logger.info("a round was skipped: %r", error)
                connection.close()
                time.sleep(0.2)
        connection.close()


def sweep() -> None:
    """What beat asks a worker for: wake up work, close what is dead, ask about what is in doubt."""
    maintenance.sweep()
    maintenance.resolve()


@dataclass(kw_only=True)
class Sampler:
    """Looks at the budgets that have a limit; ``above`` says each time one is further above it than ever before."""

    cluster: Cluster
    customers: Sequence[Customer]
    samples: int = 0
    fullest: dict[str, int] = field(default_factory=dict)
    above: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._limits = {str(customer.tenant.pk): customer for customer in self.customers if customer.limit}
        self._auditor: Auditor | None = None

    def look(self) -> None:
        if self._auditor is None:
            self._auditor = self.cluster.connect()
        try:
            rows = self._auditor.execute(_BUDGETS, [list(self._limits)]).fetchall()
        except psycopg.OperationalError:
            self._auditor = None
            raise
        self.samples += 1
        for row in rows:
            self._check(self._limits[str(row["tenant_id"])], row["spent_tokens"], row["held_tokens"])

    def _check(self, customer: Customer, spent: int, held: int) -> None:
        assert customer.limit is not None
        profile, before = customer.profile, self.fullest.get(customer.profile, 0)
        self.fullest[profile] = max(before, spent + held)
        if spent + held > max(customer.limit, before):
            self.above.append(f"{profile}: spent {spent} + held {held} is above the limit of {customer.limit}")
