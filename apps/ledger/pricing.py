"""Prices: set by operators, for everybody or for one payer, or taken from the package's price list.

An entry is priced when it is booked, by the row that applies to its payer, provider and model at the moment of the call
(``ledger_price_of``): the payer's own before everybody's, of those the one that started last. A row is never changed
or deleted, so that it explains every cost it led to. What changes starts a row of its own; a row that was wrong is
ended, right after its start if need be, and ``repricing`` corrects what was booked by it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date, datetime
from typing import Literal, get_args
from uuid import UUID

from django.core.exceptions import ValidationError

from apps.core import clock
from apps.core.db import execute, fetch_all, operator_scope
from apps.core.ids import NO_ID
from apps.ledger import price_list
from apps.ledger.errors import LedgerRowNotFoundError, PriceRefusedError
from apps.ledger.models import Price
from apps.ledger.price_list import BEGINNING, FREE, ListedPrice, Rates

#: Providers whose work nobody is paid for by the token, and why. An operator who pays for it sets a price.
FREE_PROVIDERS = {"local": "runs inside nooble", "ollama": "runs on the deployment's own machines"}

Outcome = Literal["new", "changed", "unchanged", "kept", "unknown"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

#: How the source of a price begins that an operator has set.
_SET_BY = "set by "

#: The entries that have no cost yet: booked without a price, and no correction gave them one.
_UNPRICED = """
    SELECT e.provider, e.model, count(*) AS entries, sum(e.total_tokens)::bigint AS tokens, min(e.day) AS first_day,
           max(e.day) AS last_day
      FROM ledger_entry e
     WHERE e.cost_usd IS NULL AND e.kind = 'usage'
       AND NOT EXISTS (SELECT FROM ledger_entry c WHERE c.corrects_id = e.id AND c.cost_usd IS NOT NULL)
     GROUP BY 1, 2 ORDER BY 1, 2
"""


@dataclass(frozen=True, kw_only=True)
class Unpriced:
    """A model with entries that have no cost, because it had no price when they were booked."""

    provider: str
    model: str
    entries: int
    tokens: int
    first_day: date
    last_day: date


@dataclass(frozen=True, kw_only=True)
class PriceChange:
    """What an import does with one model.

    ``kept``: an operator has set its price, which the list does not override. ``unknown``: the list does not have it.
    """

    outcome: Outcome
    provider: str
    model: str
    rows: Sequence[ListedPrice] = ()


def set_price(
    provider: str,
    model: str,
    rates: Rates,
    *,
    actor: str,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    tenant: UUID | None = None,
) -> Price:
    """Let a model cost this from a moment on, now if none is given; for everybody, or for one payer, ``tenant``.

    A moment that is past changes no entry by itself: see ``repricing``. Raises PriceRefusedError.
    """
    price = Price(
        tenant_id=tenant or NO_ID,
        provider=provider,
        model=model,
        starts_at=starts_at or clock.now(),
        ends_at=ends_at,
        source=f"{_SET_BY}{actor}"[:150],
        **asdict(rates),
    )
    with operator_scope(f"price set by {actor}"):
        _save(price, force_insert=True)
    return price


def end_price(price_id: UUID, ends_at: datetime | None, *, actor: str) -> Price:
    """Let a price end at a moment, or, with None, not end. From then on the one applies that did before, if any.

    Raises LedgerRowNotFoundError and PriceRefusedError.
    """
    with operator_scope(f"price ended by {actor}"):
        price = Price.objects.filter(pk=price_id).first()
        if price is None:
            raise LedgerRowNotFoundError("There is no such price.")
        price.ends_at = ends_at
        _save(price, update_fields=["ends_at"])
    return price


def _save(price: Price, **how: object) -> None:
    try:
        price.full_clean()
    except ValidationError as error:
        raise PriceRefusedError(" ".join(error.messages)) from error
    price.save(**how)  # type: ignore[arg-type] # force_insert or update_fields


def unpriced() -> list[Unpriced]:
    """The models of all entries that have no cost yet."""
    with operator_scope("unpriced models"):
        return [Unpriced(**row) for row in fetch_all(_UNPRICED)]


def import_prices(
    models: Mapping[str, Iterable[str]],
    *,
    deployments: Mapping[str, Mapping[str, str]] | None = None,
    dry_run: bool = False,
) -> list[PriceChange]:
    """Bring everybody's prices up to date with the package's list; returns what became of each model, by its name.

    Of each provider in ``models``: the models named, all that the list has, and those of entries that have no cost.
    ``deployments`` says, by provider, which model a name stands for that the deployment has given it.
    A model's first import writes the history that the list knows, from 2020 on; later a price that is different now
    starts now, so that an import never changes what past calls cost. Doing it again does nothing.
    """
    with operator_scope("price import"):
        # Imports wait for each other; the till, which only reads, does not wait.
        execute("LOCK TABLE ledger_price IN SHARE ROW EXCLUSIVE MODE")
        known = _known()
        changes = [
            _change(provider, model, _listed(provider, model, deployments or {}), known.get((provider, model), []))
            for provider, model in _wanted(models)
        ]
        if not dry_run:
            Price.objects.bulk_create(row for change in changes for row in _rows(change))
    return changes


def _wanted(models: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    named = {(provider, model) for provider, names in models.items() for model in names}
    listed = {(provider, model) for provider in models for model in price_list.names(provider)}
    booked = {(row.provider, row.model) for row in unpriced() if row.provider in models}
    return sorted(named | listed | booked)


def _known() -> dict[tuple[str, str], list[Price]]:
    """Everybody's prices by model, the latest first."""
    known: dict[tuple[str, str], list[Price]] = {}
    for price in Price.objects.filter(tenant_id=NO_ID).order_by("-starts_at"):
        known.setdefault((price.provider, price.model), []).append(price)
    return known


def _change(provider: str, model: str, listed: Sequence[ListedPrice], known: Sequence[Price]) -> PriceChange:
    now = clock.now()
    current = next((price for price in known if price.starts_at <= now and not _is_over(price, now)), None)
    if not known:
        return PriceChange(outcome="new" if listed else "unknown", provider=provider, model=model, rows=listed)
    if not listed or (current and current.source.startswith(_SET_BY)):
        return PriceChange(outcome="kept", provider=provider, model=model)
    rows = [*_begun(listed, current, now), *_coming(listed, known, now)]
    return PriceChange(outcome="changed" if rows else "unchanged", provider=provider, model=model, rows=rows)


def _listed(provider: str, model: str, deployments: Mapping[str, Mapping[str, str]]) -> list[ListedPrice]:
    if provider in FREE_PROVIDERS:
        return [ListedPrice(starts_at=BEGINNING, rates=FREE, source=FREE_PROVIDERS[provider])]
    meant = deployments.get(provider, {}).get(model, model)
    found = price_list.prices(provider, meant)
    return found if meant == model else [replace(row, source=f"{row.source}; it is {meant}") for row in found]


def _begun(listed: Sequence[ListedPrice], current: Price | None, now: datetime) -> Iterable[ListedPrice]:
    """The list's present price, from now on, when it is another than ours."""
    *_, present = (price for price in listed if price.starts_at <= now)
    if current is None or _rates(current) != present.rates:
        yield replace(present, starts_at=now)


def _coming(listed: Sequence[ListedPrice], known: Sequence[Price], now: datetime) -> Iterable[ListedPrice]:
    """Prices of the list that have not begun and that we have not written yet."""
    starts = {price.starts_at for price in known}
    return (price for price in listed if price.starts_at > now and price.starts_at not in starts)


def _is_over(price: Price, now: datetime) -> bool:
    return price.ends_at is not None and price.ends_at <= now


def _rates(price: Price) -> Rates:
    return Rates(**{field.name: getattr(price, field.name) for field in fields(Rates)})


def _rows(change: PriceChange) -> Iterable[Price]:
    return (
        Price(
            provider=change.provider,
            model=change.model,
            starts_at=row.starts_at,
            source=row.source[:150],
            **asdict(row.rates),
        )
        for row in change.rows
    )
