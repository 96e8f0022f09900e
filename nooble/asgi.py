"""The web application for ASGI servers: ``uvicorn nooble.asgi:application``."""

import os

from django.core.asgi import get_asgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = os.environ.get("DJANGO_SETTINGS_MODULE") or "settings.prod"

application = get_asgi_application()

from nooble import checks, embedded  # noqa: E402  # they need the settings, which are there now

checks.require_environment()
embedded.ensure()
