"""Whose key a call is made with: the payer's own, or the deployment's.

It is resolved in the process that calls, for each purchase anew, and stands in nothing that is stored or sent.
"""

from typing import Any

from apps.core.db import Scope
from apps.providers.base import Credential
from apps.tenants import credentials


def of_payer(scope: Scope, provider: str) -> Credential | None:
    """The payer's own key; None: the deployment's, if it has one. Raises CredentialUnreadableError."""
    key = credentials.of_payer(scope, provider)
    return Credential(api_key=key.secret, base_url=key.base_url) if key else None


def facts(provider: str, credential: Credential | None) -> dict[str, Any]:
    """What an entry says of the key that its call was made with; nothing, where none is needed."""
    if not credentials.takes_key(provider):
        return {}
    return {"credential": "tenant" if credential else "deployment"}
