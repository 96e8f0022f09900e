"""Production. The environment must say where everything is; connections are encrypted to the outside."""

from nooble import logs
from settings.base import *  # noqa: F403
from settings.base import ENV, STORAGES

DEBUG = False

# TLS ends at a proxy in front; uvicorn believes the X-Forwarded-Proto of those that FORWARDED_ALLOW_IPS names.
SECURE_SSL_REDIRECT = True
SECURE_REDIRECT_EXEMPT = [r"^health(/ready)?$", r"^metrics$"]  # asked for from inside, without TLS
SECURE_HSTS_SECONDS = 365 * 24 * 3600
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True

STORAGES["staticfiles"] = {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"}

LOGGING = logs.configuration(level=ENV["LOG_LEVEL"], form=ENV["LOG_FORMAT"] or "json")
