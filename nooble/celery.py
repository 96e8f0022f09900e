"""The Celery application. Its configuration stands in the settings, under ``CELERY_``."""

import os
from typing import Any

from celery import Celery, signals

os.environ["DJANGO_SETTINGS_MODULE"] = os.environ.get("DJANGO_SETTINGS_MODULE") or "settings.prod"

app = Celery("nooble")
app.config_from_object("django.conf:settings", namespace="CELERY")


@signals.setup_logging.connect
def keep_logging(**_: Any) -> None:
    """Leave logging as the settings configured it: Celery does its own only where nothing receives this signal."""


@signals.import_modules.connect
def prepare(**_: Any) -> None:
    """In a worker or beat: refuse an unfit environment, then use the embedded engines, if they are, while it lives.

    At the earliest signal that both send. Beat's own comes when it has read its schedule from the database already.
    """
    from nooble import checks, embedded  # noqa: PLC0415  # importing the application must not need a broker

    checks.require_environment()
    embedded.ensure()
