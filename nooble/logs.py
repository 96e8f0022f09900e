"""Logs: the standard library's loggers, rendered by structlog, one line for people or one JSON object for machines.

Whatever is bound with ``structlog.contextvars.bind_contextvars`` (request id, tenant id, task) stands on every line
that is logged while it is bound, and so does what a call gives as ``extra``.
"""

import logging
from collections.abc import Callable
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor

from nooble import queues

Form = Literal["console", "json"]

#: They bring handlers of their own, which would print every line twice.
_OTHERS = ("django", "django.server", "uvicorn", "uvicorn.error", "uvicorn.access", "celery")
#: They say that a task was sent or has arrived; that it succeeded or failed is said again.
_TALKATIVE = ("celery.beat", "celery.worker.strategy")
#: What libraries add to a record and say in its message anyway.
_REPETITIONS = ("request", "color_message", "data")


def configuration(*, level: str, form: Form) -> dict[str, Any]:
    """Django's LOGGING."""
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": _what_every_line_has(form),
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendered(form)],
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"eventful": {"()": _eventful}},
        "formatters": {"structured": formatter},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured", "filters": ["eventful"]}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            **{name: {"handlers": [], "level": "NOTSET", "propagate": True} for name in _OTHERS},
            **{name: {"level": "WARNING"} for name in _TALKATIVE},
        },
    }


def _eventful() -> Callable[[logging.LogRecord], bool]:
    """Keeps out that a periodic task succeeded, every few seconds."""

    def keep(record: logging.LogRecord) -> bool:
        if record.name != "celery.app.trace" or record.levelno > logging.INFO:
            return True
        data: dict[str, Any] = getattr(record, "data", {})
        return not str(data.get("name")).startswith(f"{queues.MAINTENANCE}.")

    return keep


def _what_every_line_has(form: Form) -> list[Processor]:
    clock = (
        structlog.processors.TimeStamper(fmt="iso")
        if form == "json"
        else structlog.processors.TimeStamper("%X", utc=False)
    )
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _without_repetitions,
        clock,
    ]


def _without_repetitions(_: Any, __: str, event: EventDict) -> EventDict:
    for name in _REPETITIONS:
        event.pop(name, None)
    return event


def _rendered(form: Form) -> list[Processor]:
    # Both by name: structlog's defaults print the local variables of every frame, and with them keys and questions.
    if form == "json":
        as_data = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        return [structlog.processors.ExceptionRenderer(as_data), structlog.processors.JSONRenderer()]
    return [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
