"""Users who come from elsewhere, many at a time, with the hashes of their passwords."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection

from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import const, status_code
from junctor.server.sso.errors import ValidationError, invalid, missing
from junctor.server.sso.protection import username_key
from junctor.server.sso.records import Session
from junctor.server.sso.totp_codes import checked_label
from junctor.server.sso.user_fields import (
    APPROVAL_STATUSES,
    NAMES,
    SIGN_UP_STATUSES,
    choice,
    flag,
    must_change,
    optional,
    person_names,
    require_known,
    text,
)
from junctor.server.sso.user_state import approval_columns, done_by, lock_columns, sign_up_columns
from junctor.sql.blind_index import email_key

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

MAX_IMPORT: Final = 1000  # users at a time
MAX_PROBLEMS: Final = 1000
IMPORTED: Final = frozenset(
    {
        *NAMES,
        "username",
        "email",
        "is_email_verified",
        "password_hash",
        "password_must_change",
        "must_change",
        "sign_up_status",
        "approval_status",
        "is_locked",
        "is_totp_enabled",
        "totp_key",
        "totp_label",
        "app_list",
    }
)


@dataclass(frozen=True, slots=True)
class Imported:
    """A user who was made."""

    user_id: str
    username: str


@dataclass(frozen=True, slots=True)
class ImportProblem:
    """What is wrong with a row, counted from 1: the field ('' = the row as a whole), the code, and a sentence without personal data."""

    row: int
    field: str
    code: str
    reason: str


class ImportRefused(ValidationError):
    """None of the users of an import were made; ``problems`` lists all that is wrong, up to 1,000 of it."""

    def __init__(self, problems: Iterable[ImportProblem]) -> None:
        self.problems = list(problems)
        codes = list(dict.fromkeys(problem.code for problem in self.problems))
        super().__init__(codes, True, reason=f"{len(self.problems)} problems; no user was imported.")


class UserImport:
    """An import: checked when it is made, applied in a transaction.

    Each row is a dictionary: ``username``, and whatever else there is of ``IMPORTED``.  ``password_hash`` is one of bcrypt, Argon2, scrypt
    or PBKDF2, which is replaced when the user logs in; who has none resets the password.  Users are signed up and approved if a row
    does not say otherwise, and get no e-mails.
    """

    def __init__(
        self,
        sso: SingleSignOn,
        rows: Iterable[Mapping[str, Any]],
        *,
        caller: Caller,
        session: Session | None,
    ) -> None:
        """Raises ``ValidationError`` (E008002, E008003) for too many rows and for none; ``ImportRefused`` for rows that cannot be."""
        self._sso = sso
        self._caller = caller
        self._by = done_by(session, caller)
        self._problems: list[ImportProblem] = []
        given = list(islice(rows, MAX_IMPORT + 1))
        if len(given) > MAX_IMPORT:
            raise invalid("users", f"must not be more than {MAX_IMPORT} at a time.")
        if not given:
            raise missing("users")
        self._values = [self._checked(number, row) for number, row in enumerate(given, start=1)]
        self._refuse_repeated()
        self._raise_problems()

    def apply(self, connection: Connection) -> list[Imported]:
        """Makes the users.  Raises ``ImportRefused`` if any of their names and addresses are taken."""
        made: list[Imported] = []
        for number, values in enumerate(self._values, start=1):
            try:
                user = self._sso.users.insert(connection, values)
            except ValidationError as refusal:
                self._add(number, refusal)
            else:
                made.append(Imported(user.user_id, user.username))
        self._raise_problems()
        return made

    def _checked(self, number: int, row: Any) -> dict[str, Any]:
        """The values of a row, for ``Users.insert``; what is wrong with any of its fields becomes a problem."""
        values: dict[str, Any] = {
            "creation_ctx": {"is_import": True, "cid": self._caller.cid},
        }
        try:
            require_known(row, IMPORTED)
        except ValidationError as refusal:
            self._add(number, refusal)
            return values
        for check in (self._identity, self._password, self._standing, person_names, must_change, self._totp):
            self._collect(number, values, check, row)
        return values

    def _collect(
        self,
        number: int,
        values: dict[str, Any],
        check: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        row: Mapping[str, Any],
    ) -> None:
        try:
            values.update(check(row))
        except ValidationError as refusal:
            self._add(number, refusal)

    def _identity(self, row: Mapping[str, Any]) -> dict[str, Any]:
        if "username" not in row:
            raise missing("username")
        fields = self._sso.users.fields
        email = fields.email(row.get("email"), is_reserved_allowed=True)
        return {
            "username": fields.username(row["username"], is_reserved_allowed=True),
            "email": email,
            "is_email_verified": flag("is_email_verified", row.get("is_email_verified", False))
            and bool(email),
            "app_list": fields.apps(row.get("app_list")),
        }

    def _password(self, row: Mapping[str, Any]) -> dict[str, Any]:
        given = optional("password_hash", row.get("password_hash"))
        if not given:
            return {"password_hash": "", "password_is_set": False}
        return {"password_hash": self._sso.passwords.stored(given)}

    def _standing(self, row: Mapping[str, Any]) -> dict[str, Any]:
        signed_up = row.get("sign_up_status", const.signup_status.final)
        approved = row.get("approval_status", const.approval_status.approved)
        values = sign_up_columns(choice("sign_up_status", signed_up, SIGN_UP_STATUSES))
        values |= approval_columns(choice("approval_status", approved, APPROVAL_STATUSES), self._by)
        return values | lock_columns(flag("is_locked", row.get("is_locked", False)), self._by)

    def _totp(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A second factor only if there is a key: one that nobody has would lock its user out."""
        if not row.get("totp_key"):
            is_enabled = flag("is_totp_enabled", row.get("is_totp_enabled", False))
            if is_enabled:
                raise missing("totp_key")
            return {"totp_label": checked_label(optional("totp_label", row.get("totp_label")))}
        return self._sso.users.fields.totp({**row, "totp_key": text("totp_key", row["totp_key"])})

    def _refuse_repeated(self) -> None:
        """Names and addresses that are in two rows of the import; the database would tell the second one only."""
        is_unique = self._sso.settings["signup_is_email_unique"]
        seen: dict[tuple[str, str], int] = {}
        for number, values in enumerate(self._values, start=1):
            keys = [("username", username_key(values.get("username") or "").strip())]
            if is_unique:
                keys.append(("email", email_key(values.get("email") or "")))
            for name, key in keys:
                first = seen.setdefault((name, key), number) if key else number
                if first != number:
                    code = status_code.username.exists if name == "username" else status_code.email.exists
                    self._problems.append(ImportProblem(number, name, code, f"is in row {first}, too."))

    def _add(self, number: int, refusal: ValidationError) -> None:
        self._problems += [
            ImportProblem(number, refusal.field, code, refusal.reason) for code in refusal.sub_status
        ]

    def _raise_problems(self) -> None:
        if self._problems:
            ordered = sorted(self._problems, key=lambda problem: problem.row)
            raise ImportRefused(ordered[:MAX_PROBLEMS])
