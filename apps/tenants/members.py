"""People of a tenant."""

from uuid import UUID

from django.db import IntegrityError, transaction

from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work
from apps.core.errors import ConflictError, NotFoundError
from apps.tenants.models import Member, User


class AlreadyMemberError(ConflictError):
    """This person is a member already."""

    code = "already_member"


def add_member(ctx: ExecutionContext, *, username: str, role: str) -> Member:
    """Make a person who has an account a member of the context's tenant."""
    # Operators are not a tenant's to name.
    user = User.objects.filter(username=username, is_active=True, is_staff=False).first()
    if user is None:
        raise NotFoundError(f"Nobody has the user name “{username}”. An operator creates accounts in the admin.")
    with unit_of_work(ctx):
        try:
            with transaction.atomic():
                return Member.objects.create(tenant_id=ctx.tenant_id, user=user, role=role)
        except IntegrityError as error:
            raise AlreadyMemberError("Remove the member first to give another role.") from error


def remove_member(ctx: ExecutionContext, member_id: UUID) -> None:
    """Take a person's place in the context's tenant away; the account stays."""
    with unit_of_work(ctx):
        if not Member.objects.filter(pk=member_id).delete()[0]:
            raise NotFoundError("There is no such member.")
