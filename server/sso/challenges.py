"""Challenges that passkeys answer: stored as digests, good for one answer."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, text
from webauthn.helpers import bytes_to_base64url

from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.records import Session
from junctor.server.sso.relying_party import TIMEOUT, challenge_of
from junctor.sql.engine import database_errors

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

CHALLENGE_BYTES: Final = 32
PURPOSE: Final = "sso.challenge"
FIELD: Final = "sso_challenge.data"

_INSERT = text(
    "INSERT INTO sso_challenge (cluster_id, user_id, purpose, key_mac, data_sealed, expiration_time)"
    " VALUES (:cluster_id, :user_id, :purpose, :mac, :data, now() + make_interval(secs => :seconds))"
)
_TAKE = text(
    "DELETE FROM sso_challenge WHERE cluster_id = :cluster_id AND key_mac = ANY(:macs) AND purpose = :purpose"
    " RETURNING data_sealed, expiration_time > now() AS is_in_time"
)


class Challenges:
    """What was asked of passkeys and not answered yet; maintenance deletes what nobody answered."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def issue(self, connection: Connection, purpose: str, *, session: Session | None = None) -> bytes:
        """A new challenge of 256 random bits, which this session alone may have answered if it is given."""
        challenge, sso = secrets.token_bytes(CHALLENGE_BYTES), self._sso
        values = {
            "cluster_id": sso.store.cluster_id,
            "user_id": session.user_id if session else None,
            "purpose": purpose,
            "mac": sso.protection.mac(PURPOSE, bytes_to_base64url(challenge)),
            "data": sso.protection.seal(_owner(session), FIELD),
            "seconds": TIMEOUT,
        }
        connection.execute(_INSERT, values)
        return challenge

    def take(self, credential: Mapping[str, Any], purpose: str, *, session: Session | None = None) -> bytes:
        """The challenge that an answer is to; whatever becomes of the answer, there is no second one.

        Raises ``ValidationError`` (E011001) if there is no such challenge, it is too late, or it was another session's.
        """
        challenge, sso = challenge_of(credential), self._sso
        values = {
            "cluster_id": sso.store.cluster_id,
            "macs": sso.protection.macs(PURPOSE, bytes_to_base64url(challenge)),
            "purpose": purpose,
        }
        with database_errors(), sso.store.engine.begin() as connection:
            row = connection.execute(_TAKE, values).first()
        is_ours = row is not None and sso.protection.unseal(row.data_sealed, FIELD) == _owner(session)
        if row is None or not is_ours or not row.is_in_time:
            reason = "There is no such challenge, or it was answered, or that is too long ago."
            raise ValidationError(status_code.second_factor.invalid, True, reason=reason)
        return challenge


def _owner(session: Session | None) -> str:
    return session.public_id if session else "anybody"
