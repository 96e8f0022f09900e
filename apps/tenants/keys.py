"""API keys: how they look, how they are stored, how they are checked.

``nbl_<prefix>_<secret>``: the prefix finds the row, the secret proves it. The secret has 256 random bits, so a plain
SHA-256 keeps it: there is nothing to guess that a slow hash would slow down.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

PREFIX_BYTES = 5
SECRET_BYTES = 32


@dataclass(frozen=True)
class PresentedKey:
    """A key as a client presents it."""

    prefix: str
    secret: str = field(repr=False)

    def __str__(self) -> str:
        return f"nbl_{self.prefix}_{self.secret}"

    def secret_hash(self) -> str:
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def proves(self, secret_hash: str) -> bool:
        """Whether the secret is the one that was hashed; in constant time."""
        return hmac.compare_digest(self.secret_hash(), secret_hash)


def generate() -> PresentedKey:
    return PresentedKey(prefix=secrets.token_hex(PREFIX_BYTES), secret=secrets.token_hex(SECRET_BYTES))


def parse(text: str) -> PresentedKey | None:
    """The key in a string a client sent; None when it does not look like one."""
    scheme, _, rest = text.partition("_")
    prefix, _, secret = rest.partition("_")
    if scheme != "nbl" or len(prefix) != 2 * PREFIX_BYTES or len(secret) != 2 * SECRET_BYTES or not text.isascii():
        return None
    return PresentedKey(prefix=prefix, secret=secret)
