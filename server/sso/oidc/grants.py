"""What applications got from users, in the database: codes, refresh tokens, and whether their tokens are still valid."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson
from sqlalchemy import Connection, Row, text

from junctor.server.sso.errors import ValidationError
from junctor.server.sso.protection import MAX_TOKEN, new_token
from junctor.server.sso.records import select_users, user_of
from junctor.sql.engine import database_errors
from junctor.sql.tables.sso import SsoUser

if TYPE_CHECKING:
    from junctor.server.sso.records import Session, User
    from junctor.server.sso.single_sign_on import SingleSignOn

CODE_SECONDS: Final = 60
KEPT: Final = 20  # refresh tokens of before whose use ends a grant; older ones are just not valid
CODE, REFRESH = "sso.oidc-code", "sso.oidc-refresh"
CODE_PREFIX, REFRESH_PREFIX, GRANT_PREFIX = "zoic", "zoir", "zoig"
OFFLINE: Final = "offline_access"

_COLUMNS: Final = """
    g.id, g.public_id, g.user_id, g.app, g.scope, g.redirect_uri, g.code_challenge, g.nonce, g.code_used, g.refresh_mac,
    g.refresh_previous, g.generation, g.remote_addr, g.auth_time, g.auth_factors, g.creation_time, g.expiration_time, g.revoked_time,
    g.expiration_time <= now() AS is_expired, coalesce(s.public_id, '') AS sid,
    s.id IS NOT NULL AND s.expiration_time > now() AND (s.absolute_time IS NULL OR s.absolute_time > now()) AS has_session
"""
_FROM: Final = f"SELECT {_COLUMNS} FROM sso_grant g LEFT JOIN sso_session s ON s.id = g.session_id WHERE g.cluster_id = :cluster"  # noqa: S608 - constants
_BY_CODE: Final = text(f"{_FROM} AND g.code_mac = ANY(:macs) FOR UPDATE OF g")
_BY_PUBLIC_ID: Final = text(f"{_FROM} AND g.public_id = :public_id")
_BY_PUBLIC_ID_LOCKED: Final = text(f"{_FROM} AND g.public_id = :public_id FOR UPDATE OF g")
_INSERT: Final = text(
    """
    INSERT INTO sso_grant (cluster_id, public_id, user_id, session_id, app, scope, redirect_uri, code_mac, code_challenge, nonce,
                           generation, remote_addr, auth_time, auth_factors, expiration_time)
    SELECT :cluster, :public_id, s.user_id, s.id, :app, :scope, :redirect_uri, :code_mac, :code_challenge, :nonce,
           :generation, :remote_addr, s.auth_time, s.auth_factors, now() + make_interval(secs => :seconds)
      FROM sso_session s WHERE s.id = :session_id FOR KEY SHARE
    """
)
_USE: Final = text("UPDATE sso_grant SET code_used = now() WHERE id = :id")
_EXTEND: Final = text(
    "UPDATE sso_grant SET expiration_time = now() + make_interval(secs => :seconds) WHERE id = :id RETURNING expiration_time"
)
_ROTATE: Final = text(
    "UPDATE sso_grant SET refresh_mac = :mac, refresh_previous = CAST(:previous AS jsonb) WHERE id = :id"
)
_REVOKE: Final = text("UPDATE sso_grant SET revoked_time = now() WHERE id = :id AND revoked_time IS NULL")
_REVOKE_APP: Final = text(
    """
    UPDATE sso_grant SET revoked_time = now()
     WHERE cluster_id = :cluster AND app = :app AND revoked_time IS NULL AND expiration_time > now()
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A grant as the database had it a moment ago; ``sid`` is the id of its session that lists show, '' once that has ended.

    The methods are what Authlib asks codes and tokens for.
    """

    id: int
    public_id: str
    user_id: int
    app: str
    scope: str
    redirect_uri: str
    code_challenge: str = field(repr=False)
    nonce: str = field(repr=False)
    code_used: datetime | None
    refresh_mac: bytes | None = field(repr=False)
    refresh_previous: list[str] = field(repr=False)
    generation: int
    remote_addr: str = field(repr=False)
    auth_time: datetime
    auth_factors: list[str]
    creation_time: datetime
    expiration_time: datetime
    revoked_time: datetime | None
    is_expired: bool
    sid: str
    has_session: bool

    @property
    def is_offline(self) -> bool:
        """Whether it outlives its session."""
        return OFFLINE in self.scope.split()

    def get_redirect_uri(self) -> str:
        """Where the user was sent back to."""
        return self.redirect_uri

    def get_scope(self) -> str:
        """What was granted."""
        return self.scope

    def check_client(self, client: Any) -> bool:
        """Whether it was given to this application."""
        return bool(client.get_client_id() == self.app)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a grant is to be for."""

    app: str
    scope: str
    redirect_uri: str
    code_challenge: str
    nonce: str = ""


class Grants:
    """All grants of the cluster."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def issue(self, connection: Connection, session: Session, wanted: Wanted) -> str:
        """The code of a new grant to the user of a session; it works once, within a minute.  '' when the session has ended."""
        code = new_token(CODE_PREFIX)
        made = connection.execute(
            _INSERT,
            {
                "cluster": self._cluster,
                "public_id": new_token(GRANT_PREFIX),
                "session_id": session.id,
                "app": wanted.app,
                "scope": wanted.scope,
                "redirect_uri": wanted.redirect_uri,
                "code_mac": self._sso.protection.mac(CODE, code),
                "code_challenge": wanted.code_challenge,
                "nonce": wanted.nonce,
                "generation": session.user.generation,
                "remote_addr": session.remote_addr,
                "seconds": CODE_SECONDS,
            },
        )
        return code if made.rowcount else ""

    def use_code(self, connection: Connection, code: str, app: str) -> Grant | None:
        """The grant of a code, which is used up; None if it is none of this application, or is not valid any more.

        A code that comes a second time was stolen by one of the two: then the grant ends.
        """
        if len(code) > MAX_TOKEN:
            return None
        macs = self._sso.protection.macs(CODE, code)
        found = _grant(connection.execute(_BY_CODE, {"cluster": self._cluster, "macs": macs}).first())
        if found is None or found.app != app:
            return None
        if found.code_used is not None:
            self.revoke(connection, found)
            return None
        connection.execute(_USE, {"id": found.id})
        return None if found.is_expired else found

    def use_refresh_token(self, connection: Connection, token: str) -> Grant | None:
        """The grant whose newest refresh token this is.

        One of before was stolen, or the newest one was: then the grant ends.
        """
        found = self._of_refresh_token(connection, token, locks=True)
        if found is None:
            return None
        macs = self._sso.protection.macs(REFRESH, token)
        if found.refresh_mac in macs:
            return found
        if any(mac.hex() in found.refresh_previous for mac in macs):
            self.revoke(connection, found)
        return None

    def of_refresh_token(self, connection: Connection, token: str) -> Grant | None:
        """The grant whose newest refresh token this is; nothing happens to it."""
        found = self._of_refresh_token(connection, token, locks=False)
        if found is None or found.refresh_mac not in self._sso.protection.macs(REFRESH, token):
            return None
        return found

    def new_refresh_token(self, connection: Connection, grant: Grant) -> str:
        """The next refresh token of a grant; the one of before is not valid any more."""
        token = f"{grant.public_id}.{new_token(REFRESH_PREFIX)}"
        previous = list(grant.refresh_previous)
        if grant.refresh_mac is not None:
            previous.append(grant.refresh_mac.hex())
        connection.execute(
            _ROTATE,
            {
                "id": grant.id,
                "mac": self._sso.protection.mac(REFRESH, token),
                "previous": orjson.dumps(previous[-KEPT:]).decode(),
            },
        )
        return token

    def extend(self, connection: Connection, grant: Grant, lifetime: timedelta) -> datetime:
        """When a grant ends whose code was used a moment ago."""
        moment: datetime = connection.execute(
            _EXTEND, {"id": grant.id, "seconds": lifetime.total_seconds()}
        ).scalar_one()
        return moment

    def find(self, connection: Connection, public_id: str) -> Grant | None:
        """The grant that tokens name like this."""
        if len(public_id) > MAX_TOKEN:
            return None
        row = connection.execute(_BY_PUBLIC_ID, {"cluster": self._cluster, "public_id": public_id}).first()
        return _grant(row)

    def revoke(self, connection: Connection, grant: Grant) -> None:
        """Ends a grant, and all tokens that came of it."""
        connection.execute(_REVOKE, {"id": grant.id})

    def revoke_all_of(self, app: str) -> int:
        """Ends all grants of an application; how many there were."""
        with database_errors(), self._sso.store.engine.begin() as connection:
            return connection.execute(_REVOKE_APP, {"cluster": self._cluster, "app": app}).rowcount

    def user_of(self, connection: Connection, grant: Grant) -> User | None:
        """Whose grant it is, as long as it is valid.

        Neither the application nor the user may have been switched off, and the session must go on; an offline grant lives on without
        it until something ends all sessions of the user, such as another password.
        """
        application = self._sso.applications.get(grant.app)
        row = connection.execute(select_users().where(SsoUser.id == grant.user_id)).first()
        user = user_of(row) if row is not None else None
        if application is None or not application.is_oidc_client or user is None:
            return None
        if grant.revoked_time is not None or grant.is_expired:
            return None
        if not grant.has_session and not (grant.is_offline and grant.generation == user.generation):
            return None
        try:
            self._sso.gate.account(user, grant.remote_addr)
            self._sso.gate.granted(application, user)
        except ValidationError:
            return None
        return user

    @property
    def _cluster(self) -> int:
        return self._sso.store.cluster_id

    def _of_refresh_token(self, connection: Connection, token: str, *, locks: bool) -> Grant | None:
        public_id, dot, _ = token.partition(".")
        if not dot or len(token) > MAX_TOKEN:
            return None
        statement = _BY_PUBLIC_ID_LOCKED if locks else _BY_PUBLIC_ID
        return _grant(
            connection.execute(statement, {"cluster": self._cluster, "public_id": public_id}).first()
        )


def remaining(grant: Grant, seconds: int) -> int:
    """How many seconds a token of a grant lives that should live for ``seconds``: not longer than the grant."""
    return max(1, min(seconds, int((grant.expiration_time - datetime.now(UTC)).total_seconds())))


def _grant(row: Row[Any] | None) -> Grant | None:
    if row is None:
        return None
    made: dict[str, Any] = row._asdict()
    if made["refresh_mac"] is not None:
        made["refresh_mac"] = bytes(made["refresh_mac"])
    return Grant(**made)
