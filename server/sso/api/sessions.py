"""``self.sso.session``, which is ``self.sso.user.session``, too."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from junctor.server.sso import records
from junctor.server.sso.api.calls import Address, Api, Session
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.user_view import naive


class SessionApi(Api):
    """Sessions of users."""

    def verify(
        self,
        cid: str,
        target_ust: str,
        current_ust: str,
        current_app: str,
        remote_addr: Address,
        user_agent: str | None = None,
    ) -> bool:
        """Whether a session is valid, for super-users; false rather than an error for any token that is not."""
        caller = self._caller(cid, current_ust, current_app, remote_addr, user_agent)
        return self._sso.sessions.verify(caller, target_ust)

    def renew(
        self,
        cid: str,
        ust: str,
        current_app: str,
        remote_addr: Address,
        user_agent: str | None = None,
        needs_decrypt: bool = True,
    ) -> datetime:
        """When the caller's own session ends from now on; in UTC, without a zone."""
        del needs_decrypt  # tokens are not encrypted
        caller = self._caller(cid, ust, current_app, remote_addr, user_agent)
        return naive(self._sso.sessions.renew(caller))

    def get(  # noqa: PLR0913 - the contract
        self,
        cid: str,
        target_ust: str,
        current_ust: str,
        current_app: str,
        remote_addr: Address,
        user_agent: str | None = None,
        check_if_password_expired: bool = True,
    ) -> Session:
        """A session, for super-users."""
        caller = self._caller(cid, current_ust, current_app, remote_addr, user_agent)
        found = self._sso.sessions.get(caller, target_ust, checks_password_expiry=check_if_password_expired)
        return Session(self._sso, caller, found, target_ust)

    def get_list(
        self,
        cid: str,
        ust: str | None,
        target_ust: str | None,
        current_ust: str | None,
        current_app: str,
        remote_addr: Address,
        _user_agent: str | None = None,
    ) -> list[dict[str, Any]]:
        """The caller's sessions, by ``ust``; or for super-users those of whose token is given, by ``target_ust`` and ``current_ust``."""
        caller = self._caller(cid, ust or current_ust, current_app, remote_addr)
        return self._sso.sessions.get_list(caller, target_ust or "")

    def get_current_session(
        self,
        cid: str,
        current_ust: str,
        current_app: str,
        remote_addr: Address,
        needs_super_user: bool = False,
    ) -> records.Session:
        """The caller's own session, as the database has it."""
        caller = self._caller(cid, current_ust, current_app, remote_addr)
        gate = self._sso.gate
        found = gate.super_user(caller) if needs_super_user else gate.session(caller)
        if found is None:
            raise ValidationError(reason="There is no session.")
        return found

    def require_super_user(
        self, cid: str, current_ust: str, current_app: str, remote_addr: Address
    ) -> records.Session:
        """The same, of a super-user.  Raises ``ValidationError`` (E005005) for anybody else."""
        return self.get_current_session(cid, current_ust, current_app, remote_addr, needs_super_user=True)
