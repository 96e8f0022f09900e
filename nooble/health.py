"""Whether this process lives, and whether what it needs is there."""

import logging
from collections.abc import Callable

from celery import current_app
from django.core.cache import cache
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse

from apps.ledger import spool
from apps.ledger.errors import SpoolUnavailableError

logger = logging.getLogger(__name__)

VERSION = "0.1.0"


def alive(_: HttpRequest) -> JsonResponse:
    """The process answers. Nothing else is asked, so that a database that is away kills no web process."""
    return JsonResponse({"status": "ok", "version": VERSION})


def ready(_: HttpRequest) -> JsonResponse:
    """Everything this process needs is there: 200, else 503 with what is not.

    ``spool`` is for whoever watches: usage that waits on this host until it is booked makes no process unfit.
    """
    results = {name: _works(check) for name, check in _CHECKS.items()}
    healthy = all(result == "ok" for result in results.values())
    body = {"status": "ok" if healthy else "unavailable", **results, "spool": _spool()}
    return JsonResponse(body, status=200 if healthy else 503)


def _works(check: Callable[[], None]) -> str:
    try:
        check()
    except Exception:
        # Whatever it is, it is not ready; why stands in the log, not in an answer that anybody may ask for.
        logger.warning("not ready", exc_info=True)
        return "unavailable"
    return "ok"


def _spool() -> dict[str, int] | str:
    try:
        return {"waiting": spool.waiting(), "refused": spool.refused()}
    except SpoolUnavailableError:
        logger.warning("spool cannot be read", exc_info=True)
        return "unavailable"


def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _migrations() -> None:
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise RuntimeError("there are migrations to apply: run `manage.py migrate`")


def _redis() -> None:
    cache.get("health")


def _queues() -> None:
    with current_app.connection_for_write() as broker:
        broker.ensure_connection(max_retries=1, timeout=2)


_CHECKS: dict[str, Callable[[], None]] = {
    "database": _database,
    "migrations": _migrations,
    "redis": _redis,
    "queues": _queues,
}
