"""Secrets of tenants as the database keeps them: encrypted, so that a copy of it tells nobody a key.

AES-256-GCM. What is stored is a version, the name of the key that encrypted it, a nonce of its own, and what the cipher
made; whose secret it is and for which provider is authenticated with it, so that a row's secret is good for that row
alone. The keys are the deployment's (``CREDENTIAL_KEYS``): the first encrypts, each decrypts what it encrypted.
"""

import os
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

#: Before everything: how the rest is laid out. One byte for the length of the key's name, the name, the nonce.
_VERSION = b"\x01"
#: What GCM is made for. Random ones may meet after 2**32 secrets under one key (NIST SP 800-38D, 8.3).
_NONCE_BYTES = 12


class UnreadableError(ValueError):
    """A secret cannot be read; its text says why, for operators alone: it names the deployment's keys."""


def encrypt(secret: str, *, tenant_id: UUID, provider: str) -> bytes:
    """The secret as it may be stored, under the first key."""
    name = first_key()
    head = _VERSION + bytes([len(name)]) + name.encode()
    nonce = os.urandom(_NONCE_BYTES)
    cipher = AESGCM(settings.CREDENTIAL_KEYS[name])
    return head + nonce + cipher.encrypt(nonce, secret.encode(), _bound_to(head, tenant_id, provider))


def decrypt(encrypted: bytes, *, tenant_id: UUID, provider: str) -> str:
    """The secret again; raises UnreadableError when its key is gone, or it is not this row's."""
    name = key_name(encrypted)
    end_of_head = 2 + len(name)
    head, rest = encrypted[:end_of_head], encrypted[end_of_head:]
    nonce, sealed = rest[:_NONCE_BYTES], rest[_NONCE_BYTES:]
    key = settings.CREDENTIAL_KEYS.get(name)
    if key is None:
        raise UnreadableError(f"CREDENTIAL_KEYS lacks the key {name!r}, with which it was encrypted.")
    try:
        return AESGCM(key).decrypt(nonce, sealed, _bound_to(head, tenant_id, provider)).decode()
    except (InvalidTag, ValueError) as error:
        raise UnreadableError(f"It was damaged, or the key {name!r} is not the one that encrypted it.") from error


def first_key() -> str:
    """The name of the key that encrypts."""
    names: list[str] = list(settings.CREDENTIAL_KEYS)
    return names[0]


def key_name(encrypted: bytes) -> str:
    """The name of the key that encrypted it; raises UnreadableError."""
    length = encrypted[1] if len(encrypted) > 1 else 0
    if encrypted[:1] != _VERSION or not length:
        raise UnreadableError("It is not laid out as this version does it.")
    return encrypted[2 : 2 + length].decode("ascii", "replace")


def _bound_to(head: bytes, tenant_id: UUID, provider: str) -> bytes:
    return head + tenant_id.bytes + provider.encode()
