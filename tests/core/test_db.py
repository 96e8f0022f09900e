"""The two doors."""

import os
import socket
from typing import Any

import pytest
from django.db import connection

from apps.core.db import ScopeError, fetch_one, fetch_prepared, operator_scope, unit_of_work
from apps.tenants.models import ApiKey, Tenant
from tests.personas import Persona


def scope() -> dict[str, str]:
    row = fetch_one(
        "SELECT current_user AS role, current_setting('nooble.tenant_id', true) AS tenant,"
        " current_setting('nooble.payer_id', true) AS payer"
    )
    assert row is not None
    return row


def test_a_unit_of_work_sees_its_tenants_rows(owner: Persona, stranger: Persona) -> None:
    with unit_of_work(owner.ctx):
        assert {key.tenant_id for key in ApiKey.objects.all()} == {owner.tenant.pk}
        assert [tenant.pk for tenant in Tenant.objects.all()] == [owner.tenant.pk]


def test_the_scope_ends_with_the_transaction(owner: Persona) -> None:
    with unit_of_work(owner.ctx):
        assert scope()["tenant"] == str(owner.tenant.pk)
    assert scope()["tenant"] in {None, ""}
    assert not ApiKey.objects.exists()


def test_the_operators_scope_sees_every_tenant_and_ends_with_the_transaction(owner: Persona, stranger: Persona) -> None:
    with operator_scope("test"):
        assert scope()["role"] == "nooble_operator"
        assert Tenant.objects.filter(pk__in=[owner.tenant.pk, stranger.tenant.pk]).count() == 2
    assert scope()["role"] == "nooble_app"


def test_a_prepared_statement_outside_transactions_survives_a_connection_that_has_died(owner: Persona) -> None:
    ask = "SELECT %s AS said"
    assert fetch_prepared(ask, ["once"]) == [{"said": "once"}]
    ours: Any = connection
    with socket.socket(fileno=os.dup(ours.connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
    # As at the beginning of a request or of a task.
    ours.health_check_enabled, ours.health_check_done = True, False
    assert fetch_prepared(ask, ["again"]) == [{"said": "again"}]


def rename_and_fail(persona: Persona, name: str) -> None:
    with unit_of_work(persona.ctx):
        ApiKey.objects.update(name=name)
        raise RuntimeError


def test_an_error_undoes_the_unit_of_work_and_closes_its_scope(owner: Persona) -> None:
    with pytest.raises(RuntimeError):
        rename_and_fail(owner, "changed")
    with unit_of_work(owner.ctx):
        assert not ApiKey.objects.filter(name="changed").exists()


def test_inside_a_unit_of_work_the_same_scope_is_a_savepoint(owner: Persona) -> None:
    with unit_of_work(owner.ctx):
        with pytest.raises(RuntimeError):
            rename_and_fail(owner, "inner")
        assert not ApiKey.objects.filter(name="inner").exists()
        assert scope()["tenant"] == str(owner.tenant.pk)


def test_one_tenants_unit_of_work_is_refused_inside_anothers(owner: Persona, stranger: Persona) -> None:
    with pytest.raises(ScopeError), unit_of_work(owner.ctx), unit_of_work(stranger.ctx):
        pass


def test_a_payer_who_is_somebody_else_is_in_the_scope_too(owner: Persona, stranger: Persona) -> None:
    shared = owner.ctx.model_copy(update={"payer_tenant_id": stranger.tenant.pk})
    with unit_of_work(shared):
        assert scope() == {"role": "nooble_app", "tenant": str(owner.tenant.pk), "payer": str(stranger.tenant.pk)}
        assert {tenant.pk for tenant in Tenant.objects.all()} == {owner.tenant.pk, stranger.tenant.pk}
