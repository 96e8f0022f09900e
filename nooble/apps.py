"""The composition root as a Django application: what has to happen in every process, once Django is up."""

from importlib import import_module
from pkgutil import iter_modules

from django.apps import AppConfig

from nooble import supervision


class NoobleConfig(AppConfig):
    name = "nooble"
    verbose_name = "nooble"

    def ready(self) -> None:
        supervision.follow()
        # Registers the system checks.
        import_module("nooble.checks")
        # Nothing else imports them: the settings are not part of this package, and applications wake tasks by name.
        import_module("nooble.celery")
        for module in iter_modules(import_module("tasks").__path__, "tasks."):
            import_module(module.name)
