"""A service that an operator calls works with the tenant's rights, and the operator has its own again afterwards."""

import pytest
from django.db import IntegrityError, transaction

from apps.core.db import ScopeError, fetch_one, operator_scope, unit_of_work
from apps.tenants import services
from apps.tenants.models import ApiKey, Tenant
from tests.personas import Persona


def role() -> str:
    row = fetch_one("SELECT current_user::text AS role")
    assert row is not None
    return str(row["role"])


def visible(*personas: Persona) -> int:
    return ApiKey.objects.filter(tenant__in=[persona.tenant.pk for persona in personas]).count()


def test_inside_an_operators_scope_a_unit_of_work_sees_its_tenant_only(owner: Persona, stranger: Persona) -> None:
    with operator_scope("test"):
        assert visible(owner, stranger) == 2
        with unit_of_work(owner.ctx):
            assert role() == "nooble_app"
            assert visible(owner, stranger) == 1
        assert visible(owner, stranger) == 2


def test_the_operator_has_its_rights_back_after_an_error(owner: Persona, stranger: Persona) -> None:
    with operator_scope("test"):
        with pytest.raises(IntegrityError), unit_of_work(owner.ctx):
            ApiKey.objects.create(tenant=owner.tenant, name="key", prefix=owner.key.split("_")[1], scopes=[])
        assert role() == "nooble_operator"
        assert visible(owner, stranger) == 2


def test_what_a_unit_of_work_did_is_undone_with_the_operators_transaction(owner: Persona) -> None:
    with operator_scope("test"):
        services.issue_key(owner.ctx, name="second", scopes=["chat"])
        assert visible(owner) == 2
        transaction.set_rollback(True)
    with unit_of_work(owner.ctx):
        assert visible(owner) == 1


def test_units_of_work_follow_each_other_in_one_operators_scope(owner: Persona, stranger: Persona) -> None:
    with operator_scope("test"):
        for persona in (owner, stranger, owner):
            with unit_of_work(persona.ctx), unit_of_work(persona.ctx):
                assert visible(owner, stranger) == 1
                assert Tenant.objects.get().pk == persona.tenant.pk


def test_a_unit_of_work_does_not_lead_to_another_tenant_or_to_the_operator(owner: Persona, stranger: Persona) -> None:
    with operator_scope("test"), unit_of_work(owner.ctx):
        with pytest.raises(ScopeError), unit_of_work(stranger.ctx):
            pass
        with pytest.raises(ScopeError), operator_scope("test"):
            pass


def test_the_connection_is_the_applications_again_afterwards(owner: Persona) -> None:
    with operator_scope("test"), unit_of_work(owner.ctx):
        pass
    assert role() == "nooble_app"
