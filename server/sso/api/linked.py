"""Linked accounts: parts of ``self.sso.user``."""

from __future__ import annotations

from typing import Any

from junctor.server.sso.api.calls import Address, Api, User


class LinkedApi(Api):
    """Security definitions whose calls are a user's; types are basic_auth and jwt, also with the prefix 'zato.'."""

    def get_user_by_linked_auth(
        self,
        cid: str,
        sec_type: str,
        sec_username: str,
        current_ust: str,
        current_app: str,
        remote_addr: Address,
    ) -> User:
        """The user that a definition is linked to, for super-users."""
        caller = self._caller(cid, current_ust, current_app, remote_addr)
        row = self._sso.linked.get_user(caller, sec_type, sec_username)
        return User(self._sso, caller, row, is_full=True)

    def get_linked_auth_list(
        self,
        cid: str,
        ust: str,
        user_id: str | None = None,
        current_app: str | None = None,
        remote_addr: Address = None,
    ) -> list[dict[str, Any]]:
        """The links of the caller, or for super-users those of a user."""
        caller = self._caller(cid, ust, current_app, remote_addr)
        return self._sso.linked.get_list(caller, user_id or "")

    def create_linked_auth(  # noqa: PLR0913 - the contract
        self,
        cid: str,
        ust: str,
        user_id: str,
        auth_type: str,
        auth_username: str,
        is_active: bool,
        current_app: str,
        remote_addr: Address,
    ) -> tuple[str, int]:
        """Links a definition to a user, for super-users; the ids of both."""
        caller = self._caller(cid, ust, current_app, remote_addr)
        return self._sso.linked.create(caller, user_id, auth_type, auth_username, is_active)

    def delete_linked_auth(  # noqa: PLR0913 - the contract
        self,
        cid: str,
        ust: str,
        user_id: str,
        auth_type: str,
        auth_username: str,
        current_app: str,
        remote_addr: Address,
    ) -> int:
        """Deletes a link, and the sessions that were opened through it, for super-users; the definition's id."""
        caller = self._caller(cid, ust, current_app, remote_addr)
        return self._sso.linked.delete(caller, user_id, auth_type, auth_username)
