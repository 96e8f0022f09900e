"""A tenant learns of accounts what an operator has said is its own, and nothing else."""

from typing import Any

import pytest
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext

from apps.core.db import unit_of_work
from apps.core.ids import new_id
from apps.tenants.models import Member, User
from tests.personas import Persona

MEMBERS = "/api/v1/members"


@pytest.fixture
def account(database: None) -> User:
    """A person whom no tenant knows yet."""
    name = f"ada-{new_id()}"
    return User.objects.create_user(name, f"{name}@nooble.example")


def invite(persona: Persona, name: str) -> Any:
    return persona.api.post(MEMBERS, {"username": name, "role": "admin"}, format="json")


def accept(persona: Persona, user: User) -> None:
    """What an operator does in the admin."""
    with unit_of_work(persona.ctx):
        Member.objects.filter(invited_as=user.username).update(user=user)


def listed(persona: Persona) -> list[Any]:
    return list(persona.api.get(MEMBERS).json()["results"])


@pytest.mark.parametrize(
    "state", [{}, {"is_active": False}, {"is_staff": True}], ids=["person", "inactive", "operator"]
)
def test_an_answer_says_nothing_of_an_account(owner: Persona, account: User, state: dict[str, bool]) -> None:
    User.objects.filter(pk=account.pk).update(**state)
    names = {account.username: account, f"nobody-{new_id()}": None}
    answers, statements = [], []
    for name in names:
        with CaptureQueriesContext(connection) as queries:
            response = invite(owner, name)
        answers.append((response.status_code, without_names(response.json())))
        statements.append(len(queries))
    assert answers == [(201, {"email": "", "role": "admin", "accepted": False})] * 2
    assert len(set(statements)) == 1
    assert [without_names(member) for member in listed(owner)] == [answers[0][1]] * 2


def test_another_tenants_member_is_invited_as_anybody_is(owner: Persona, stranger: Persona, account: User) -> None:
    invite(stranger, account.username)
    accept(stranger, account)
    assert without_names(invite(owner, account.username).json()) == {"email": "", "role": "admin", "accepted": False}
    [member] = listed(stranger)
    assert (member["username"], member["email"], member["accepted"]) == (account.username, account.email, True)


def test_nobody_is_invited_twice(owner: Persona, account: User) -> None:
    invite(owner, account.username)
    again = invite(owner, account.username)
    accept(owner, account)
    after = invite(owner, account.username)
    for response in (again, after):
        assert (response.status_code, response.json()["code"]) == (409, "already_member")
    assert len(listed(owner)) == 1


def test_an_invitation_can_be_taken_back_and_made_again(owner: Persona, account: User) -> None:
    invited = invite(owner, account.username).json()
    assert owner.api.delete(f"{MEMBERS}/{invited['id']}").status_code == 204
    assert invite(owner, account.username).status_code == 201
    assert User.objects.filter(pk=account.pk).exists()


def test_a_member_has_a_name_or_an_account(owner: Persona) -> None:
    with pytest.raises(IntegrityError, match="a_member_has_a_name"), unit_of_work(owner.ctx):
        Member.objects.create(tenant_id=owner.ctx.tenant_id)


def without_names(member: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in member.items() if name not in {"id", "username", "created_at"}}
