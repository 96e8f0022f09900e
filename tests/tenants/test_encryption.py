"""What is stored of a secret: nothing that can be read without its key, and nothing that is good for another row."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from apps.tenants import encryption

SECRET = "sk-a-secret-of-a-tenant"
OLD, NEW = bytes(range(32)), bytes(range(32, 64))
TENANT = uuid4()


@pytest.fixture(autouse=True)
def _keys(settings: Any) -> None:
    settings.CREDENTIAL_KEYS = {"old": OLD}


def encrypted() -> bytes:
    return encryption.encrypt(SECRET, tenant_id=TENANT, provider="openai")


def decrypted(stored: bytes, *, tenant_id: UUID = TENANT, provider: str = "openai") -> str:
    return encryption.decrypt(stored, tenant_id=tenant_id, provider=provider)


def test_a_secret_comes_back_and_cannot_be_seen_in_between() -> None:
    stored = encrypted()
    assert SECRET.encode() not in stored
    assert decrypted(stored) == SECRET


def test_no_two_are_alike() -> None:
    assert encrypted() != encrypted()


def test_it_is_good_for_its_own_row_alone() -> None:
    stored = encrypted()
    for row in ({"tenant_id": uuid4()}, {"provider": "groq"}):
        with pytest.raises(encryption.UnreadableError):
            decrypted(stored, **row)


def test_the_first_key_encrypts_and_each_decrypts(settings: Any) -> None:
    before = encrypted()
    settings.CREDENTIAL_KEYS = {"new": NEW, "old": OLD}
    after = encrypted()
    assert [encryption.key_name(stored) for stored in (before, after)] == ["old", "new"]
    assert decrypted(before) == decrypted(after) == SECRET


def test_without_its_key_it_is_named_and_not_read(settings: Any) -> None:
    stored = encrypted()
    settings.CREDENTIAL_KEYS = {"new": NEW}
    with pytest.raises(encryption.UnreadableError, match="'old'"):
        decrypted(stored)


def test_another_key_of_the_same_name_does_not_read_it(settings: Any) -> None:
    stored = encrypted()
    settings.CREDENTIAL_KEYS = {"old": NEW}
    with pytest.raises(encryption.UnreadableError):
        decrypted(stored)


def test_one_that_was_changed_anywhere_is_not_read() -> None:
    stored = encrypted()
    for place in range(len(stored)):
        changed = bytearray(stored)
        changed[place] ^= 1
        with pytest.raises(encryption.UnreadableError):
            decrypted(bytes(changed))


@pytest.mark.parametrize("stored", [b"", b"\x01", b"\x01\x00", b"\x01\x03old", b"\x02\x03old" + bytes(40)])
def test_what_is_none_of_ours_is_not_read(stored: bytes) -> None:
    with pytest.raises(encryption.UnreadableError):
        decrypted(stored)
