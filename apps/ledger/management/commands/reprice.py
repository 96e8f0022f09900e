from argparse import ArgumentTypeError
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.ledger import pricing, repricing
from apps.ledger.repricing import Due


class Command(BaseCommand):
    help = (
        "Bring the cost of a month's entries to the prices that apply now, by adjustments, and list the models that "
        "have no price. Doing it again does nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        who = parser.add_mutually_exclusive_group(required=True)
        who.add_argument("--tenant", metavar="SLUG", help="Whoever is billed: one tenant.")
        who.add_argument("--all", action="store_true", help="Every tenant.")
        parser.add_argument(
            "--month", required=True, type=_month, metavar="YYYY-MM", help="In the tenant's own time zone."
        )
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be booked.")

    def handle(self, *args: Any, **options: Any) -> None:
        payers = repricing.payers(options["tenant"])
        if options["tenant"] and not payers:
            raise CommandError(f"There is no tenant {options['tenant']!r}.")
        total = Decimal(0)
        for payer in payers:
            found = repricing.due(payer.pk, options["month"])
            if not options["dry_run"]:
                found = repricing.reprice(found, actor="manage.py reprice")
            total += self._report(payer.slug, found)
        self.stdout.write(f"{'would be booked' if options['dry_run'] else 'booked'}: {total:+f} USD")
        self._list_unpriced()

    def _report(self, slug: str, found: list[Due]) -> Decimal:
        difference = sum((entry.difference_usd for entry in found), Decimal(0))
        if found:
            unpriced = sum(entry.is_unpriced for entry in found)
            self.stdout.write(f"{slug}: {len(found)} entries ({unpriced} had no price), {difference:+f} USD")
            self.stdout.writelines(f"  {model}: {count} entries" for model, count in _by_model(found))
        return difference

    def _list_unpriced(self) -> None:
        for row in pricing.unpriced():
            self.stdout.write(
                f"without a price: {row.provider}/{row.model}, {row.entries} entries of {row.tokens} tokens, "
                f"{row.first_day} to {row.last_day}"
            )


def _month(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007 - a month has no zone
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a month: write YYYY-MM.") from error


def _by_model(found: Iterable[Due]) -> Iterable[tuple[str, int]]:
    models: dict[str, int] = {}
    for entry in found:
        name = f"{entry.provider}/{entry.model}"
        models[name] = models.get(name, 0) + 1
    return sorted(models.items())
