"""What applications asked for while their users log in: kept by the server, so that nothing in a page can change it."""

from __future__ import annotations

import hmac
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import orjson
from sqlalchemy import Connection, text

from junctor.server.sso.protection import MAX_TOKEN, base32, new_token
from junctor.sql.engine import database_errors

if TYPE_CHECKING:
    from junctor.server.sso.records import User
    from junctor.server.sso.single_sign_on import SingleSignOn

MINUTES: Final = 10
CHALLENGE, BROWSER, CSRF = "sso.challenge", "sso.oidc-browser", "sso.oidc-csrf"
PURPOSE: Final = "oidc"
FIELD: Final = "sso_challenge.data"
PASSWORD, CODE, NEW_PASSWORD = (
    "password",
    "code",
    "new_password",
)  # the steps; noqa: S105 - names of steps, no secrets

_INSERT: Final = text(
    """
    INSERT INTO sso_challenge (cluster_id, purpose, key_mac, data_sealed, expiration_time)
    VALUES (:cluster, :purpose, :mac, :data, now() + make_interval(mins => :minutes))
    """
)
_WHERE: Final = (
    "WHERE cluster_id = :cluster AND purpose = :purpose AND key_mac = ANY(:macs) AND expiration_time > now()"
)
_FIND: Final = text(f"SELECT data_sealed FROM sso_challenge {_WHERE}")  # noqa: S608 - a constant
_SAVE: Final = text(f"UPDATE sso_challenge SET data_sealed = :data {_WHERE}")  # noqa: S608 - a constant
_END: Final = text(f"DELETE FROM sso_challenge {_WHERE}")  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizeRequest:
    """What an application asked for, checked."""

    app: str
    redirect_uri: str
    scope: str
    code_challenge: str
    state: str = ""
    nonce: str = ""
    login_hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """How far a browser is with a log-in: the step, and once the password was right, whose it is and what it has been proved with.

    ``generation`` is the user's at that time: what was proved then is worth nothing once the password or the like has changed.
    """

    key: str = field(repr=False)
    request: AuthorizeRequest
    browser: str = field(repr=False)
    step: str = PASSWORD
    user_id: str = ""
    generation: int = 0
    factors: tuple[str, ...] = ()

    def at(self, step: str, user: User, factors: tuple[str, ...]) -> Continuation:
        """The same, further on."""
        return replace(self, step=step, user_id=user.user_id, generation=user.generation, factors=factors)


class Continuations:
    """The log-ins that are going on, each in the browser where it began."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def begin(self, request: AuthorizeRequest, browser: str) -> Continuation:
        """A log-in that begins in a browser, known by the value of its cookie."""
        mac = self._sso.protection.mac(BROWSER, browser).hex()
        made = Continuation(key=new_token(""), request=request, browser=mac)
        values = {
            "cluster": self._sso.store.cluster_id,
            "purpose": PURPOSE,
            "mac": self._sso.protection.mac(CHALLENGE, made.key),
            "data": self._sealed(made),
            "minutes": MINUTES,
        }
        with database_errors(), self._sso.store.engine.begin() as connection:
            connection.execute(_INSERT, values)
        return made

    def find(self, key: str, browser: str) -> Continuation | None:
        """The log-in of a page; None for one that has expired, is over, or began in another browser."""
        if not key or not browser or len(key) > MAX_TOKEN or len(browser) > MAX_TOKEN:
            return None
        with database_errors(), self._sso.store.engine.connect() as connection:
            sealed = connection.execute(_FIND, self._named(key)).scalar()
        if sealed is None:
            return None
        data: dict[str, Any] = orjson.loads(self._sso.protection.unseal(sealed, FIELD))
        macs = self._sso.protection.macs(BROWSER, browser)
        if not any(hmac.compare_digest(mac.hex(), data["browser"]) for mac in macs):
            return None
        data |= {"request": AuthorizeRequest(**data["request"]), "factors": tuple(data["factors"])}
        return Continuation(key=key, **data)

    def save(self, continuation: Continuation) -> None:
        """Keeps how far it is; its time goes on."""
        values = self._named(continuation.key) | {"data": self._sealed(continuation)}
        with database_errors(), self._sso.store.engine.begin() as connection:
            connection.execute(_SAVE, values)

    def end(self, connection: Connection, continuation: Continuation) -> bool:
        """Whether it ends now, in the caller's transaction; it can do so once."""
        return connection.execute(_END, self._named(continuation.key)).rowcount > 0

    def csrf_token(self, browser: str, form: str) -> str:
        """What a form must send along that was given to a browser."""
        return base32(self._sso.protection.mac(CSRF, f"{browser}|{form}"))

    def is_csrf_token(self, given: str, browser: str, form: str) -> bool:
        """Whether this is it; compared in constant time."""
        right = [base32(mac) for mac in self._sso.protection.macs(CSRF, f"{browser}|{form}")]
        return any(hmac.compare_digest(one.encode(), given.encode("utf-8", "replace")) for one in right)

    def _named(self, key: str) -> dict[str, Any]:
        macs = self._sso.protection.macs(CHALLENGE, key)
        return {"cluster": self._sso.store.cluster_id, "purpose": PURPOSE, "macs": macs}

    def _sealed(self, continuation: Continuation) -> str:
        data = asdict(continuation)
        del data["key"]
        return self._sso.protection.seal(orjson.dumps(data).decode(), FIELD)
