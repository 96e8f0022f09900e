"""What runs periodically, unless the admin says otherwise."""

from collections.abc import Mapping
from typing import Any

from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler

from nooble import queues


def _every(seconds: int, task: str) -> dict[str, Any]:
    """One entry, in Celery's form. A run that nobody took is worthless when the next one is published."""
    options = {"queue": queues.MAINTENANCE, "expire_seconds": seconds - 1}
    return {"task": task, "schedule": seconds, "options": options}


SCHEDULE = {
    # Leases last 15 s: work whose worker died is driven again within 30 s.
    "sweep": _every(5, "maintenance.sweep"),
    "resolve": _every(10, "maintenance.resolve"),
    "purge": _every(3600, "maintenance.purge"),
    "reconcile recent": _every(3600, "reconciliation.recent"),
    "reconcile everything": _every(24 * 3600, "reconciliation.everything"),
}


class Scheduler(DatabaseScheduler):  # type: ignore[misc]  # it has no types
    """The schedule in the database. Defaults are written once, so that a change in the admin outlives a restart."""

    def setup_schedule(self) -> None:
        self.install_default_entries(self.schedule)
        self.update_from_dict(SCHEDULE)

    def update_from_dict(self, mapping: Mapping[str, Any]) -> None:
        known = set(PeriodicTask.objects.filter(name__in=mapping).values_list("name", flat=True))
        super().update_from_dict({name: entry for name, entry in mapping.items() if name not in known})
