"""Leases: a row that a live process works on is nobody else's; one whose process died is soon somebody's again.

A lease has an epoch. Whoever claims the row raises it; whoever finishes the row does so by a conditional UPDATE on the
epoch it claimed under, so a process that slept past its lease finds that it has lost. All times are the database's.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import DatabaseError, connection, models
from django.db.models.functions import Now

from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=15)
#: A third of a lease: two heartbeats may be lost before the lease is.
HEARTBEAT_SECONDS = 5.0


class Leased(models.Model):
    """A row with a lease. ``lease_expires_at`` null: nobody holds it."""

    lease_epoch = models.PositiveIntegerField(default=0)
    lease_expires_at = models.DateTimeField(null=True)

    class Meta:
        abstract = True


@dataclass(eq=False)
class Lease:
    """A claim on one row. ``lost`` is set when somebody else has taken it over, even if it is then taken back."""

    ctx: ExecutionContext
    model: type[Leased]
    row_id: UUID
    #: Whoever takes the row back puts the epoch of that claim here: the next heartbeat renews it.
    epoch: int
    lost: threading.Event = field(default_factory=threading.Event)

    def renew(self) -> None:
        """Push the expiry out; no row under our epoch any more means the lease is lost."""
        with unit_of_work(self.ctx):
            rows: models.QuerySet[Any] = self.model._default_manager.filter(pk=self.row_id, lease_epoch=self.epoch)
            if not rows.update(lease_expires_at=Now() + LEASE):
                self.lost.set()


class _Heart(threading.Thread):
    """One thread of this process that renews all leases it holds."""

    def __init__(self) -> None:
        super().__init__(name="lease-heartbeat", daemon=True)
        self._held: set[Lease] = set()
        self._lock = threading.Lock()

    def add(self, lease: Lease) -> None:
        with self._lock:
            self._held.add(lease)

    def discard(self, lease: Lease) -> None:
        with self._lock:
            self._held.discard(lease)

    def run(self) -> None:
        pause = threading.Event()
        while not pause.wait(HEARTBEAT_SECONDS):
            with self._lock:
                leases = list(self._held)
            for lease in leases:
                self._beat(lease)
            # It is used for milliseconds every few seconds: somebody else can have it meanwhile.
            connection.close()

    def _beat(self, lease: Lease) -> None:
        try:
            lease.renew()
        except DatabaseError:
            # The next beat tries again; if the database stays away, the lease expires, which is what it is for.
            logger.warning("lease not renewed", extra={"row": str(lease.row_id)}, exc_info=True)


_heart: _Heart | None = None
_heart_lock = threading.Lock()


def _beating() -> _Heart:
    # Started on first use, so that a prefork child gets a thread of its own: threads do not survive a fork.
    global _heart  # noqa: PLW0603
    with _heart_lock:
        if _heart is None or not _heart.is_alive():
            _heart = _Heart()
            _heart.start()
        return _heart


@contextmanager
def kept(ctx: ExecutionContext, model: type[Leased], row_id: UUID, epoch: int) -> Iterator[Lease]:
    """Keep a lease that was just claimed alive for as long as the block runs. It does not release it."""
    lease = Lease(ctx=ctx, model=model, row_id=row_id, epoch=epoch)
    heart = _beating()
    heart.add(lease)
    try:
        yield lease
    finally:
        heart.discard(lease)
