from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.ledger import pricing
from apps.ledger.pricing import PriceChange
from apps.providers import catalog

#: What is said of each model without being asked.
WORTH_SAYING = {"new", "changed", "unknown"}


class Command(BaseCommand):
    help = (
        "Bring the prices of the providers' models up to date with the installed price list (genai-prices); nothing is "
        "downloaded. A price that changed starts now; prices that operators set are kept. Doing it again does nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only say what would change.")

    def handle(self, *args: Any, **options: Any) -> None:
        models = {name: [model.model for model in catalog.models(name)] for name in catalog.provider_names()}
        deployments = {name: catalog.deployments(name) for name in models}
        changes = pricing.import_prices(models, deployments=deployments, dry_run=options["dry_run"])
        for change in changes:
            if options["verbosity"] > 1 or (options["verbosity"] and change.outcome in WORTH_SAYING):
                self._say(change)
        counted = Counter(change.outcome for change in changes)
        summary = ", ".join(f"{counted[outcome]} {outcome}" for outcome in pricing.OUTCOMES)
        if options["verbosity"]:
            self.stdout.write(f"{'would be: ' if options['dry_run'] else ''}{summary}")

    def _say(self, change: PriceChange) -> None:
        self.stdout.write(f"{change.outcome:<10} {change.provider}/{change.model}")
        for row in change.rows:
            rates = row.rates
            self.stdout.write(
                f"           from {row.starts_at:%Y-%m-%d}: {_usd(rates.fresh_input_usd)} in, "
                f"{_usd(rates.plain_output_usd)} out, {_usd(rates.cached_input_usd)} cached ({row.source})"
            )


def _usd(rate: Any) -> str:
    return f"${rate:f}"
