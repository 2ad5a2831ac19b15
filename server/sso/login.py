"""Logging in: the one way from credentials to a session.

Until the password is right, every refusal is the same and costs the same, whatever is wrong.  What comes after that is told if the
settings say so; what is not told counts as a wrong password.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, text

from junctor.server.sso.audited import Audited, audited
from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError, not_allowed
from junctor.server.sso.live import Application
from junctor.server.sso.login_policy import LoginPolicy
from junctor.server.sso.passwords import Verdict
from junctor.server.sso.records import User
from junctor.server.sso.second_factor import FACTOR, SecondFactor, WrongCode
from junctor.server.sso.session_expiry import idle_minutes
from junctor.server.sso.session_rows import lock_user
from junctor.server.sso.sessions import SECOND_FACTORS, Opened, Origin
from junctor.server.sso.throttle import PASSWORD, Attempt
from junctor.server.sso.user_view import iso, naive
from junctor.sql.engine import database_errors

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

MAX_GIVEN: Final = 10_000  # characters; what is longer is nobody's name or password

_REHASH = text("UPDATE sso_user SET password = :stored WHERE id = :id AND password = :old")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a user proves who they are with; a second factor is a TOTP code or a recovery code."""

    username: str
    password: str = field(repr=False)
    totp_code: str = field(default="", repr=False)
    new_password: str = field(default="", repr=False)
    remote_addr: str = ""
    user_agent: str = ""
    """Of the user, as the application tells them, if it may."""


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A new session; ``warnings`` are sub-status codes such as W003005."""

    username: str
    user_id: str
    ust: str = field(repr=False)
    public_id: str = ""
    creation_time: datetime | None = None
    expiration_time: datetime | None = None
    warnings: tuple[str, ...] = ()

    @property
    def has_w_about_to_exp(self) -> bool:
        """Whether the password is about to expire."""
        return status_code.password.w_about_to_exp in self.warnings

    def to_dict(self, serialize_dt: bool = True) -> dict[str, Any]:
        """As a dictionary; times are in UTC without an offset, as ISO 8601 or, without ``serialize_dt``, as naive ``datetime`` objects."""
        shown = iso if serialize_dt else naive
        return {
            "username": self.username,
            "user_id": self.user_id,
            "ust": self.ust,
            "creation_time": shown(self.creation_time) if self.creation_time else None,
            "expiration_time": shown(self.expiration_time) if self.expiration_time else None,
            "has_w_about_to_exp": self.has_w_about_to_exp,
        }


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A user who may log in: with what attempts, and what is stored of a new password or of another hash of the same."""

    user: User
    attempt: Attempt
    code_attempt: Attempt | None
    factors: tuple[str, ...]
    warnings: tuple[str, ...]
    stored: str
    is_new_password: bool


class Login:
    """Log-ins, and fresh proofs of who somebody is."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso
        self._policy = LoginPolicy(sso)
        self._second_factor = SecondFactor(sso)

    def log_in(self, caller: Caller, credentials: Credentials) -> SessionInfo:
        """A new session, which may be for enrolment alone, see ``gate.ENROL``.  Raises ``ValidationError``.

        A new password is taken only when one is needed.  Other sessions of the user go on, unless the password is new.
        """
        sso, username = self._sso, credentials.username
        with audited(sso, caller, "user.login") as event:
            has_metadata = bool(credentials.remote_addr or credentials.user_agent)
            application = self._policy.application(caller, has_metadata=has_metadata)
            attempt = sso.throttle.begin(username, caller)
            user, password = self._find(username), credentials.password
            event.target = user.user_id if user is not None else ""
            try:
                is_possible = len(password) <= MAX_GIVEN
                verdict = sso.passwords.verify(user if is_possible else None, password if is_possible else "")
                if user is None or not verdict.is_right:
                    self._second_factor.pretend(caller, user, username, credentials.totp_code)
                    raise not_allowed("The user name or the password is wrong.")
                admitted = self._admitted(caller, credentials, application, (user, verdict, attempt))
                return self._opened(caller, credentials, admitted, event)
            except ValidationError as refusal:
                if not refusal.return_status:
                    attempt.failed()
                raise

    def log_in_as(self, caller: Caller, username: str, factors: tuple[str, ...]) -> SessionInfo:
        """A new session of a user who proved who they are in another way, such as a passkey; for parts of the server.

        ``factors`` are what was proved (RFC 8176); with 'pwd' among them, the rules for passwords hold, too.  A trusted caller needs none.
        Raises ``ValidationError``.
        """
        sso = self._sso
        with audited(sso, caller, "user.login") as event:
            application = self._policy.application(caller)
            user = self._find(username)
            if user is None:
                raise not_allowed("There is no such user.")
            event.target = user.user_id
            sso.gate.account(user, caller.remote_addr, checks_password_expiry=False)
            sso.gate.granted(application, user)
            warnings: tuple[str, ...] = ()
            if PASSWORD in factors:
                self._require_code(user, factors)
                _, warnings = self._policy.password_state(user, "")
            if not caller.is_trusted:
                factors = self._policy.factors(user, factors)
            minutes = idle_minutes(sso, caller, user.username)
            with database_errors(), sso.store.engine.begin() as connection:
                opened = sso.sessions.open(connection, user, caller, Origin(factors=factors, minutes=minutes))
                if not caller.is_trusted:
                    sso.throttle.welcome(connection, user.username, caller)
                self._record(connection, caller, user, event)
        return _info(user, opened, warnings)

    def step_up(self, caller: Caller, *, password: str, totp_code: str = "") -> SessionInfo:
        """The caller's session under a new token, for what needs a fresh proof.  Raises ``ValidationError``."""
        sso = self._sso
        with audited(sso, caller, "user.step_up") as event:
            session = sso.gate.session(caller)
            if session is None:
                raise not_allowed("Stepping up is for a session of a user.")
            event.by(session)
            user = session.user
            event.target = user.user_id
            attempt = sso.throttle.begin(user.username, caller)
            if len(password) > MAX_GIVEN or not sso.passwords.verify(user, password).is_right:
                attempt.failed()
                raise not_allowed("The password is wrong.")
            code_attempt = self._second_factor.checked(caller, user, totp_code, informs=True)
            factors = (PASSWORD, FACTOR) if code_attempt is not None else (PASSWORD,)
            kind = ""
            with self._counting(code_attempt), database_errors(), sso.store.engine.begin() as connection:
                self._require_unchanged(connection, user)
                self._require_granted(connection, attempt)
                if code_attempt is not None:
                    kind = self._second_factor.use(connection, user, totp_code, code_attempt)
                opened = sso.sessions.rotate(connection, session, factors)
                event.record(connection)
        sso.sessions.announce(user)
        self._tell(caller, user, kind)
        return _info(user, opened)

    def _find(self, username: str) -> User | None:
        return self._sso.users.by_username(username) if len(username) <= MAX_GIVEN else None

    def _admitted(
        self,
        caller: Caller,
        credentials: Credentials,
        application: Application | None,
        verified: tuple[User, Verdict, Attempt],
    ) -> _Admitted:
        """What a right password leads to.  Raises ``ValidationError``."""
        user, verdict, attempt = verified
        sso = self._sso
        sso.gate.account(user, caller.remote_addr, checks_password_expiry=False)
        informs = bool(sso.settings["login_inform_if_totp_missing"])
        code_attempt = self._second_factor.checked(caller, user, credentials.totp_code, informs=informs)
        sso.gate.granted(application, user)
        needs_new, warnings = self._policy.password_state(user, credentials.new_password)
        proved = (PASSWORD, FACTOR) if code_attempt is not None else (PASSWORD,)
        factors = self._policy.factors(user, proved)
        stored = ""
        if needs_new:
            stored = sso.change_password.prepared(
                user, credentials.new_password, current=credentials.password
            )
        elif verdict.is_outdated:
            stored = sso.passwords.hashed(credentials.password)
        return _Admitted(user, attempt, code_attempt, factors, warnings, stored, needs_new)

    def _opened(
        self, caller: Caller, credentials: Credentials, admitted: _Admitted, event: Audited
    ) -> SessionInfo:
        """Opens the session, if everything is still as it was, and uses up what opens it."""
        sso, user, kind = self._sso, admitted.user, ""
        origin = Origin(
            factors=admitted.factors,
            remote_addr=credentials.remote_addr,
            user_agent=credentials.user_agent,
            minutes=idle_minutes(sso, caller, user.username),
        )
        with (
            self._counting(admitted.code_attempt),
            database_errors(),
            sso.store.engine.begin() as connection,
        ):
            if admitted.stored:
                self._require_unchanged(connection, user)
                self._store(connection, admitted, event)
            # first of all locks the user's row, as whoever changes a user does
            opened = sso.sessions.open(connection, user, caller, origin)
            self._require_granted(connection, admitted.attempt)
            if admitted.code_attempt is not None:
                kind = self._second_factor.use(connection, user, credentials.totp_code, admitted.code_attempt)
            self._record(connection, caller, user, event)
        self._tell(caller, user, kind)
        if admitted.is_new_password:
            sso.sessions.announce(user)
            sso.mail.notice(caller, user, "password")
        return _info(user, opened, admitted.warnings)

    def _store(self, connection: Connection, admitted: _Admitted, event: Audited) -> None:
        """Stores a new password, or another hash of the same one."""
        user = admitted.user
        if admitted.is_new_password:
            self._sso.change_password.store(connection, user, admitted.stored)
            event.extra = {"new_password": True}
        else:
            connection.execute(_REHASH, {"id": user.id, "old": user.password, "stored": admitted.stored})

    def _require_unchanged(self, connection: Connection, user: User) -> None:
        """Locks the user's row; raises ``ValidationError`` if the user was locked, or has another password, since it was read."""
        if lock_user(connection, user.id)[0] != user.generation:
            raise not_allowed("The user has changed meanwhile.")

    def _require_granted(self, connection: Connection, attempt: Attempt) -> None:
        if not attempt.is_granted(connection):
            raise not_allowed("The password was right, after too many that were wrong.")

    def _require_code(self, user: User, factors: tuple[str, ...]) -> None:
        if user.is_totp_enabled and not SECOND_FACTORS.intersection(factors):
            raise ValidationError(
                status_code.auth.totp_missing,
                bool(self._sso.settings["login_inform_if_totp_missing"]),
                reason="A second factor is missing.",
                field="totp_code",
            )

    def _record(self, connection: Connection, caller: Caller, user: User, event: Audited) -> None:
        if not caller.is_trusted:
            event.actor = user.user_id
        event.record(connection)

    def _tell(self, caller: Caller, user: User, kind: str) -> None:
        if kind == "recovery":
            self._sso.mail.notice(caller, user, "recovery-code")

    @contextmanager
    def _counting(self, attempt: Attempt | None) -> Iterator[None]:
        """Counts a code that turns out to be wrong at the last moment, once the transaction is over."""
        try:
            yield
        except WrongCode:
            if attempt is not None:
                attempt.failed()
            raise


def _info(user: User, opened: Opened, warnings: tuple[str, ...] = ()) -> SessionInfo:
    return SessionInfo(
        username=user.username,
        user_id=user.user_id,
        ust=opened.ust,
        public_id=opened.public_id,
        creation_time=opened.creation_time,
        expiration_time=opened.expiration_time,
        warnings=warnings,
    )
