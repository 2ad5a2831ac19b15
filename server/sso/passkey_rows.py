"""Passkeys in the database."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING, Any, Final

import orjson
from sqlalchemy import Connection, Row, text
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url
from webauthn.registration.verify_registration_response import VerifiedRegistration

from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.records import User

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

MAX_ID: Final = 1400  # characters

_IDS = text(
    "SELECT credential_id FROM sso_passkey WHERE cluster_id = :cluster_id AND user_id = :user ORDER BY id"
)
_IDS_OF_NAME = text(
    "SELECT passkey.credential_id FROM sso_passkey passkey JOIN sso_user person ON person.id = passkey.user_id"
    " WHERE person.cluster_id = :cluster_id AND person.username_key = :key ORDER BY passkey.id"
)
_ALL = text(
    "SELECT credential_id, label, transports, is_backed_up, creation_time, last_used FROM sso_passkey"
    " WHERE cluster_id = :cluster_id AND user_id = :user ORDER BY id"
)
_LOCK_USER = text(
    "SELECT is_totp_enabled FROM sso_user WHERE cluster_id = :cluster_id AND id = :user FOR NO KEY UPDATE"
)
_COUNT = text("SELECT count(*) FROM sso_passkey WHERE cluster_id = :cluster_id AND user_id = :user")
_INSERT = text(
    "INSERT INTO sso_passkey"
    " (cluster_id, user_id, credential_id, public_key, sign_count, label, transports, is_backed_up)"
    " VALUES (:cluster_id, :user, :credential_id, :public_key, :sign_count, :label, CAST(:transports AS jsonb),"
    " :is_backed_up) ON CONFLICT DO NOTHING RETURNING id"
)
_RENAME = text(
    "UPDATE sso_passkey SET label = :label"
    " WHERE cluster_id = :cluster_id AND user_id = :user AND credential_id = :credential_id RETURNING id"
)
_DELETE = text(
    "DELETE FROM sso_passkey"
    " WHERE cluster_id = :cluster_id AND user_id = :user AND credential_id = :credential_id RETURNING id"
)
_LOCK = text(
    "SELECT passkey.id, passkey.user_id AS owner, public_key, sign_count, person.user_id, person.username"
    " FROM sso_passkey passkey JOIN sso_user person ON person.id = passkey.user_id"
    " WHERE passkey.cluster_id = :cluster_id AND credential_id = :credential_id FOR NO KEY UPDATE OF passkey"
)
_USED = text(
    "UPDATE sso_passkey SET sign_count = :sign_count, is_backed_up = :is_backed_up, last_used = now() WHERE id = :id"
)


class PasskeyRows:
    """Statements about passkeys, each in the caller's transaction."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def ids_of(self, connection: Connection, user: User) -> list[bytes]:
        """The credential ids of a user."""
        return [bytes(id_) for id_ in connection.execute(_IDS, self._of(user)).scalars()]

    def ids_of_name(self, connection: Connection, key: str) -> list[bytes]:
        """The credential ids of the user of a name, none if there is no such user."""
        found = connection.execute(_IDS_OF_NAME, {"cluster_id": self._sso.store.cluster_id, "key": key})
        return [bytes(id_) for id_ in found.scalars()]

    def all_of(self, connection: Connection, user: User) -> list[Row[Any]]:
        """All about the passkeys of a user but their keys, the oldest first."""
        return list(connection.execute(_ALL, self._of(user)))

    def lock_and_count(self, connection: Connection, user: User) -> tuple[bool, int]:
        """Whether a user has one-time passwords, and how many passkeys; nobody else changes either until the transaction ends."""
        has_totp = connection.execute(_LOCK_USER, self._of(user)).scalar()
        return bool(has_totp), int(connection.execute(_COUNT, self._of(user)).scalar_one())

    def insert(
        self,
        connection: Connection,
        user: User,
        verified: VerifiedRegistration,
        *,
        label: str,
        transports: list[str],
    ) -> None:
        """A new passkey.  Raises ``ValidationError`` (E008001) if it is known already."""
        values = {
            **self._of(user),
            "credential_id": verified.credential_id,
            "public_key": verified.credential_public_key,
            "sign_count": verified.sign_count,
            "label": label,
            "transports": orjson.dumps(transports).decode(),
            "is_backed_up": verified.credential_backed_up,
        }
        if connection.execute(_INSERT, values).first() is None:
            reason = "This passkey is registered already."
            raise ValidationError(status_code.common.invalid_operation, True, reason=reason)

    def rename(self, connection: Connection, user: User, id_: str, label: str) -> None:
        """Gives a passkey another label.  Raises ``ValidationError`` (E011002) if the user has no such passkey."""
        self._must_be(connection.execute(_RENAME, {**self._one(user, id_), "label": label}).first())

    def delete(self, connection: Connection, user: User, id_: str) -> int:
        """Deletes a passkey; how many are left.  Raises ``ValidationError`` (E011002) if the user has no such passkey."""
        self._must_be(connection.execute(_DELETE, self._one(user, id_)).first())
        return int(connection.execute(_COUNT, self._of(user)).scalar_one())

    def lock(self, connection: Connection, credential_id: bytes) -> Row[Any] | None:
        """A passkey with its owner, which nobody else uses until the transaction ends."""
        values = {"cluster_id": self._sso.store.cluster_id, "credential_id": credential_id}
        return connection.execute(_LOCK, values).first()

    def used(self, connection: Connection, row_id: int, *, sign_count: int, is_backed_up: bool) -> None:
        """Remembers how often a passkey says that it was used."""
        values = {"id": row_id, "sign_count": sign_count, "is_backed_up": is_backed_up}
        connection.execute(_USED, values)

    def _of(self, user: User) -> dict[str, Any]:
        return {"cluster_id": self._sso.store.cluster_id, "user": user.id}

    def _one(self, user: User, id_: str) -> dict[str, Any]:
        return {**self._of(user), "credential_id": credential_id_of(id_)}

    @staticmethod
    def _must_be(row: Row[Any] | None) -> None:
        if row is None:
            reason = "The user has no such passkey."
            raise ValidationError(status_code.second_factor.not_enrolled, True, reason=reason)


def view(row: Row[Any]) -> dict[str, Any]:
    """What users see of a passkey."""
    return {
        "id": passkey_id(bytes(row.credential_id)),
        "label": row.label,
        "transports": row.transports,
        "is_backed_up": row.is_backed_up,
        "creation_time": row.creation_time,
        "last_used": row.last_used,
    }


def passkey_id(credential_id: bytes) -> str:
    """How callers name a passkey: what browsers know it by."""
    return bytes_to_base64url(credential_id)


def credential_id_of(id_: str) -> bytes:
    """What a passkey's name stands for; b'', which none is, for what is no name."""
    try:
        return base64url_to_bytes(id_) if len(id_) <= MAX_ID else b""
    except (binascii.Error, ValueError):
        return b""
