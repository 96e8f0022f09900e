"""What models cost by the price list of the package genai-prices, which is maintained elsewhere.

Only the data that the installed package carries is read; nothing is called over the network. Its import takes a third
of a second and holds every provider's models, so it is done inside the functions, by whoever imports prices.

What nooble takes from it is the price of standard processing, per million tokens:

* What the package has no price for costs what the like of it does: tokens read from a cache or written to one as much
  as fresh input, reasoning as much as plain output. A model that is priced for input alone embeds: its output is none.
* Where a price rises with the size of the context, the base price is taken, and the row's source says so.
* A price that changed has a row from each date on which it did. Prices by the time of day are left out.
* What is not priced by tokens (seconds, characters, images) is passed by.
* A model that a provider sells for another, and has no price of its own for in the package, costs what the other asks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, time
from decimal import Decimal
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

PACKAGE = "genai-prices"
#: What the package calls a provider where nooble calls it otherwise.
LISTED_AS = {"azure_openai": "azure"}
#: From when the first known price of a model applies: before there were any calls to price.
BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """USD per million tokens of each bucket."""

    fresh_input_usd: Decimal
    cached_input_usd: Decimal
    cache_write_usd: Decimal
    plain_output_usd: Decimal
    reasoning_usd: Decimal


FREE = Rates(**dict.fromkeys((field.name for field in fields(Rates)), Decimal(0)))


@dataclass(frozen=True, kw_only=True)
class ListedPrice:
    """What a model costs from a moment on, and where in the package that stands."""

    starts_at: datetime
    rates: Rates
    source: str


def names(provider: str) -> set[str]:
    """Every name by which the package lists a model of the provider that is priced by tokens; snapshots included."""
    listed = _provider(provider)
    if listed is None:
        return set()
    return {name for model in listed.models if _periods(model) for name in _names(model)}


def prices(provider: str, model: str) -> list[ListedPrice]:
    """The model's prices, oldest first, by the package's own matching of names; empty when it knows none."""
    listed = _provider(provider)
    found = listed.find_model(model, all_providers=_providers()) if listed else None
    if listed is None or found is None:
        return []
    return [
        ListedPrice(starts_at=start, rates=_rates(price), source=_source(listed, found, model, price))
        for start, price in _periods(found)
    ]


def _provider(name: str) -> "Provider | None":
    return next((provider for provider in _providers() if provider.id == LISTED_AS.get(name, name)), None)


def _providers() -> "list[Provider]":
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - large: see above

    return get_snapshot().providers


def _names(model: "ModelInfo") -> Iterator[str]:
    """What the model is called; its id in the package need not be one of its names."""
    if model.is_match(model.id):
        yield model.id
    clauses: list[Any] = [model.match]
    while clauses:
        clause = clauses.pop()
        clauses += getattr(clause, "or_", [])
        if name := getattr(clause, "equals", ""):
            yield name


def _periods(model: "ModelInfo") -> list[tuple[datetime, "ModelPrice"]]:
    """Each price of the model that is one of tokens, with the moment from which it applies."""
    from genai_prices.types import ModelPrice, StartDateConstraint  # noqa: PLC0415 - large: see above

    if isinstance(model.prices, ModelPrice):
        periods = {BEGINNING: model.prices}
    else:
        first, *later = model.prices
        # The package uses the first one where no other applies.
        periods = {BEGINNING: first.prices}
        for price in later:
            if isinstance(price.constraint, StartDateConstraint):
                periods[datetime.combine(price.constraint.start_date, time(), UTC)] = price.prices
    return [(start, price) for start, price in sorted(periods.items()) if price.input_mtok is not None]


def _rates(price: "ModelPrice") -> Rates:
    fresh = _base(price.input_mtok, Decimal(0))
    output = _base(price.output_mtok, Decimal(0))
    return Rates(
        fresh_input_usd=fresh,
        cached_input_usd=_base(price.cache_read_mtok, fresh),
        cache_write_usd=_base(price.cache_write_mtok, fresh),
        plain_output_usd=output,
        reasoning_usd=_base(price.output_reasoning_mtok, output),
    )


def _base(price: "Decimal | TieredPrices | None", default: Decimal) -> Decimal:
    """The price, or its first tier's."""
    if price is None:
        return default
    return price if isinstance(price, Decimal) else price.base


def _source(listed: "Provider", found: "ModelInfo", model: str, price: "ModelPrice") -> str:
    """The package and its version, under which name it lists the model, and whose, and whether tiers were left out."""
    notes = [f"{PACKAGE} {version(PACKAGE)}"]
    home = next(each.id for each in _providers() if any(found is one for one in each.models))
    if home != listed.id:
        notes.append(f"as {home}'s {found.id}")
    elif found.id != model:
        notes.append(f"as {found.id}")
    if not all(isinstance(value, Decimal) for value in vars(price).values() if value is not None):
        notes.append("base tier")
    return ", ".join(notes)
