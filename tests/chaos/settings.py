"""The tests' settings for the harness and its workers: each call tells the fake provider which process makes it."""

from settings.test import *  # noqa: F403
from settings.test import NOOBLE_PROVIDERS

NOOBLE_PROVIDERS["fake"]["adapter"] = "tests.chaos.providers.SilentProvider"
NOOBLE_PROVIDERS["askable"]["adapter"] = "tests.chaos.providers.AskableProvider"
#: A broker that is away holds a request of the harness up no longer than one of a client's would be.
CELERY_BROKER_CONNECTION_TIMEOUT = 4
