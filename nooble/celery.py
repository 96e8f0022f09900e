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


@signals.celeryd_init.connect
@signals.beat_init.connect
def ensure_engines(**_: Any) -> None:
    """Use the embedded engines, if they are, for as long as this worker or beat lives."""
    from nooble import embedded  # noqa: PLC0415  # importing the application must not need a broker

    embedded.ensure()
