from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.tenants import credentials

#: So often it says how far it is.
EVERY = 100


class Command(BaseCommand):
    help = "Encrypt tenants' own provider keys with the first of CREDENTIAL_KEYS. May be run again at any time."

    def handle(self, *args: Any, **options: Any) -> None:
        done = failed = 0
        for row, is_readable in credentials.encrypt_again():
            done, failed = done + is_readable, failed + (not is_readable)
            if not is_readable:
                self.stderr.write(f"cannot be read: {row.tenant.slug}, {row.provider}")
            if (done + failed) % EVERY == 0:
                self.stdout.write(f"{done} …")
        self.stdout.write(f"Encrypted again: {done}.")
        if failed:
            raise CommandError(
                f"Not read: {failed}. Put their key back into CREDENTIAL_KEYS, or have them stored again."
            )
