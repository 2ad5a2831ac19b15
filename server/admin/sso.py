"""Single Sign-On for administrators: what ``junctor sso`` does.

Each service calls the same parts as the REST API, as a trusted caller in the name of the administrator; so it is checked and audited in
the same way.  Users are named by their user names.  Passwords and tokens are in payloads alone, which are logged nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from dataclasses import fields as fields_of
from typing import Any, Final

from junctor.server.admin.service import AdminService
from junctor.server.service.base import Service
from junctor.server.sso.audited import audited
from junctor.server.sso.caller import Caller
from junctor.server.sso.change_password import MAX_DAYS, NewPassword
from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.protection import new_token
from junctor.server.sso.records import User
from junctor.server.sso.search import SearchCtx
from junctor.server.sso.sessions import Origin
from junctor.server.sso.single_sign_on import SingleSignOn
from junctor.server.sso.user_fields import CREATED
from junctor.server.sso.user_imports import ImportRefused
from junctor.server.sso.user_view import iso
from junctor.sql.engine import database_errors
from junctor.sql.errors import InvalidInput, Problem, RequestRefused

USER_COLUMNS: Final = (*sorted(CREATED), "is_super_user")


class UserExists(RequestRefused):
    """There is a user of this name or e-mail address."""

    status = 409


class NoSuchUser(RequestRefused):
    """There is no such user."""

    status = 404


class SsoRefused(RequestRefused):
    """Single Sign-On refused it; the message begins with the codes."""


class SsoService(AdminService):
    """A service about users and sessions."""

    zato_dont_import = True

    @property
    def sso_parts(self) -> SingleSignOn:
        """Single Sign-On."""
        return self.context.sso

    def caller(self) -> Caller:
        """The cluster itself, in the name of the administrator."""
        return Caller(cid=self.cid, is_trusted=True, who=self.who)

    def user(self, fields: dict[str, Any]) -> User:
        """The user that ``username`` or ``user_id`` names.  Raises ``NoSuchUser``, ``InvalidInput``."""
        user_id = self.text(fields, "user_id", "")
        users = self.sso_parts.users
        found = users.by_user_id(user_id) if user_id else users.by_username(self.text(fields, "username"))
        if found is None:
            raise NoSuchUser(self.cid, "There is no such user.")
        return found

    def days(self, fields: dict[str, Any]) -> int | None:
        """``expiry`` in days; None if it is not given.  Raises ``InvalidInput``."""
        if fields.get("expiry") is None:
            return None
        return int(self.number(fields, "expiry", 0, high=MAX_DAYS))

    def choice(self, fields: dict[str, Any], name: str) -> bool | None:
        """A yes or no; None if it is not given.  Raises ``InvalidInput``."""
        return None if fields.get(name) is None else self.flag(fields, name)

    def view(self, user: User) -> dict[str, Any]:
        """What super-users see of a user."""
        return self.sso_parts.users.view(user, is_full=True)

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Turns refusals of Single Sign-On into answers that the command line can tell apart."""
        try:
            yield
        except ImportRefused as refusal:
            raise InvalidInput(
                Problem(f"row {problem.row} {problem.field}".rstrip(), f"{problem.code} {problem.reason}")
                for problem in refusal.problems
            ) from None
        except ValidationError as refusal:
            codes = ", ".join(refusal.sub_status)
            raise _class_of(refusal)(self.cid, f"{codes}: {refusal.reason}".rstrip(": ")) from None


def _class_of(refusal: ValidationError) -> type[RequestRefused]:
    taken = {status_code.username.exists, status_code.email.exists}
    if taken & set(refusal.sub_status):
        return UserExists
    return NoSuchUser if status_code.user_id.invalid in refusal.sub_status else SsoRefused


class CreateUser(SsoService):
    """Makes a user, who is signed up and approved."""

    name = "zato.sso.admin.create-user"

    def handle(self) -> None:
        """The fields of ``POST /zato/sso/user``, and ``is_super_user``; without a password, nobody knows it.  Answers with the user."""
        fields = self.fields
        is_super_user = self.flag(fields, "is_super_user")
        if unknown := sorted(fields.keys() - set(USER_COLUMNS)):
            raise InvalidInput([Problem(name, "is no field of a user.") for name in unknown])
        data = {
            name: value for name, value in fields.items() if name != "is_super_user" and value is not None
        }
        with self.refusals():
            user = self.sso_parts.users.create(self.caller(), data, is_super_user=is_super_user)
        self.response.payload = self.view(user)


class GetUser(SsoService):
    """Everything about a user but secrets."""

    name = "zato.sso.admin.get-user"

    def handle(self) -> None:
        """``username`` or ``user_id``."""
        user = self.user(self.fields)
        with self.refusals():
            found, _ = self.sso_parts.users.get(self.caller(), user.user_id)
        self.response.payload = self.view(found)


class SearchUsers(SsoService):
    """A page of users."""

    name = "zato.sso.admin.search-users"

    def handle(self) -> None:
        """The fields of ``GET /zato/sso/user/search``; answers as that does."""
        fields, known = self.fields, {field.name for field in fields_of(SearchCtx)}
        if unknown := sorted(fields.keys() - known):
            raise InvalidInput([Problem(name, "is nothing to search by.") for name in unknown])
        given = {name: value for name, value in fields.items() if value is not None}
        with self.refusals():
            self.response.payload = self.sso_parts.search.search(self.caller(), SearchCtx(**given))


class UpdateUser(SsoService):
    """Changes fields of a user."""

    name = "zato.sso.admin.update-user"

    def handle(self) -> None:
        """``username`` or ``user_id``; ``changes``, the fields of ``PATCH /zato/sso/user``, null to empty one.  Answers with the user."""
        fields = self.fields
        user, changes = self.user(fields), fields.get("changes")
        if not isinstance(changes, dict):
            raise InvalidInput.one("changes", "must be a JSON object.")
        with self.refusals():
            self.sso_parts.users.update(self.caller(), changes, user.user_id)
        self.response.payload = self.view(self.user({"user_id": user.user_id}))


class UserAction(SsoService):
    """Something that is done to a user."""

    zato_dont_import = True

    def act(self, user: User, fields: dict[str, Any]) -> Mapping[str, Any] | None:
        """Does it; returns what the answer has beside the user's id."""
        raise NotImplementedError

    def handle(self) -> None:
        """``username`` or ``user_id``; the answer has ``user_id``."""
        fields = self.fields
        user = self.user(fields)
        with self.refusals():
            more = self.act(user, fields)
        self.response.payload = {"user_id": user.user_id, **(more or {})}


def _action(service: str, does: str, act: Callable[[UserAction, User], None]) -> type[Service]:
    """A service that does one thing to a user and needs nothing else to know."""

    def acts(self: UserAction, user: User, fields: dict[str, Any]) -> None:
        del fields
        act(self, user)

    class_name = "".join(part.title() for part in service.split("-"))
    namespace = {"name": f"zato.sso.admin.{service}", "__doc__": does, "act": acts, "__module__": __name__}
    return type(class_name, (UserAction,), namespace)


DeleteUser = _action(
    "delete-user",
    "Deletes a user; what was audited stays.",
    lambda service, user: service.sso_parts.users.delete(service.caller(), user.user_id),
)
LockUser = _action(
    "lock-user",
    "Locks a user, whose sessions end.",
    lambda service, user: service.sso_parts.users.set_lock(service.caller(), user.user_id, is_locked=True),
)
UnlockUser = _action(
    "unlock-user",
    "Unlocks a user.",
    lambda service, user: service.sso_parts.users.set_lock(service.caller(), user.user_id, is_locked=False),
)
ApproveUser = _action(
    "approve-user",
    "Approves a user.",
    lambda service, user: service.sso_parts.users.decide(service.caller(), user.user_id, is_approved=True),
)
RejectUser = _action(
    "reject-user",
    "Rejects a user, whose sessions end.",
    lambda service, user: service.sso_parts.users.decide(service.caller(), user.user_id, is_approved=False),
)
EraseUser = _action(
    "erase-user",
    "Deletes a user and everything that belongs to the user; audit events stay under an id that leads to nobody.",
    lambda service, user: service.sso_parts.personal_data.erase(service.caller(), user.user_id),
)


class ChangePassword(UserAction):
    """Gives a user another password, whose sessions end."""

    name = "zato.sso.admin.change-password"

    def act(self, user: User, fields: dict[str, Any]) -> None:
        """``new_password``; ``expiry`` in days; ``must_change``, as it is by default."""
        self._change(user, self.text(fields, "new_password"), fields, self.choice(fields, "must_change"))

    def _change(self, user: User, password: str, fields: dict[str, Any], must_change: bool | None) -> None:
        wanted = NewPassword(
            new_password=password, user_id=user.user_id, expiry=self.days(fields), must_change=must_change
        )
        self.sso_parts.change_password.change(self.caller(), wanted)


class ResetPassword(ChangePassword):
    """Gives a user a password of 256 random bits, which is in the answer and nowhere else."""

    name = "zato.sso.admin.reset-password"

    def act(self, user: User, fields: dict[str, Any]) -> Mapping[str, Any]:  # type: ignore[override]  # it has something to tell
        """``expiry`` in days; ``must_change``, whether it must be changed at the next log-in, yes by default."""
        must_change = self.choice(fields, "must_change")
        password = new_token("")
        self._change(user, password, fields, True if must_change is None else must_change)
        return {"password": password}


class ResetTotpKey(UserAction):
    """Gives a user another key for one-time codes."""

    name = "zato.sso.admin.reset-totp-key"

    def act(self, user: User, fields: dict[str, Any]) -> Mapping[str, Any]:
        """``key``, one is made by default; ``key_label``.  The answer has the key."""
        key, label = self.text(fields, "key", ""), self.text(fields, "key_label", "")
        return {"key": self.sso_parts.totp.reset(self.caller(), user.user_id, key, label)}


class LogIn(UserAction):
    """Opens a session of a user without the password."""

    name = "zato.sso.admin.log-in"

    def act(self, user: User, fields: dict[str, Any]) -> Mapping[str, Any]:
        """``current_app``, ``remote_addr`` and ``user_agent`` of the session; the user must be one who could log in.

        The answer has the token, ``ust``.
        """
        sso = self.sso_parts
        caller = Caller(
            cid=self.cid,
            current_app=self.text(fields, "current_app", ""),
            remote_addr=self.text(fields, "remote_addr", ""),
            user_agent=self.text(fields, "user_agent", ""),
            is_trusted=True,
            who=self.who,
        )
        with audited(sso, caller, "user.login", target=user.user_id) as event:
            sso.gate.granted(sso.gate.application(caller), user)
            sso.gate.account(user, caller.remote_addr)
            with database_errors(), sso.store.engine.begin() as connection:
                opened = sso.sessions.open(connection, user, caller, Origin(auth_principal=self.who))
                event.extra["session"] = opened.public_id
                event.record(connection)
        times = {"creation_time": iso(opened.creation_time), "expiration_time": iso(opened.expiration_time)}
        return {"username": user.username, "ust": opened.ust, "public_id": opened.public_id, **times}


class LogOut(SsoService):
    """Ends the session of a token."""

    name = "zato.sso.admin.log-out"

    def handle(self) -> None:
        """``ust``; the answer says whether there ``was_session``."""
        caller = Caller(
            cid=self.cid, current_ust=self.text(self.fields, "ust"), is_trusted=True, who=self.who
        )
        with self.refusals():
            self.response.payload = {"was_session": self.sso_parts.sessions.log_out(caller)}


class GetSessions(UserAction):
    """The sessions of a user, the newest first; never their tokens."""

    name = "zato.sso.admin.get-sessions"

    def act(self, user: User, fields: dict[str, Any]) -> Mapping[str, Any]:
        """The answer's ``items``."""
        del fields
        return {"items": self.sso_parts.sessions.get_list(self.caller(), user_id=user.user_id)}


class EndSession(SsoService):
    """Ends a session."""

    name = "zato.sso.admin.end-session"

    def handle(self) -> None:
        """``public_id``, as ``zato.sso.admin.get-sessions`` has it."""
        with self.refusals():
            self.sso_parts.sessions.end(self.caller(), self.text(self.fields, "public_id"))
        self.response.payload = {}


class ExportUser(UserAction):
    """All that is stored of a user, as one document."""

    name = "zato.sso.admin.export-user"

    def act(self, user: User, fields: dict[str, Any]) -> Mapping[str, Any]:
        """The answer is the document."""
        del fields
        return self.sso_parts.personal_data.export(self.caller(), user.user_id)


class ImportUsers(SsoService):
    """Makes users who come from elsewhere, up to 1,000 at a time, all or none."""

    name = "zato.sso.admin.import-users"

    def handle(self) -> None:
        """``users``, a list; see ``server/sso/user_imports.py``.  The answer has their names and ids, ``items``."""
        users = self.fields.get("users")
        if not isinstance(users, list):
            raise InvalidInput.one("users", "must be a list.")
        with self.refusals():
            made = self.sso_parts.personal_data.import_users(self.caller(), users)
        self.response.payload = {"items": [asdict(user) for user in made]}


SERVICES: tuple[type[Service], ...] = (
    CreateUser,
    GetUser,
    SearchUsers,
    UpdateUser,
    DeleteUser,
    LockUser,
    UnlockUser,
    ApproveUser,
    RejectUser,
    EraseUser,
    ChangePassword,
    ResetPassword,
    ResetTotpKey,
    LogIn,
    LogOut,
    GetSessions,
    EndSession,
    ExportUser,
    ImportUsers,
)
