"""What every task does first: restore the context that came with the message, and refuse to run without one."""

from typing import Any

from celery import Task

from apps.core.context import ExecutionContext, restore
from apps.core.dispatch import CONTEXT_HEADER


class ContextTask(Task[Any, Any]):
    """A task with a context. It returns ids at most: a result row is for looking at, not for building on."""

    abstract = True

    @property
    def ctx(self) -> ExecutionContext:
        """The message's context, verified; raises ContextRefusedError."""
        return restore(self.request.get(CONTEXT_HEADER))

    @property
    def task_id(self) -> str:
        return str(self.request.id or "")
