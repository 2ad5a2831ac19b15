"""RSA keys as texts, as administrators give them."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

_PEM = serialization.Encoding.PEM


def private_pem(key: RSAPrivateKey, passphrase: bytes = b"") -> str:
    """A private key in PEM, encrypted when a passphrase is given."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


def public_pem(key: RSAPrivateKey) -> str:
    """The public key of a private one in PEM."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(_PEM, form).decode()
