"""What operators do in the books: correct an entry by another, set a price, end one."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from apps.core import clock
from apps.core.admin_pages import change_url, list_url
from apps.core.db import operator_scope
from apps.core.ids import NO_ID
from apps.ledger.models import Entry, Price
from apps.tenants.models import User
from tests.admin.test_site import staff
from tests.ledger.test_adjustments import book, books
from tests.ledger.test_pricing import RATES, entries, price
from tests.personas import Persona

ADJUSTMENT = {
    "_form_submitted": "on",
    "fresh_input_tokens": "-60",
    "cached_input_tokens": "0",
    "cache_write_tokens": "0",
    "plain_output_tokens": "3",
    "reasoning_tokens": "0",
    "cost_usd": "",
    "reason": "counted twice",
    "key": "admin:1",
}


@pytest.fixture
def entry(owner: Persona) -> Entry:
    return book(owner)


def adjust_url(entry: Entry) -> str:
    return change_url("ledger.entry", entry.pk).replace("change/", "adjust/")


def test_an_entrys_page_leads_to_its_adjustment(operator: Client, entry: Entry) -> None:
    assert adjust_url(entry) in operator.get(change_url("ledger.entry", entry.pk)).content.decode()


def test_the_form_says_what_there_is_to_take_back(operator: Client, entry: Entry) -> None:
    page = operator.get(adjust_url(entry)).content.decode()
    assert "Added to 60; negative to take back." in page
    assert 'value="admin:' in page


def test_an_entry_is_adjusted_in_the_operators_name(
    operator: Client, superuser: User, owner: Persona, entry: Entry
) -> None:
    page = operator.post(adjust_url(entry), ADJUSTMENT).content.decode()
    [booked] = entries(owner, kind="adjustment")
    assert change_url("ledger.entry", booked.pk) in page
    assert (booked.corrects_id, booked.total_tokens, booked.reason) == (entry.pk, -57, "counted twice")
    assert (booked.actor, booked.token_source) == (superuser.username, entry.token_source)
    assert "counted twice" in LogEntry.objects.get(object_id=entry.pk).change_message
    assert books(owner).spent_tokens == 38


def test_a_form_that_is_sent_twice_books_once(operator: Client, owner: Persona, entry: Entry) -> None:
    for _ in range(2):
        operator.post(adjust_url(entry), ADJUSTMENT)
    assert len(entries(owner)) == 2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"reason": ""}, "This field is required"),
        ({"fresh_input_tokens": "-61"}, "have 60"),
        ({"fresh_input_tokens": "-1.5"}, "Enter a whole number"),
        ({"fresh_input_tokens": "0", "plain_output_tokens": "0"}, "Nothing would change"),
    ],
)
def test_an_adjustment_that_cannot_be_made_says_why(
    operator: Client, owner: Persona, entry: Entry, change: dict[str, str], complaint: str
) -> None:
    assert complaint in operator.post(adjust_url(entry), {**ADJUSTMENT, **change}).content.decode()
    assert books(owner).entries == 1


def test_an_entry_is_not_adjusted_by_following_a_link(operator: Client, owner: Persona, entry: Entry) -> None:
    operator.get(adjust_url(entry), ADJUSTMENT)
    assert books(owner).entries == 1


def test_staff_without_permission_adjust_nothing(owner: Persona, entry: Entry) -> None:
    visitor = staff("view_entry")
    assert adjust_url(entry) not in visitor.get(change_url("ledger.entry", entry.pk)).content.decode()
    assert visitor.post(adjust_url(entry), ADJUSTMENT).status_code == 403
    assert books(owner).entries == 1


@pytest.mark.parametrize("key", [str(uuid4()), "word"])
def test_an_entry_that_is_not_there_is_not_found(operator: Client, entry: Entry, key: str) -> None:
    url = adjust_url(entry).replace(str(entry.pk), key)
    assert operator.post(url, ADJUSTMENT).status_code == 404


def form(model: str, /, **changes: str) -> dict[str, str]:
    rates = {name: str(rate) for name, rate in vars(RATES).items()}
    start = {"starts_at_0": "2026-03-01", "starts_at_1": "00:00:00"}
    return {"provider": "acme", "model": model, "tenant": "", **start, **rates, **changes}


def priced(model: str) -> list[Price]:
    with operator_scope("test"):
        return list(Price.objects.filter(model=model).order_by("starts_at", "id"))


@pytest.fixture
def model() -> str:
    return f"model-{uuid4().hex[:12]}"


ADD = list_url("ledger.price") + "add/"


def test_an_operator_sets_a_price_for_everybody(operator: Client, superuser: User, model: str) -> None:
    assert operator.post(ADD, form(model)).status_code == 302
    [row] = priced(model)
    assert (row.provider, row.tenant_id, row.starts_at) == ("acme", NO_ID, datetime(2026, 3, 1, tzinfo=UTC))
    assert (row.cache_write_usd, row.source) == (Decimal("3.1234567891"), f"set by {superuser.username}")
    assert LogEntry.objects.get(object_id=row.pk)
    assert "everybody" in operator.get(change_url("ledger.price", row.pk)).content.decode()


def test_an_operator_sets_a_price_for_one_payer(operator: Client, owner: Persona, model: str) -> None:
    operator.post(ADD, form(model))
    assert operator.post(ADD, form(model, tenant=owner.tenant.slug)).status_code == 302
    assert {row.tenant_id for row in priced(model)} == {NO_ID, owner.tenant.pk}
    page = operator.get(list_url("ledger.price", name=model, provider="acme")).content.decode()
    assert change_url("tenants.tenant", owner.tenant.pk) in page


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"fresh_input_usd": "-1"}, "Price Not Negative"),
        ({"model": ""}, "This field is required"),
        ({"tenant": "nobody-is-called-this"}, "Select a valid choice"),
        ({"ends_at_0": "2026-02-01", "ends_at_1": "00:00:00"}, "Price Ends After Start"),
    ],
)
def test_what_is_no_price_is_not_set(operator: Client, model: str, change: dict[str, str], complaint: str) -> None:
    page = operator.post(ADD, form(model, **change))
    assert page.status_code == 200
    assert complaint.lower().replace(" ", "") in page.content.decode().lower().replace(" ", "").replace("_", "")
    assert priced(model) == []


def test_a_second_price_from_the_same_moment_is_not_set(operator: Client, model: str) -> None:
    operator.post(ADD, form(model))
    page = operator.post(ADD, form(model)).content.decode()
    assert "starts at this moment already" in page
    assert len(priced(model)) == 1


def test_of_a_price_that_is_there_only_the_end_is_set(operator: Client, model: str) -> None:
    row = price(model)
    end = {"ends_at_0": "2030-01-01", "ends_at_1": "00:00:00"}
    assert (
        operator.post(change_url("ledger.price", row.pk), {**form(model, fresh_input_usd="0"), **end}).status_code
        == 302
    )
    [changed] = priced(model)
    assert (changed.ends_at, changed.fresh_input_usd) == (datetime(2030, 1, 1, tzinfo=UTC), RATES.fresh_input_usd)


def test_a_price_is_not_deleted(operator: Client, model: str) -> None:
    row = price(model, starts_at=clock.now())
    url = change_url("ledger.price", row.pk).replace("change", "delete")
    assert operator.post(url, {"post": "yes"}).status_code == 403
    assert len(priced(model)) == 1


def test_staff_without_permission_set_no_price(database: None, model: str) -> None:
    visitor = staff("view_price")
    row = price(model)
    assert visitor.post(ADD, form(model)).status_code == 403
    answer: Any = visitor.post(change_url("ledger.price", row.pk), {"ends_at_0": "2030-01-01", "ends_at_1": "00:00"})
    assert answer.status_code == 403
    assert [row.ends_at for row in priced(model)] == [None]
