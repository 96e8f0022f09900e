from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.core.errors import NoobleError
from apps.tenants import services


class Command(BaseCommand):
    help = "Create a tenant and print its first API key, once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="Short name in lower case, e.g. acme.")
        parser.add_argument("--name", help="Its name for people; the slug if not given.")
        parser.add_argument("--tier", default="free", help="free, advance, professional or enterprise (default: free).")
        parser.add_argument("--time-zone", default="UTC", help="IANA name; decides when its months end (default: UTC).")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            tenant, key = services.create_tenant(
                slug=options["slug"],
                name=options["name"] or options["slug"],
                tier=options["tier"],
                time_zone=options["time_zone"],
            )
        except NoobleError as error:
            raise CommandError(error.detail) from error
        except ValidationError as error:
            raise CommandError(_told(error)) from error
        self.stdout.write(f"tenant  {tenant.slug} ({tenant.id}), tier {tenant.tier_id}")
        self.stdout.write(f"key     {key}")
        self.stdout.write("The key is not stored and not shown again: keep it now.")


def _told(error: ValidationError) -> str:
    """What is wrong, by the names of the options."""
    return "; ".join(f"{name.replace('_', ' ')}: {' '.join(texts)}" for name, texts in error.message_dict.items())
