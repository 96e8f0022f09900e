"""Identifiers: UUIDv7 (RFC 9562), so that rows lie in the index in the order in which they came."""

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """A new UUIDv7."""
    return uuid7()


#: Stands for "none" where a key may hold no null (statistics rows).
NO_ID = UUID(int=0)
