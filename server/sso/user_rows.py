"""Users in the database: found, inserted, and given another name or e-mail address."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from junctor.server.sso.codes import AUTO, const, status_code
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.protection import new_user_id, username_key
from junctor.server.sso.records import USER_COLUMNS, User, select_users, user_of
from junctor.server.sso.search_names import LINES, search_names
from junctor.sql.engine import database_errors
from junctor.sql.tables.sso import SsoUser

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

EMAIL: Final = "sso_user.email"
MAX_KEY: Final = 800  # characters that the column of user names' keys has room for
MAX_EMAIL: Final = 320
IS_CONFIRMED: Final = SsoUser.sign_up_status != const.signup_status.before_confirmation

# As one object, since making it anew for each log-in takes longer than the database does.  The user of the name, or the next one in order,
# or else the last one: so reading takes as long for a name that is nobody's.
_LAST = select(func.max(SsoUser.username_key)).where(SsoUser.cluster_id == bindparam("cluster_id"))
_NEAREST = (
    select_users()
    .where(
        SsoUser.cluster_id == bindparam("cluster_id"),
        SsoUser.username_key >= func.least(bindparam("key"), _LAST.scalar_subquery()),
    )
    .order_by(SsoUser.username_key)
    .limit(1)
)


class UserRows:
    """The rows of all users of the cluster; permissions are the caller's business."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def find(self, *where: Any, limit: int = 1, connection: Connection | None = None) -> list[User]:
        """Users that all of these conditions hold for; whoever has a connection gives it, lest all wait for a second one."""
        statement = select_users().where(self._is_mine, *where).limit(limit)
        if connection is not None:
            return [user_of(row) for row in connection.execute(statement)]
        with database_errors(), self._sso.store.engine.connect() as connection:
            return [user_of(row) for row in connection.execute(statement)]

    def locked(self, connection: Connection, row_id: int) -> User | None:
        """The user of a row as it is now; it stays so until the caller's transaction ends."""
        statement = select_users().where(self._is_mine, SsoUser.id == row_id).with_for_update(key_share=True)
        row = connection.execute(statement).first()
        return None if row is None else user_of(row)

    def by_username(self, username: str) -> User | None:
        """The user of a name, in any case; it takes as long if there is none."""
        key = username_key(username)
        if len(key) > MAX_KEY or not is_storable(key):
            return None
        given = {"cluster_id": self._sso.store.cluster_id, "key": key}
        with database_errors(), self._sso.store.engine.connect() as connection:
            row = connection.execute(_NEAREST, given).first()
        user = None if row is None else user_of(row)
        return user if user is not None and user.username_key == key else None

    def by_user_id(self, user_id: str) -> User | None:
        """The user of an id."""
        return next(iter(self.find(SsoUser.user_id == user_id)), None) if is_storable(user_id) else None

    def by_email(self, email: str, connection: Connection | None = None) -> User | None:
        """The user of an e-mail address, if it is one user's alone; who has not confirmed a sign-up does not count."""
        if not email.strip():
            return None
        found = self.find(self.has_email(email), IS_CONFIRMED, limit=2, connection=connection)
        return found[0] if len(found) == 1 else None

    def has_email(self, email: str) -> Any:
        """The condition that a user has this address; the blind index answers it, whichever key made it."""
        return SsoUser.email_mac.in_(self._sso.protection.email_macs(email))

    def email_of(self, user: User) -> str:
        """The user's e-mail address, '' = none.  Raises ``SecretUnreadable``."""
        return user.email or self._sso.protection.unseal(user.email_sealed or "", EMAIL)

    def insert(self, connection: Connection, values: Mapping[str, Any]) -> User:
        """A new user from checked values; see ``Users.insert``."""
        given = dict(values)
        now = datetime.now(UTC)
        password, stored = given.pop("password", ""), given.pop("password_hash", None)
        stored = self._sso.passwords.hashed(password) if stored is None else stored
        email = given.pop("email", "") or ""
        days = self._sso.settings["password_expiry"]
        row = {
            "cluster_id": self._sso.store.cluster_id,
            "user_id": new_user_id(),
            "username_key": username_key(given["username"]),
            "password": stored,
            "password_last_set": now,
            "password_expiry": now + timedelta(days=days) if days else None,
            "approval_status": const.approval_status.before_decision,
            "approval_status_mod_by": AUTO,
            "approval_status_mod_time": now,
            "sign_up_status": const.signup_status.final,
            "sign_up_time": now,
            **self.email_columns(connection, email),
            **given,
        }
        row["search_names"] = search_names({line: row.get(line) for line in LINES})
        _require_room(row["username_key"])
        columns = [getattr(SsoUser, name) for name in USER_COLUMNS]
        statement = (
            insert(SsoUser).values(row).on_conflict_do_nothing(index_elements=["cluster_id", "username_key"])
        )
        made = connection.execute(statement.returning(*columns)).first()
        if made is None:
            raise _taken()
        return user_of(made)

    def change(self, connection: Connection, user: User, values: Mapping[str, Any]) -> User:
        """Changes columns of a user whose row is locked; returns the user as it is then.

        Raises ``ValidationError`` (E001002) when a new name is taken; then the transaction is of no use any more.
        """
        columns, wanted = [getattr(SsoUser, name) for name in USER_COLUMNS], dict(values)
        if any(line in wanted for line in LINES):
            wanted["search_names"] = search_names(
                {line: wanted.get(line, getattr(user, line)) for line in LINES}
            )
        statement = update(SsoUser).where(SsoUser.id == user.id).values(wanted).returning(*columns)
        try:
            return user_of(connection.execute(statement).one())
        except IntegrityError as error:
            raise _taken() from error

    def email_columns(self, connection: Connection, email: str, *, but: int = 0) -> dict[str, Any]:
        """The columns of an address, '' = none, which is not verified yet.  Raises ``ValidationError`` as ``claim_email`` does."""
        if not email:
            return {"email": None, "email_sealed": None, "email_mac": None, "is_email_verified": False}
        self.claim_email(connection, email, but=but)
        is_sealed = self._sso.settings["encrypt_email"]
        return {
            "email": None if is_sealed else email,
            "email_sealed": self._sso.protection.seal(email, EMAIL) if is_sealed else None,
            "email_mac": self._sso.protection.email_macs(email)[0],
            "is_email_verified": False,
        }

    def claim_email(self, connection: Connection, email: str, *, but: int = 0) -> None:
        """Sees to it that nobody else takes an address until the caller's transaction ends.

        Raises ``ValidationError`` (E002002) if it belongs to a user other than the one of the row ``but``, and may not belong to two.
        It does not belong to who has not confirmed a sign-up: otherwise, anybody could keep its owner from signing up.
        """
        if len(email) > MAX_EMAIL:
            raise ValidationError(status_code.email.too_long, True, field="email")
        if not self._sso.settings["signup_is_email_unique"]:
            return
        macs = self._sso.protection.email_macs(email)
        for key in sorted(
            int.from_bytes(mac[:8], "big", signed=True) for mac in macs
        ):  # workers' keys may differ
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
        taken = select(SsoUser.id).where(
            self._is_mine, SsoUser.email_mac.in_(macs), SsoUser.id != but, IS_CONFIRMED
        )
        if connection.execute(taken.limit(1)).first() is not None:
            raise ValidationError(status_code.email.exists, True, field="email")

    @property
    def _is_mine(self) -> Any:
        return SsoUser.cluster_id == self._sso.store.cluster_id


def is_storable(value: str) -> bool:
    """Whether the database can have such a text at all: no NUL, no half of a surrogate pair."""
    return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in value)


def _require_room(key: str) -> None:
    if len(key) > MAX_KEY:
        raise ValidationError(status_code.username.too_long, True, field="username")


def _taken() -> ValidationError:
    return ValidationError(status_code.username.exists, True, field="username")
