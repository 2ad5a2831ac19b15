"""The keys of JSON Web Tokens as texts: what they are, and what is wrong with those that are none.

Every function raises ``ValueError`` with what a field "must" or "has", fit for a ``Problem``; never with a part of a key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

Key = TypeVar("Key", bytes, RSAPublicKey)
SHARED, RSA = "HS256", "RS256"
MIN_SHARED = 32  # bytes; as long as the digest (RFC 7518, section 3.2)
MIN_RSA, MAX_RSA = (
    2048,
    4096,
)  # bits; shorter ones are weak (RFC 7518, section 3.3), longer ones would hold the others up
MAX_KEYS = 20  # of one definition: a token that does not say which one it was signed with is tried with each
PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----[^-]*-----END \1-----")
PUBLIC = frozenset({"PUBLIC KEY", "RSA PUBLIC KEY"})


def shared_keys(text: str) -> list[bytes]:
    """The shared keys in ``text``, one a line; white space around them is none of theirs, empty lines are no keys."""
    found = [line.strip().encode() for line in text.splitlines() if line.strip()]
    if any(key.startswith(b"-----BEGIN") for key in found):
        raise ValueError("is in PEM, which HS256 does not use: its keys are texts that both sides know.")
    if any(len(key) < MIN_SHARED for key in found):
        raise ValueError(f"must have at least {MIN_SHARED} bytes for HS256, in each line that it has.")
    return _few(found)


def private_key(text: str) -> RSAPrivateKey:
    """The RSA private key in ``text``."""
    try:
        # Whether its numbers are primes is not asked, which takes seconds; a signature below tells whether they fit.
        key = serialization.load_pem_private_key(text.encode(), None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        raise ValueError("must be a private key without a passphrase.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("must be an RSA private key in PEM for RS256.") from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("must be an RSA key for RS256; this is one of another kind.")
    _check_size(key.key_size)
    try:
        key.public_key().verify(
            key.sign(b"", padding.PKCS1v15(), hashes.SHA256()), b"", padding.PKCS1v15(), hashes.SHA256()
        )
    except (ValueError, InvalidSignature):
        raise ValueError("is damaged: what it signs cannot be verified.") from None
    return key


def public_keys(text: str) -> list[RSAPublicKey]:
    """The RSA public keys in ``text``, one PEM block after the other; none in an empty text."""
    found = []
    for block in PEM.finditer(text):
        if "PRIVATE" in block[1]:
            raise ValueError("has a private key: that belongs into the signing key, where it is kept secret.")
        if block[1] not in PUBLIC:
            raise ValueError(f"has a {block[1].lower()}; there must be nothing but public keys in PEM.")
        found.append(_public_key(block[0]))
    if PEM.sub("", text).strip():
        raise ValueError("must be public keys in PEM, each from its BEGIN to its END line, and nothing else.")
    return _few(found)


def _public_key(block: str) -> RSAPublicKey:
    try:
        key = serialization.load_pem_public_key(block.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(
            "has a key that cannot be read; there must be nothing but public keys in PEM."
        ) from None
    if not isinstance(key, RSAPublicKey):
        raise ValueError("must have RSA keys for RS256; there is one of another kind.")
    _check_size(key.key_size)
    return key


def _check_size(bits: int) -> None:
    if not MIN_RSA <= bits <= MAX_RSA:
        raise ValueError(f"must have RSA keys of {MIN_RSA} to {MAX_RSA} bits; there is one of {bits}.")


def _few(keys: list[Key]) -> list[Key]:
    if len(keys) > MAX_KEYS:
        raise ValueError(f"must not have more than {MAX_KEYS} keys, has {len(keys)}.")
    return keys


def problems(algorithm: str, signing_key: str | None, public: str) -> Sequence[tuple[str, str]]:
    """What is wrong with the keys of a definition, by field; a ``signing_key`` of None cannot be looked at."""
    found = []
    try:
        if signing_key and algorithm == SHARED:
            shared_keys(signing_key)
        elif signing_key:
            private_key(signing_key)
    except ValueError as error:
        found.append(("signing_key", str(error)))
    try:
        if algorithm == SHARED and public.strip():
            raise ValueError("must be empty for HS256, whose keys are shared ones.")
        if not public_keys(public) and algorithm == RSA and signing_key == "":
            raise ValueError(
                "or a signing key must be given for RS256: without either, no token can be verified."
            )
    except ValueError as error:
        found.append(("public_keys", str(error)))
    return found
