"""What every task does first: restore the context that came with the message, and refuse to run without one."""

import logging
from typing import Any

from celery import Task
from structlog.contextvars import bound_contextvars

from apps.core import counters
from apps.core.context import ContextRefusedError, ExecutionContext, restore
from apps.core.dispatch import CONTEXT_HEADER

logger = logging.getLogger(__name__)


class ContextTask(Task[Any, Any]):
    """A task with a context. It returns ids at most: a result row is for looking at, not for building on."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it with its tenant on every line that is logged."""
        ctx = self.ctx
        with bound_contextvars(tenant_id=str(ctx.tenant_id), context_id=str(ctx.context_id)):
            return super().__call__(*args, **kwargs)

    @property
    def ctx(self) -> ExecutionContext:
        """The message's context, verified; raises ContextRefusedError."""
        try:
            return restore(self.request.get(CONTEXT_HEADER))
        except ContextRefusedError as error:
            logger.warning("context refused", extra={"task": self.name, "fault": error.fault})
            counters.count("contexts_refused", (self.name, error.fault))
            raise

    @property
    def task_id(self) -> str:
        return str(self.request.id or "")
