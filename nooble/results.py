"""Where Celery writes what ran."""

import logging
from typing import Any

from django.db import Error, connection
from django_celery_results.backends import DatabaseBackend

logger = logging.getLogger(__name__)


class ResultBackend(DatabaseBackend):  # type: ignore[misc]  # it has no types
    """django-celery-results, for which no result is worth a worker.

    A result is for looking at. Celery gives up a task whose result cannot be written without giving back its place in
    the worker: in a pool of threads, one outage of the database would take as many places as there were tasks running.
    """

    def _store_result(self, task_id: str, result: Any, status: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return super()._store_result(task_id, result, status, *args, **kwargs)
        except Error:
            logger.warning("result not stored", extra={"task_id": task_id, "status": status}, exc_info=True)
            # Broken perhaps; the next task opens another.
            connection.close()
            return result
