"""Run all of nooble in the foreground."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from apps.tenants import services as tenants
from nooble import operators, programs
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
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            self.stdout.write(_welcome(address) + (_credentials() if settings.DEBUG else ""))
            # Into a pipe nothing is written until there is much of it: whoever reads it should not wait for that.
            self.stdout.flush()
            supervisor.wait()


def _welcome(address: str) -> str:
    return (
        f"\nnooble is up. Ctrl-C stops it.\n\n"
        f"  API         {address}/api/v1 (described at {address}/api/docs)\n"
        f"  admin       {address}/admin/\n"
        f"  health      {address}/health/ready\n\n"
    )


def _credentials() -> str:
    """A key and an operator to try things with: on a developer's machine only, and for this run only."""
    tenant, key = tenants.demo_key("make up")
    password = operators.demo_password()
    connections.close_all()
    return (
        f"To try things with, until the next start makes others:\n\n"
        f"  API key     {key} (tenant “{tenant.slug}”)\n"
        f"  admin       {operators.DEMO_OPERATOR}, password {password}\n\n"
    )
