"""Tenants' own keys in the admin: set, pointed elsewhere, taken away, and never shown."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from apps.core.admin_pages import change_url, list_url
from apps.core.db import unit_of_work
from apps.tenants import credentials
from apps.tenants.models import ProviderCredential
from tests.admin.test_site import staff
from tests.personas import Persona

LABEL = "tenants.providercredential"
SECRET, OTHER = "sk-tenants-own-key-4242-first", "sk-tenants-own-key-4242-other"
ELSEWHERE = "https://8.8.8.8/v1"


@pytest.fixture
def url(owner: Persona) -> str:
    """The page of a key that the tenant has stored."""
    row, _ = credentials.store(owner.ctx, provider="fake", secret=SECRET)
    return change_url(LABEL, row.pk)


def kept(persona: Persona) -> tuple[str, str] | None:
    key = credentials.of_payer(persona.ctx, "fake")
    return (key.secret, key.base_url) if key else None


def add(browser: Client, persona: Persona, **fields: str) -> Any:
    form = {"tenant": persona.tenant.slug, "provider": "fake", "secret": SECRET, "base_url": "", **fields}
    return browser.post(f"{list_url(LABEL)}add/", form)


def test_a_key_is_set_with_its_address(operator: Client, owner: Persona) -> None:
    assert add(operator, owner, base_url=ELSEWHERE).status_code == 302
    assert kept(owner) == (SECRET, ELSEWHERE)


def test_another_key_keeps_the_address_and_another_address_the_key(operator: Client, owner: Persona, url: str) -> None:
    assert operator.post(url, {"secret": "", "base_url": ELSEWHERE}).status_code == 302
    assert kept(owner) == (SECRET, ELSEWHERE)
    assert operator.post(url, {"secret": OTHER, "base_url": ELSEWHERE}).status_code == 302
    assert kept(owner) == (OTHER, ELSEWHERE)
    # What the tenant itself stores goes to the same place.
    credentials.store(owner.ctx, provider="fake", secret=SECRET)
    assert kept(owner) == (SECRET, ELSEWHERE)


def test_a_key_is_taken_away(operator: Client, owner: Persona, url: str) -> None:
    assert operator.post(url.replace("change", "delete"), {"post": "yes"}).status_code == 302
    assert kept(owner) is None


@pytest.mark.parametrize("address", ["https://10.0.0.7/v1", "http://8.8.8.8/v1", "https://no-such-host.invalid"])
def test_an_address_that_may_not_be_called_is_refused(operator: Client, owner: Persona, url: str, address: str) -> None:
    assert operator.post(url, {"secret": OTHER, "base_url": address}).status_code == 200
    assert kept(owner) == (SECRET, "")


def test_a_key_for_an_address_of_its_tenants_is_set_with_it(operator: Client, owner: Persona, settings: Any) -> None:
    azure = {"azure_openai": {"api_key": "k", "base_url": "https://operators.example.com"}}
    settings.NOOBLE_PROVIDERS = {**settings.NOOBLE_PROVIDERS, **azure}
    assert "Say where the key is good" in add(operator, owner, provider="azure_openai").content.decode()
    assert add(operator, owner, provider="azure_openai", base_url=ELSEWHERE).status_code == 302
    with unit_of_work(owner.ctx):
        row = ProviderCredential.objects.get()
    assert (row.provider, row.base_url) == ("azure_openai", ELSEWHERE)
    page = operator.post(change_url(LABEL, row.pk), {"secret": "", "base_url": ""})
    assert "Say where the key is good" in page.content.decode()
    # Once it is set, the tenant may put its own key over it.
    credentials.store(owner.ctx, provider="azure_openai", secret=OTHER)
    key = credentials.of_payer(owner.ctx, "azure_openai")
    assert key
    assert (key.secret, key.base_url) == (OTHER, ELSEWHERE)


@pytest.mark.parametrize(
    "address", ["https://me:secret@8.8.8.8", "https://8.8.8.8/v1?key=secret", "https://8.8.8.8/v1#secret"]
)
def test_an_address_that_its_tenant_may_see_holds_no_secret(
    operator: Client, owner: Persona, url: str, address: str
) -> None:
    assert operator.post(url, {"secret": "", "base_url": address}).status_code == 200
    assert kept(owner) == (SECRET, "")


@pytest.mark.parametrize(
    "fields", [{"provider": "local"}, {"tenant": "nobody"}, {"secret": ""}, {"secret": "short"}, {"secret": "ü" * 20}]
)
def test_what_nothing_could_come_of_is_refused(operator: Client, owner: Persona, fields: dict[str, str]) -> None:
    assert add(operator, owner, **fields).status_code == 200
    assert kept(owner) is None


def test_a_second_key_for_a_provider_is_refused(operator: Client, owner: Persona, url: str) -> None:
    assert "already exists" in add(operator, owner, secret=OTHER).content.decode()
    assert kept(owner) == (SECRET, "")


def test_a_secret_is_shown_nowhere(
    operator: Client, owner: Persona, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    pages = [
        operator.post(url, {"secret": OTHER, "base_url": "no url"}),
        operator.post(url, {"secret": OTHER, "base_url": ""}, follow=True),
        operator.get(url),
        operator.get(list_url(LABEL, tenant=owner.tenant.slug)),
        operator.get(url.replace("change", "history")),
        operator.get(url.replace("change", "delete")),
        add(operator, owner, secret=OTHER),
    ]
    assert kept(owner) == (OTHER, "")
    shown = [page.content.decode() for page in pages]
    assert "ther" in shown[2]
    assert not any(secret in page for secret in (SECRET, OTHER) for page in shown)
    assert OTHER not in caplog.text
    with unit_of_work(owner.ctx):
        row = ProviderCredential.objects.get()
    notes = list(LogEntry.objects.filter(object_id=row.pk).values_list("change_message", flat=True))
    assert any("secret" in note for note in notes)
    assert not any(OTHER in note for note in notes)


def test_staff_without_permission_change_nothing(owner: Persona, url: str) -> None:
    visitor = staff("view_providercredential")
    assert visitor.get(url).status_code == 200
    assert visitor.post(url, {"secret": OTHER, "base_url": ELSEWHERE}).status_code == 403
    assert visitor.post(url.replace("change", "delete"), {"post": "yes"}).status_code == 403
    assert add(visitor, owner).status_code == 403
    assert kept(owner) == (SECRET, "")
