"""People of a tenant.

Accounts are the platform's: a person may belong to several tenants, or to one that must not be known here. So a tenant
looks no account up. It invites by name, is told the same whether anybody has that name, and an operator, who makes the
accounts, says in the admin whose it is. Until then a member shows nothing but what the tenant itself said.
"""

from uuid import UUID

from django.db import IntegrityError, transaction

from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work
from apps.core.errors import ConflictError, NotFoundError
from apps.tenants.models import Member


class AlreadyMemberError(ConflictError):
    """This person is a member, or invited, already."""

    code = "already_member"


def invite_member(ctx: ExecutionContext, *, username: str, role: str) -> Member:
    """Invite a person into the context's tenant; raises AlreadyMemberError, of which its own members alone decide."""
    already = AlreadyMemberError(f"Remove “{username}” first to give another role.")
    with unit_of_work(ctx):
        if Member.objects.filter(user__username=username).exists():
            raise already
        try:
            with transaction.atomic():
                return Member.objects.create(tenant_id=ctx.tenant_id, invited_as=username, role=role)
        except IntegrityError as error:
            raise already from error


def remove_member(ctx: ExecutionContext, member_id: UUID) -> None:
    """Take a person's place, or an invitation, away from the context's tenant; the account stays."""
    with unit_of_work(ctx):
        if not Member.objects.filter(pk=member_id).delete()[0]:
            raise NotFoundError("There is no such member.")
