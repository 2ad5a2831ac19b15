"""``self.sso.user``."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from junctor.server.sso.api.calls import Address, Api, User
from junctor.server.sso.api.linked import LinkedApi
from junctor.server.sso.api.sessions import SessionApi
from junctor.server.sso.api.signing_in import SigningInApi
from junctor.server.sso.audited import audited
from junctor.server.sso.codes import const
from junctor.server.sso.search import SearchCtx

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

NOBODY = "nobody"
"""What is no user id, for a name that is no user's: whether there is one is told after it is known who asks."""


class _Records(Api):
    """Users as they are: read, found, made, changed, deleted."""

    def create_user(  # noqa: PLR0913 - the contract
        self,
        cid: str,
        data: MutableMapping[str, Any],
        ust: str | None = None,
        current_app: str | None = None,
        remote_addr: Address = None,
        require_super_user: bool = True,
        auto_approve: bool = False,
    ) -> str:
        """The id of a new user; ``data`` gets what super-users see of it.  Without ``require_super_user``, nobody has to be logged in."""
        return self._create(
            self._caller(cid, ust, current_app, remote_addr, is_trusted=not require_super_user),
            data,
            auto_approve=auto_approve,
        )

    def create_super_user(  # noqa: PLR0913 - the contract
        self,
        cid: str,
        data: MutableMapping[str, Any],
        ust: str | None = None,
        current_app: str | None = None,
        remote_addr: Address = None,
        require_super_user: bool = True,
        auto_approve: bool = False,
    ) -> str:
        """The same for a super-user."""
        return self._create(
            self._caller(cid, ust, current_app, remote_addr, is_trusted=not require_super_user),
            data,
            auto_approve=auto_approve,
            is_super_user=True,
        )

    def _create(self, caller: Any, data: MutableMapping[str, Any], **how: bool) -> str:
        user = self._sso.users.create(caller, data, **how)
        data.pop("password", None)
        data.update(self._sso.users.view(user, is_full=True, serialize_dt=False))
        return user.user_id

    def get_current_user(
        self,
        cid: str,
        current_ust: str,
        current_app: str,
        remote_addr: Address,
        return_all_attrs: bool = False,
    ) -> User:
        """The user who calls; with ``return_all_attrs``, also what super-users alone see otherwise."""
        caller = self._caller(cid, current_ust, current_app, remote_addr)
        row, is_full = self._sso.users.get(caller)
        return User(self._sso, caller, row, is_full=is_full or return_all_attrs)

    def get_user_by_id(
        self,
        cid: str,
        user_id: str,
        current_ust: str,
        current_app: str,
        remote_addr: Address,
        return_all_attrs: bool = False,
    ) -> User:
        """A user, for super-users and for the user in person."""
        caller = self._caller(cid, current_ust, current_app, remote_addr)
        row, is_full = self._sso.users.get(caller, user_id)
        return User(self._sso, caller, row, is_full=is_full or return_all_attrs)

    def get_user_by_username(self, cid: str, username: str, needs_approved: bool = True) -> User | None:
        """The user of a name, in any case; None if there is none.  Nobody has to be logged in."""
        caller = self._caller(cid, is_trusted=True)
        with audited(self._sso, caller, "user.get_user_by_username") as event:
            row = self._sso.users.by_username(username)
            if row is None or (needs_approved and row.approval_status != const.approval_status.approved):
                return None
            event.target = row.user_id
        return User(self._sso, caller, row, is_full=True)

    def update_current_user(
        self,
        cid: str,
        data: Mapping[str, Any],
        current_ust: str,
        current_app: str,
        remote_addr: Address,
    ) -> None:
        """Changes fields of the user who calls; None empties one."""
        self._sso.users.update(self._caller(cid, current_ust, current_app, remote_addr), data)

    def update_user_by_id(
        self,
        cid: str,
        user_id: str,
        data: Mapping[str, Any],
        current_ust: str,
        current_app: str,
        remote_addr: Address,
    ) -> None:
        """Changes fields of a user, for super-users and for the user in person."""
        self._sso.users.update(
            self._caller(cid, current_ust, current_app, remote_addr), data, user_id=user_id
        )

    def delete_user_by_id(
        self,
        cid: str,
        user_id: str,
        current_ust: str | None = None,
        current_app: str | None = None,
        remote_addr: Address = None,
        skip_sec: bool = False,
    ) -> None:
        """Deletes a user, for super-users; with ``skip_sec``, nobody has to be logged in."""
        self._sso.users.delete(
            self._caller(cid, current_ust, current_app, remote_addr, is_trusted=skip_sec), user_id
        )

    def delete_user_by_username(
        self,
        cid: str,
        username: str,
        current_ust: str | None = None,
        current_app: str | None = None,
        remote_addr: Address = None,
        skip_sec: bool = False,
    ) -> None:
        """The same by the user's name."""
        row = self._sso.users.by_username(username)
        self.delete_user_by_id(
            cid,
            row.user_id if row is not None else NOBODY,
            current_ust,
            current_app,
            remote_addr,
            skip_sec,
        )

    def search(
        self,
        cid: str,
        ctx: SearchCtx,
        current_ust: str,
        current_app: str,
        remote_addr: Address,
        serialize_dt: bool = False,
    ) -> dict[str, Any]:
        """A page of users, for super-users."""
        caller = self._caller(cid, current_ust, current_app, remote_addr)
        return self._sso.search.search(caller, ctx, serialize_dt=serialize_dt)


class _Decisions(Api):
    """What super-users decide of users."""

    def approve_user(
        self, cid: str, user_id: str, current_ust: str, current_app: str, remote_addr: Address
    ) -> None:
        """Approves a user."""
        caller = self._caller(cid, current_ust, current_app, remote_addr)
        self._sso.users.decide(caller, user_id, is_approved=True)

    def reject_user(
        self, cid: str, user_id: str, current_ust: str, current_app: str, remote_addr: Address
    ) -> None:
        """Rejects a user, whose sessions end."""
        caller = self._caller(cid, current_ust, current_app, remote_addr)
        self._sso.users.decide(caller, user_id, is_approved=False)

    def lock_user(  # noqa: PLR0913 - the contract
        self,
        cid: str,
        user_id: str,
        current_ust: str | None = None,
        current_app: str | None = None,
        remote_addr: Address = None,
        require_super_user: bool = True,
        current_user: str | None = None,
    ) -> None:
        """Locks a user, whose sessions end; without ``require_super_user``, nobody has to be logged in."""
        del current_user  # it is found out from the session, not believed
        caller = self._caller(cid, current_ust, current_app, remote_addr, is_trusted=not require_super_user)
        self._sso.users.set_lock(caller, user_id, is_locked=True)

    def unlock_user(  # noqa: PLR0913 - the contract
        self,
        cid: str,
        user_id: str,
        current_ust: str | None = None,
        current_app: str | None = None,
        remote_addr: Address = None,
        require_super_user: bool = True,
        current_user: str | None = None,
    ) -> None:
        """Unlocks a user; likewise."""
        del current_user
        caller = self._caller(cid, current_ust, current_app, remote_addr, is_trusted=not require_super_user)
        self._sso.users.set_lock(caller, user_id, is_locked=False)


class UserApi(_Records, _Decisions, SigningInApi, LinkedApi):
    """Users; ``session`` are their sessions."""

    def __init__(self, sso: SingleSignOn, service: str, session: SessionApi) -> None:
        super().__init__(sso, service)
        self.session = session
