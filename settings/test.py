"""The tests: engines of their own, no provider keys, nothing slow that a test does not need."""

import os

from nooble import logs
from settings.variables import ROOT

# Each test session has its own engines, so that one that kills them disturbs nobody. A session's workers inherit it.
os.environ.setdefault("NOOBLE_DATA_DIR", str(ROOT / ".nooble" / "tests" / str(os.getpid())))
# The tests share providers that fail on demand: what one makes of them is not to keep the next one from calling.
os.environ.setdefault("PROVIDER_CIRCUIT_FAILURES", "1000000")

from settings.dev import *  # noqa: F403
from settings.dev import DATABASES, ENV, NOOBLE_PROVIDERS

DEBUG = False
WHITENOISE_AUTOREFRESH = True  # as in development: there is no collected folder to warn about
ALLOWED_HOSTS = ["*"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# The owner creates the test database; the application's alias then follows it there, as its own role.
DATABASES["default"]["TEST"] = {"MIRROR": "owner"}
for _provider in NOOBLE_PROVIDERS.values():
    _provider.clear()
LOGGING = logs.configuration(level="WARNING", form=ENV["LOG_FORMAT"] or "console")
# A provider on the loopback, see tests.fakes: one that cannot be asked what became of a request, and one that can.
_FAKE = {"api_key": "test-key", "base_url": f"{os.environ.get('FAKE_PROVIDER_URL', '')}/v1"}
NOOBLE_PROVIDERS["fake"] = {**_FAKE, "adapter": "apps.providers.adapters.openai.OpenAIProvider"}
NOOBLE_PROVIDERS["askable"] = {**_FAKE, "adapter": "tests.fakes.adapter.AskableProvider"}
