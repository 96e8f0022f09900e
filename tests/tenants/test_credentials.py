"""A tenant's own keys for providers: they go in, are kept encrypted, and come out where a call is made alone."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection

from apps.core.db import execute, operator_scope, unit_of_work
from apps.tenants import credentials
from apps.tenants.models import ProviderCredential
from tests.api.test_authentication import check_problem
from tests.personas import Persona

SECRET, OTHER = "sk-tenants-own-key-4242-first", "sk-tenants-own-key-4242-other"
HERE = "/api/v1/credentials/fake"
OLD, NEW = {"old": bytes(range(32))}, {"new": bytes(range(32, 64))}


def put(persona: Persona, secret: Any = SECRET, path: str = HERE, **more: Any) -> Any:
    return persona.api.put(path, {"secret": secret, **more}, format="json")


def kept(persona: Persona) -> str | None:
    """The key that what the tenant pays for is called with."""
    key = credentials.of_payer(persona.ctx, "fake")
    return key.secret if key else None


def guest(persona: Persona, payer: Persona) -> Any:
    """The context in which somebody asks at another tenant's cost."""
    return persona.ctx.model_copy(
        update={"owner_tenant_id": payer.tenant.pk, "payer_tenant_id": payer.tenant.pk},
    )


def test_a_key_is_stored_and_shown_by_its_end(owner: Persona) -> None:
    response = put(owner)
    assert response.status_code == 201
    assert response.json() == {
        **response.json(),
        "provider": "fake",
        "hint": "irst",
        "base_url": "",
        "rotated_at": None,
    }
    assert kept(owner) == SECRET
    assert owner.api.get(HERE).json() == response.json()
    assert owner.api.get("/api/v1/credentials").json()["results"] == [response.json()]


def test_stored_again_it_takes_the_place_of_the_one_before(owner: Persona) -> None:
    first = put(owner).json()
    response = put(owner, OTHER)
    assert response.status_code == 200
    assert (response.json()["hint"], response.json()["created_at"]) == ("ther", first["created_at"])
    assert response.json()["rotated_at"] > first["created_at"]
    assert kept(owner) == OTHER


def test_of_several_at_once_one_is_new_and_one_stays(owner: Persona) -> None:
    secrets = [f"{SECRET}-{number}" for number in range(6)]

    def send(secret: str) -> int:
        try:
            return int(put(owner, secret).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(secrets)) as pool:
        statuses = sorted(pool.map(send, secrets))
    assert statuses == [200] * 5 + [201]
    assert kept(owner) in secrets


def test_forgotten_it_is_used_no_more(owner: Persona) -> None:
    put(owner)
    assert owner.api.delete(HERE).status_code == 204
    assert kept(owner) is None
    check_problem(owner.api.get(HERE), 404, "not_found")
    check_problem(owner.api.delete(HERE), 404, "not_found")


def test_another_tenants_is_as_one_that_is_not_there(owner: Persona, stranger: Persona) -> None:
    put(owner)
    check_problem(stranger.api.get(HERE), 404, "not_found")
    check_problem(stranger.api.delete(HERE), 404, "not_found")
    assert stranger.api.get("/api/v1/credentials").json()["results"] == []
    put(stranger, OTHER)
    assert (kept(owner), kept(stranger)) == (SECRET, OTHER)


@pytest.mark.parametrize("provider", ["local", "acme", "FAKE", str(uuid4())])
def test_a_provider_that_takes_no_key_is_not_found(owner: Persona, provider: str) -> None:
    check_problem(put(owner, path=f"/api/v1/credentials/{provider}"), 404, "not_found")


@pytest.mark.parametrize(
    "secret", ["", "short-4242", "sk-4242" * 100, "sk-4242 with a space", "sk-4242-ünicode-€", 42, None]
)
def test_what_cannot_be_a_key_is_refused_and_not_repeated(owner: Persona, secret: Any) -> None:
    response = put(owner, secret)
    check_problem(response, 400, "invalid_request")
    assert [error["field"] for error in response.json()["errors"]] == ["secret"]
    assert "4242" not in response.content.decode()


def test_spaces_around_a_key_are_no_part_of_it(owner: Persona) -> None:
    put(owner, f" {SECRET}\n")
    assert kept(owner) == SECRET


def test_a_tenant_says_not_where_its_key_is_sent(owner: Persona) -> None:
    response = put(owner, base_url="https://8.8.8.8/v1")
    check_problem(response, 400, "invalid_request")
    assert response.json()["errors"][0]["code"] == "operators_only"
    assert kept(owner) is None


@pytest.fixture(params=["azure_openai", "ollama"])
def at_own_address(request: pytest.FixtureRequest, settings: Any) -> str:
    """The path of a key for a provider whose address here is the operator's own."""
    entry = {"api_key": "k", "base_url": "https://operators.example.com"}
    settings.NOOBLE_PROVIDERS = {**settings.NOOBLE_PROVIDERS, request.param: entry}
    return f"/api/v1/credentials/{request.param}"


def by_operator(persona: Persona, path: str, base_url: str) -> None:
    """Set up by an operator: the tenant's address, and something in the place of its key."""
    with operator_scope("test"):
        row, _ = credentials.keep(persona.ctx, provider=path.rpartition("/")[2], secret=OTHER)
        credentials.point(row.pk, base_url)


def test_a_key_for_an_address_of_ones_own_waits_for_it(owner: Persona, at_own_address: str) -> None:
    problem = check_problem(put(owner, path=at_own_address), 409, "address_not_set")
    assert "Ask the operator" in problem["detail"]
    check_problem(owner.api.get(at_own_address), 404, "not_found")
    by_operator(owner, at_own_address, "https://8.8.8.8/v1")
    response = put(owner, path=at_own_address)
    assert (response.status_code, response.json()["base_url"]) == (200, "https://8.8.8.8/v1")
    assert owner.api.get(at_own_address).json() == response.json()
    key = credentials.of_payer(owner.ctx, at_own_address.rpartition("/")[2])
    assert key
    assert (key.secret, key.base_url) == (SECRET, "https://8.8.8.8/v1")


def test_whoever_forgets_such_a_key_forgets_its_address(owner: Persona, at_own_address: str) -> None:
    by_operator(owner, at_own_address, "https://8.8.8.8/v1")
    assert owner.api.delete(at_own_address).status_code == 204
    check_problem(put(owner, path=at_own_address), 409, "address_not_set")


def test_a_key_that_was_left_without_its_address_is_not_replaced(owner: Persona, at_own_address: str) -> None:
    by_operator(owner, at_own_address, "")
    before = owner.api.get(at_own_address).json()
    check_problem(put(owner, path=at_own_address), 409, "address_not_set")
    assert owner.api.get(at_own_address).json() == before


def test_the_database_lets_a_tenant_not_say_it_either(owner: Persona) -> None:
    put(owner)
    with pytest.raises(DatabaseError, match="permission denied"), unit_of_work(owner.ctx):
        execute("UPDATE tenants_providercredential SET base_url = 'https://8.8.8.8'")
    with pytest.raises(DatabaseError, match="row-level security"), unit_of_work(owner.ctx):
        ProviderCredential.objects.create(
            tenant=owner.tenant, provider="askable", encrypted_secret=b"", hint="", base_url="https://8.8.8.8"
        )


def test_who_asks_at_anothers_cost_has_its_key_used_and_changes_nothing(owner: Persona, stranger: Persona) -> None:
    put(owner)
    ctx = guest(stranger, payer=owner)
    key = credentials.of_payer(ctx, "fake")
    assert key
    assert key.secret == SECRET
    with unit_of_work(ctx):
        assert ProviderCredential.objects.update(hint="xxxx") == 0
        assert ProviderCredential.objects.all().delete()[0] == 0
    assert kept(owner) == SECRET


def test_who_pays_for_itself_has_its_own_key_used(owner: Persona, stranger: Persona) -> None:
    put(owner)
    put(stranger, OTHER)
    ctx = stranger.ctx.model_copy(update={"owner_tenant_id": owner.tenant.pk})
    key = credentials.of_payer(ctx, "fake")
    assert key
    assert key.secret == OTHER


# Another key for all of them


@pytest.fixture
def _two_keys(settings: Any, database: None) -> Iterator[None]:
    """A new key has been put before the old one; no other test's secrets are there, nor left to other tests."""
    settings.CREDENTIAL_KEYS = {**NEW, **OLD}
    _forget_all()
    yield
    _forget_all()


def _forget_all() -> None:
    with operator_scope("test"):
        ProviderCredential.objects.all().delete()


def rotate() -> str:
    output = StringIO()
    call_command("rotate_credentials", stdout=output, stderr=output)
    return output.getvalue()


@pytest.mark.usefixtures("_two_keys")
def test_secrets_are_encrypted_again_with_the_first_key(owner: Persona, stranger: Persona, settings: Any) -> None:
    both = settings.CREDENTIAL_KEYS
    settings.CREDENTIAL_KEYS = OLD
    put(owner)
    settings.CREDENTIAL_KEYS = both
    put(stranger, OTHER)
    before = owner.api.get(HERE).json()
    assert "Encrypted again: 1." in rotate()
    settings.CREDENTIAL_KEYS = NEW
    assert (kept(owner), kept(stranger)) == (SECRET, OTHER)
    assert owner.api.get(HERE).json() == before
    assert "Encrypted again: 0." in rotate()


@pytest.mark.usefixtures("_two_keys")
def test_what_cannot_be_read_is_named_and_the_rest_is_done(owner: Persona, stranger: Persona, settings: Any) -> None:
    both = settings.CREDENTIAL_KEYS
    settings.CREDENTIAL_KEYS = {"lost": bytes(range(1, 33))}
    put(owner)
    settings.CREDENTIAL_KEYS = OLD
    put(stranger, OTHER)
    settings.CREDENTIAL_KEYS = both
    output = StringIO()
    with pytest.raises(CommandError, match="Not read: 1"):
        call_command("rotate_credentials", stdout=output, stderr=output)
    assert f"cannot be read: {owner.tenant.slug}, fake" in output.getvalue()
    assert "Encrypted again: 1." in output.getvalue()
    settings.CREDENTIAL_KEYS = NEW
    assert kept(stranger) == OTHER


@pytest.mark.usefixtures("_two_keys")
def test_a_secret_that_is_stored_meanwhile_stays(owner: Persona, settings: Any) -> None:
    both = settings.CREDENTIAL_KEYS
    settings.CREDENTIAL_KEYS = OLD
    put(owner)
    with operator_scope("test"):
        read_before = ProviderCredential.objects.get(tenant=owner.tenant)
    settings.CREDENTIAL_KEYS = both
    put(owner, OTHER)
    with operator_scope("test"):
        credentials._encrypted_again(read_before)
    assert kept(owner) == OTHER
