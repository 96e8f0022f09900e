"""A developer's machine, and the demonstration: nothing has to be set, embedded engines are started."""

from settings.base import *  # noqa: F403

DEBUG = True
# Static files straight from the packages, without collectstatic.
WHITENOISE_USE_FINDERS = True
