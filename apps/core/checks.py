"""System checks: what must be true of a deployment before row-level security protects anybody."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004
from django.db import connections

from apps.core import roles

_HINT = "Connect as nooble_app; apps/core/sql/roles.sql makes the role and docs/operations.md explains it."


@register(Tags.database)
def application_role(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """The application's role must be bound by the policies: ``manage.py check --database default``."""
    if "default" not in (databases or ()):
        return []
    standing = roles.standing(connections["default"])
    complaints = {
        "nooble.E001": (standing.is_superuser, "is a superuser: row-level security does not bind it."),
        "nooble.E002": (standing.bypasses_policies, "has BYPASSRLS: row-level security does not bind it."),
        "nooble.E003": (standing.owns_tables, "owns tables, or may become their owner, and can change the policies."),
        "nooble.E004": (standing.inherits_operator, "inherits nooble_operator: it sees every tenant at all times."),
        "nooble.E005": (not standing.may_become_operator, "may not become nooble_operator, as the sweeper has to."),
    }
    return [
        Error(f"The role of DATABASE_URL {text}", hint=_HINT, id=identifier)
        for identifier, (applies, text) in complaints.items()
        if applies
    ]


@register(deploy=True)
def owner_role(**_: Any) -> list[CheckMessage]:
    """Migrations need a role of their own: the tables would belong to the application's otherwise."""
    application, owner = (settings.DATABASES[alias].get("USER") for alias in ("default", "owner"))
    if application != owner:
        return []
    return [
        Warning(
            "DATABASE_OWNER_URL is not set, or logs in as the same role as DATABASE_URL.",
            hint="Set it where `manage.py migrate` runs.",
            id="nooble.W001",
        )
    ]
