"""What Single Sign-On stores of secrets: keyed digests of tokens, ciphertext of personal data, and an index of e-mail addresses.

All keys come from the cluster's keyring, one for each purpose.  The newest signs and encrypts, each verifies and decrypts, so that a key
that comes in front ends nothing.
"""

from __future__ import annotations

import secrets
import unicodedata
from typing import Final

from junctor.sql.blind_index import EMAIL, digest, email_key
from junctor.sql.secrets import Keyring

TOKEN_BYTES: Final = 32
ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32
MAX_TOKEN: Final = 200  # characters


class Protection:
    """Digests and ciphertext under the keys of a cluster."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._state: tuple[str, ...] = ()
        self._keys: dict[str, list[bytes]] = {}

    def mac(self, purpose: str, value: str) -> bytes:
        """The digest that is stored of ``value``: 32 bytes, another one for each purpose."""
        return self.macs(purpose, value)[0]

    def macs(self, purpose: str, value: str) -> list[bytes]:
        """The digests under each key of the ring, the newest first: what may be stored of ``value``."""
        return [digest(key, value) for key in self._derived(purpose)]

    def seal(self, value: str, field: str) -> str:
        """``value`` encrypted for ``field``, 'table.column'; '' stays ''."""
        return self._keyring.encrypt(value, field)

    def unseal(self, stored: str, field: str) -> str:
        """What was sealed for ``field``.  Raises ``SecretUnreadable``."""
        return self._keyring.decrypt(stored, field).reveal()

    def is_current(self, stored: str) -> bool:
        """Whether the newest key sealed it."""
        return self._keyring.is_current(stored)

    def email_macs(self, email: str) -> list[bytes]:
        """What an e-mail address may be indexed by, the newest first."""
        return self.macs(EMAIL, email_key(email))

    def _derived(self, purpose: str) -> list[bytes]:
        state = self._keyring.ids
        if state != self._state:
            self._keys, self._state = {}, state
        keys = self._keys.get(purpose)
        if keys is None:
            keys = self._keys[purpose] = self._keyring.derive(purpose)
        return keys


def username_key(username: str) -> str:
    """What a user name is looked up by: names that look alike to a machine's eye are one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold())


def new_token(prefix: str) -> str:
    """A token of 256 random bits: the prefix and 52 characters of Crockford's base 32."""
    return prefix + base32(secrets.token_bytes(TOKEN_BYTES))


def new_user_id() -> str:
    """The id of a new user: 'zusr' and 26 characters, of 128 random bits."""
    return "zusr" + base32(secrets.token_bytes(16))


def base32(data: bytes) -> str:
    """Crockford's base 32 in lower case, without padding."""
    number, characters = int.from_bytes(data, "big"), []
    for _ in range((len(data) * 8 + 4) // 5):
        number, digit = divmod(number, 32)
        characters.append(ALPHABET[digit])
    return "".join(reversed(characters))
