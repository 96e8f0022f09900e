"""What every task does first: restore the context that came with the message, and refuse to run without one."""

import contextlib
import logging
from typing import Any, ClassVar

from celery import Task
from pydantic import BaseModel, ConfigDict, ValidationError
from structlog.contextvars import bound_contextvars

from apps.core import counters
from apps.core.context import ContextRefusedError, ExecutionContext, restore
from apps.core.dispatch import CONTEXT_HEADER, PayloadRefusedError

logger = logging.getLogger(__name__)


class Payload(BaseModel):
    """What a message says besides its context: ids, each by its name, and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ContextTask(Task[Any, Any]):
    """A task with a context and a typed payload, which is what the message's arguments are made into.

    It returns ids at most: a result row is for looking at, not for building on.
    """

    abstract = True
    #: The arguments are the payload's fields, not the function's: they are checked against those.
    typing = False
    payload: ClassVar[type[Payload]]

    def __call__(self, /, *positional: Any, **named: Any) -> Any:
        """Run it with its tenant on every line that is logged."""
        ctx = self.ctx
        with bound_contextvars(tenant_id=str(ctx.tenant_id), context_id=str(ctx.context_id)):
            return super().__call__(self._accepted(positional, named))

    @property
    def ctx(self) -> ExecutionContext:
        """The message's context, verified; raises ContextRefusedError."""
        try:
            return restore(self.request.get(CONTEXT_HEADER))
        except ContextRefusedError as error:
            self._count_refused(error.fault)
            raise

    @property
    def task_id(self) -> str:
        return str(self.request.id or "")

    def _accepted(self, positional: tuple[Any, ...], named: dict[str, Any]) -> Payload:
        if not positional:
            # Suppressed, not chained: a traceback would repeat what came.
            with contextlib.suppress(ValidationError):
                return self.payload.model_validate(named)
        self._count_refused("payload")
        raise PayloadRefusedError(f"{self.name} takes, by name: {', '.join(self.payload.model_fields)}.")

    def _count_refused(self, fault: str) -> None:
        logger.warning("message refused", extra={"task": self.name, "fault": fault})
        counters.count("messages_refused", (self.name, fault))
