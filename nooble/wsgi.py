"""The web application for WSGI servers, where nothing is streamed."""

import os

from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = os.environ.get("DJANGO_SETTINGS_MODULE") or "settings.prod"

application = get_wsgi_application()

from nooble import checks, embedded  # noqa: E402  # they need the settings, which are there now

checks.require_environment()
embedded.ensure()
