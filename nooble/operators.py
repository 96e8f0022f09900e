"""The operator as whom a developer tries the admin."""

import secrets

from apps.tenants.models import User

DEMO_OPERATOR = "demo-operator"


def demo_password() -> str:
    """A new password of the demonstration's operator, who is made at the first use; the one before opens nothing.

    Only its hash is stored. The account may do everything: it is for a developer's machine.
    """
    password = secrets.token_urlsafe(12)
    operator, _ = User.objects.get_or_create(username=DEMO_OPERATOR)
    operator.is_active = operator.is_staff = operator.is_superuser = True
    operator.set_password(password)
    operator.save(update_fields=["is_active", "is_staff", "is_superuser", "password"])
    return password
