"""Run all of nooble in the foreground."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from apps.tenants import services as tenants
from nooble import programs
from nooble.outputs import ConsoleOutput
from nooble.processes import ProcessError, termination_as_interrupt


class Command(BaseCommand):
    help = "Runs everything on this machine: PostgreSQL and Redis unless they have a URL, web, workers and beat."

    def handle(self, *_: Any, **__: Any) -> None:
        try:
            with termination_as_interrupt():
                self._run()
        except KeyboardInterrupt:
            self.stdout.write("nooble has stopped.")
        except ProcessError as error:
            raise CommandError(str(error)) from error

    def _run(self) -> None:
        host, port = settings.WEB_HOST, settings.WEB_PORT
        with programs.running(ConsoleOutput(), host=host, port=port) as supervisor:
            supervisor.wait_until_ready()
            self._announce(f"http://{host}:{port}")
            if settings.DEBUG:
                self._hand_out_key()
            # Into a pipe nothing is written until there is much of it: whoever reads it should not wait for that.
            self.stdout.flush()
            supervisor.wait()

    def _announce(self, address: str) -> None:
        self.stdout.write(
            f"\nnooble is up. Ctrl-C stops it.\n\n"
            f"  API         {address}/api/docs\n"
            f"  admin       {address}/admin/ (python manage.py createsuperuser)"
        )

    def _hand_out_key(self) -> None:
        """A key to try things with: on a developer's machine only, and for this run only."""
        tenant, key = tenants.demo_key("make up")
        connections.close_all()
        self.stdout.write(f"  API key     {key} (tenant “{tenant.slug}”; the next run makes another)\n\n")
