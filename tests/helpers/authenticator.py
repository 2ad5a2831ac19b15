"""An authenticator for passkeys, in software: answers a page's options as a browser with a security key would."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url

PRESENT, VERIFIED, BACKUP_ELIGIBLE, BACKED_UP, ATTESTED = 0x01, 0x04, 0x08, 0x10, 0x40


@dataclass
class _Key:
    id: bytes
    rp_id: str
    handle: bytes
    private: ec.EllipticCurvePrivateKey
    count: int = 0


class Authenticator:
    """Keys on P-256, one for each registration; tests change attributes to have it misbehave."""

    def __init__(
        self,
        origin: str,
        *,
        is_verifying: bool = True,
        is_synced: bool = False,
        counts: bool = True,
        id_size: int = 32,
    ) -> None:
        self.origin = origin
        self.is_verifying = is_verifying
        self.is_synced = is_synced
        self.counts = counts
        self.id_size = id_size
        self.keys: list[_Key] = []

    def create(self, options: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """The answer to ``navigator.credentials.create``; ``changes`` are to the client data."""
        excluded = {descriptor["id"] for descriptor in options["excludeCredentials"]}
        assert not excluded & {bytes_to_base64url(key.id) for key in self.keys}, "registered already"
        private = ec.generate_private_key(ec.SECP256R1())
        handle = base64url_to_bytes(options["user"]["id"])
        key = _Key(secrets.token_bytes(self.id_size), options["rp"]["id"], handle, private)
        self.keys.append(key)
        numbers = private.public_key().public_numbers()
        x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
        cose = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: x, -3: y})
        attested = bytes(16) + len(key.id).to_bytes(2, "big") + key.id + cose
        attestation = {"fmt": "none", "attStmt": {}, "authData": self._data(key, ATTESTED) + attested}
        response = {
            "clientDataJSON": bytes_to_base64url(self._client_data("webauthn.create", options, changes)),
            "attestationObject": bytes_to_base64url(cbor2.dumps(attestation)),
            "transports": ["usb", "nfc"],
        }
        return self._credential(key, response)

    def get(self, options: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """The answer to ``navigator.credentials.get`` with a key that is allowed, the newest one if any is."""
        allowed = {descriptor["id"] for descriptor in options["allowCredentials"]}
        key = next(key for key in reversed(self.keys) if not allowed or bytes_to_base64url(key.id) in allowed)
        key.count += 1
        client_data = self._client_data("webauthn.get", options, changes)
        data = self._data(key, 0)
        signed = data + hashlib.sha256(client_data).digest()
        response = {
            "clientDataJSON": bytes_to_base64url(client_data),
            "authenticatorData": bytes_to_base64url(data),
            "signature": bytes_to_base64url(key.private.sign(signed, ec.ECDSA(hashes.SHA256()))),
            "userHandle": bytes_to_base64url(key.handle),
        }
        return self._credential(key, response)

    def _client_data(self, type_: str, options: dict[str, Any], changes: dict[str, Any]) -> bytes:
        data = {"type": type_, "challenge": options["challenge"], "origin": self.origin, "crossOrigin": False}
        return json.dumps(data | changes).encode()

    def _data(self, key: _Key, flags: int) -> bytes:
        flags |= PRESENT | (VERIFIED if self.is_verifying else 0)
        flags |= BACKUP_ELIGIBLE | BACKED_UP if self.is_synced else 0
        count = key.count if self.counts else 0
        return hashlib.sha256(key.rp_id.encode()).digest() + bytes([flags]) + count.to_bytes(4, "big")

    @staticmethod
    def _credential(key: _Key, response: dict[str, Any]) -> dict[str, Any]:
        id_ = bytes_to_base64url(key.id)
        return {"id": id_, "rawId": id_, "type": "public-key", "response": response}
