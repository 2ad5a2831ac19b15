"""The keys that the tokens of a definition are signed and verified with."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from junctor.sql import signing_keys
from junctor.sql.errors import InvalidInput, Problem, SecretUnreadable
from junctor.sql.secrets import Keyring
from junctor.sql.signing_keys import RSA, SHARED

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Key:
    """A key: ``id`` goes into the header of tokens and tells keys apart; ``verifier`` verifies; ``signer`` signs, if it is here."""

    id: str
    verifier: bytes | RSAPublicKey = field(repr=False)
    signer: bytes | RSAPrivateKey | None = field(repr=False)


class Keys(Protocol):
    """The keys of a definition, the one that signs first; ``reload`` says whether there may be others now."""

    algorithm: str

    def all(self) -> Sequence[Key]:
        """Every key that a token may be signed with."""

    def reload(self) -> bool:
        """Looks for other keys, where they may come from elsewhere."""


class GivenKeys:
    """Keys that an administrator has given."""

    def __init__(self, algorithm: str, keys: Sequence[Key]) -> None:
        self.algorithm = algorithm
        self._keys = tuple(keys)

    def all(self) -> Sequence[Key]:
        """Every key that a token may be signed with."""
        return self._keys

    def reload(self) -> bool:
        """They are part of the definition: other keys make another definition."""
        return False


class ClusterKeys:
    """Keys that every server of the cluster makes for itself, out of each key of its keyring, for one definition alone.

    ``password`` goes into them, so that a new one ends what was issued to those who know the old one.
    """

    algorithm = SHARED

    def __init__(self, keyring: Keyring, definition_id: int, password: str) -> None:
        self._keyring = keyring
        self._purpose = f"jwt.{definition_id}"
        self._password = password.encode()
        self._made_of: list[bytes] = []
        self._keys: tuple[Key, ...] = ()

    def all(self) -> Sequence[Key]:
        """Every key that a token may be signed with, as the keyring is now."""
        derived = self._keyring.derive(self._purpose)
        if derived != self._made_of:
            made = [hmac.new(key, self._password, hashlib.sha256).digest() for key in derived]
            self._keys, self._made_of = tuple(_shared(key) for key in made), derived
        return self._keys

    def reload(self) -> bool:
        """Has the keyring look at its file: another server may have a new key already."""
        try:
            return self._keyring.reload()
        except SecretUnreadable as error:
            log.warning(
                "Tokens are verified with the secret keys that are known, for there are no new ones: %s",
                error,
            )
            return False


def keys_of(algorithm: str, signing_key: str, public_keys: str, *, cluster: ClusterKeys) -> Keys:
    """The keys of a definition with these fields; those of the ``cluster`` when it has none.  Raises ``InvalidInput``."""
    if problems := signing_keys.problems(algorithm, signing_key, public_keys):
        raise InvalidInput(Problem(name, problem) for name, problem in problems)
    if algorithm == SHARED:
        if not signing_key.strip():
            return cluster
        return GivenKeys(SHARED, [_shared(key) for key in signing_keys.shared_keys(signing_key)])
    found = {}
    if signing_key:
        private = signing_keys.private_key(signing_key)
        own = _rsa(private.public_key(), private)
        found[own.id] = own
    for public in signing_keys.public_keys(public_keys):
        key = _rsa(public, None)
        found.setdefault(key.id, key)
    return GivenKeys(RSA, list(found.values()))


def _shared(key: bytes) -> Key:
    """A shared key under an id that is the same wherever the key is, and that tells no more of it than a signature does."""
    return Key(hmac.new(key, b"junctor.jwt.kid", hashlib.sha256).hexdigest()[:32], key, key)


def _rsa(public: RSAPublicKey, private: RSAPrivateKey | None) -> Key:
    """An RSA key under its thumbprint (RFC 7638)."""
    numbers = public.public_numbers()
    members: dict[str, Any] = {"e": _number(numbers.e), "kty": "RSA", "n": _number(numbers.n)}
    thumbprint = hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest()
    return Key(urlsafe_b64encode(thumbprint).rstrip(b"=").decode(), public, private)


def _number(value: int) -> str:
    raw = value.to_bytes((value.bit_length() + 7) // 8)
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
