"""Migrations run as the role that owns the tables, never as the application's."""

from typing import Any

from django.core.management.base import CommandParser
from django.core.management.commands import migrate
from django.db import connections

from apps.core import roles


class Command(migrate.Command):
    help = f"{migrate.Command.help} The privileges of nooble's roles are granted first."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(database="owner")

    def handle(self, *args: Any, **options: Any) -> None:
        connection = connections[options["database"]]
        # One at a time: several processes of a deployment may migrate when they start.
        with roles.migration_lock(connection):
            roles.grant_privileges(connection)
            super().handle(*args, **options)
