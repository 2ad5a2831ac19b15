"""``self.sso.totp`` and ``self.sso.password_reset``."""

from __future__ import annotations

from typing import Any, NamedTuple

from junctor.server.sso import records
from junctor.server.sso.api.calls import Address, Api, RequestCtx, User
from junctor.server.sso.errors import InvalidTOTPError


class TotpApi(Api):
    """Codes of second factors, validated apart from log-ins; each is right once."""

    def validate_code(self, req_ctx: RequestCtx, *, code: str, ust: str = "", username: str = "") -> None:
        """Returns if the code is right for the user of a session or of a name, of which exactly one is given.

        Raises ``InvalidTOTPError``, and ``ValidationError`` for too many wrong codes.
        """
        self._sso.totp.validate_code(self._of(req_ctx), code, ust=ust, username=username)

    def validate_code_for_user(self, req_ctx: RequestCtx, *, code: str, user: User | records.User) -> None:
        """The same for a user at hand."""
        found = self._sso.users.by_user_id(user.user_id)
        if found is None:
            raise InvalidTOTPError(reason="There is no such user.")
        self._sso.totp.validate_code_for_user(self._of(req_ctx), code, found)

    def _of(self, req_ctx: RequestCtx) -> Any:
        return self._caller(
            req_ctx.cid,
            req_ctx.current_ust,
            req_ctx.current_app,
            req_ctx.remote_addr,
            req_ctx.user_agent,
            is_trusted=True,
        )


class AccessedToken(NamedTuple):
    """Whose password is being reset, as a dictionary, and what the last step needs."""

    user: dict[str, Any]
    reset_key: str


class PasswordResetApi(Api):
    """Forgotten passwords, in three steps."""

    def create_token(
        self, cid: str, credential: str, current_app: str, remote_addr: Address, user_agent: str = ""
    ) -> None:
        """Mails a token to the user of this name or address, if there is one."""
        caller = self._caller(cid, "", current_app, remote_addr, user_agent)
        self._sso.password_reset.create_token(caller, credential)

    def access_token(
        self, cid: str, token: str, current_app: str, remote_addr: Address, user_agent: str = ""
    ) -> AccessedToken:
        """The user and the reset key; the token is used up."""
        caller = self._caller(cid, "", current_app, remote_addr, user_agent)
        user, reset_key = self._sso.password_reset.access_token(caller, token)
        return AccessedToken(self._sso.users.view(user, is_full=True, serialize_dt=False), reset_key)

    def change_password(  # noqa: PLR0913 - the contract
        self,
        cid: str,
        new_password: str,
        token: str,
        reset_key: str,
        current_app: str,
        remote_addr: Address,
        user_agent: str = "",
    ) -> None:
        """Sets the password; sessions of the user end."""
        caller = self._caller(cid, "", current_app, remote_addr, user_agent)
        self._sso.password_reset.change_password(caller, new_password, token, reset_key)
