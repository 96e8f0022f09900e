import argparse
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.ledger import reconciliation
from apps.ledger.types import DiscrepancyKind


class Command(BaseCommand):
    help = (
        "Compare entries, statistics, budgets, operations and attempts; repair what the books themselves can repair. "
        "Fails if it finds something new that somebody must look at."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", type=_day, help="First day to compare, e.g. 2026-11-01 (default: all of them).")
        parser.add_argument("--no-repair", action="store_true", help="Only write down what differs.")

    def handle(self, *args: Any, **options: Any) -> None:
        repair = not options["no_repair"]
        run = reconciliation.reconcile(started_by="command", since=options["since"], repair=repair)
        for kind in DiscrepancyKind:
            found, repaired = run.found.get(kind, 0), run.repaired.get(kind, 0)
            if found or repaired:
                self.stdout.write(f"{found:>8} new: {kind.label}; {repaired} repaired")
        if not run.found and not run.repaired:
            self.stdout.write("Nothing new was found.")
        if reconciliation.remaining(run) - {DiscrepancyKind.UNPRICED_MODEL}:
            raise CommandError("Some of it cannot be repaired from the books. See the discrepancies in the admin.")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date such as 2026-11-01.") from error
