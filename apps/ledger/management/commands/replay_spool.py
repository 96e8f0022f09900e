from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from apps.core.errors import NoobleError
from apps.ledger import spool


class Command(BaseCommand):
    help = (
        "Book the usage that was reported while PostgreSQL was away and that waits on this host. Workers do it by "
        "themselves; this is for a host without one, and for seeing that nothing waits before a host is taken down."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            done = spool.replay()
            waiting, refused = spool.waiting(), spool.refused()
        except Error as error:
            raise CommandError(f"The database is away; {spool.waiting()} wait.") from error
        except NoobleError as error:
            raise CommandError(error.detail) from error
        self.stdout.write(f"booked      {done.booked}")
        self.stdout.write(f"duplicates  {done.duplicates}")
        self.stdout.write(f"refused     {done.refused}, {refused} in all")
        self.stdout.write(f"waiting     {waiting}")
