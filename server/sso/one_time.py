"""Tokens that work once, for a while."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from junctor.server.sso.protection import MAX_TOKEN, new_token
from junctor.sql.tables.sso import SsoToken, SsoUser

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

FIELD: Final = "sso_token.data"
_SEPARATOR: Final = "\n"  # no purpose has it


@dataclass(frozen=True, slots=True)
class Used:
    """A token that was used now: its row, whose it is (``SsoUser.id``), and what was stored with it."""

    id: int
    user_id: int
    data: str = field(repr=False)
    is_used_before: bool = False


class OneTimeTokens:
    """Tokens of a purpose; only their digests are stored, and what is stored with them is encrypted."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def issue(  # noqa: PLR0913 - all by name
        self,
        connection: Connection,
        user_id: int,
        purpose: str,
        *,
        prefix: str = "",
        minutes: float,
        data: str = "",
        parent_id: int | None = None,
    ) -> str:
        """A new token; those of the same user and purpose before it end.

        ``user_id`` is ``SsoUser.id``.  With a parent, the token ends when that one does.
        """
        # Two that are issued at a time would not see each other, and both would work.
        connection.execute(select(SsoUser.id).where(SsoUser.id == user_id).with_for_update(key_share=True))
        self.revoke(connection, user_id, purpose)
        token, now = new_token(prefix), datetime.now(UTC)
        values = {
            "user_id": user_id,
            "purpose": purpose,
            "token_mac": self._sso.protection.mac(f"sso.{purpose}", token),
            "parent_id": parent_id,
            "data_sealed": self._sso.protection.seal(purpose + _SEPARATOR + data, FIELD) if data else "",
            "creation_time": now,
            "expiration_time": now + timedelta(minutes=minutes),
        }
        connection.execute(insert(SsoToken).values(values))
        return token

    def use(self, connection: Connection, purpose: str, token: str) -> Used | None:
        """Uses a token up; None for what is none or has expired; ``is_used_before`` for one that was used already.

        Of those who use it at a time, one is the first; the others wait until that is committed.
        """
        if (found := self._locked(connection, purpose, token)) is None:
            return None
        if found.used_time is None:
            connection.execute(
                update(SsoToken).where(SsoToken.id == found.id).values(used_time=datetime.now(UTC))
            )
        return Used(found.id, found.user_id, self._data(found), found.used_time is not None)

    def revoke(self, connection: Connection, user_id: int, *purposes: str) -> None:
        """Ends all tokens of a user (``SsoUser.id``) for these purposes, and their children."""
        connection.execute(
            delete(SsoToken).where(SsoToken.user_id == user_id, SsoToken.purpose.in_(purposes))
        )

    def _locked(self, connection: Connection, purpose: str, token: str) -> Any:
        if not 0 < len(token) <= MAX_TOKEN:
            return None
        where = (
            SsoToken.token_mac.in_(self._sso.protection.macs(f"sso.{purpose}", token)),
            SsoToken.purpose == purpose,
            SsoToken.expiration_time > datetime.now(UTC),
        )
        owner = (
            select(SsoUser.id)
            .join(SsoToken, SsoUser.id == SsoToken.user_id)
            .where(SsoUser.cluster_id == self._sso.store.cluster_id, *where)
            .with_for_update(of=SsoUser, key_share=True)
        )
        # The user first, as in ``issue`` and wherever a user is changed: so two never wait for each other.
        if connection.execute(owner).first() is None:
            return None
        statement = select(*SsoToken.__table__.columns).where(*where).with_for_update()
        return connection.execute(statement).one_or_none()

    def _data(self, found: Any) -> str:
        if not found.data_sealed:
            return ""
        purpose, _, data = self._sso.protection.unseal(found.data_sealed, FIELD).partition(_SEPARATOR)
        return data if purpose == found.purpose else ""
