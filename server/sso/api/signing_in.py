"""Signing up, logging in and out, and passwords: parts of ``self.sso.user``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from junctor.server.sso.api.calls import Address, Api
from junctor.server.sso.change_password import NewPassword
from junctor.server.sso.errors import ValidationError, invalid
from junctor.server.sso.gate import no_session
from junctor.server.sso.login import Credentials, SessionInfo
from junctor.server.sso.signup import SignupCtx

CHANGES = frozenset(
    {"old_password", "new_password", "user_id", "password_expiry", "must_change", "password_must_change"}
)


class SigningInApi(Api):
    """From the sign-up to the log-out."""

    def login(  # noqa: PLR0913 - the contract
        self,
        cid: str,
        username: str,
        password: str,
        current_app: str,
        remote_addr: Address,
        user_agent: str | None = "",
        has_remote_addr: bool = False,
        has_user_agent: bool = False,
        new_password: str = "",
        totp_code: str | None = None,
        skip_sec: bool = False,
    ) -> SessionInfo:
        """A new session.

        ``has_remote_addr`` and ``has_user_agent`` say that these are what the application tells of its user, which it must be allowed
        to.  With ``skip_sec``, neither the password nor a code is looked at: the service answers for the user.
        """
        caller = self._caller(cid, "", current_app, remote_addr, user_agent, is_trusted=skip_sec)
        if skip_sec:
            return self._sso.login.log_in_as(caller, username, ())
        credentials = Credentials(
            username=username,
            password=password,
            totp_code=totp_code or "",
            new_password=new_password or "",
            remote_addr=caller.remote_addr if has_remote_addr else "",
            user_agent=caller.user_agent if has_user_agent else "",
        )
        return self._sso.login.log_in(caller, credentials)

    def logout(
        self, cid: str, ust: str, current_app: str, remote_addr: Address, skip_sec: bool = False
    ) -> None:
        """Ends a session.  Raises ``ValidationError`` (E007001) if there is none, unlike the REST API."""
        caller = self._caller(cid, ust, current_app, remote_addr)
        if not skip_sec:
            self._sso.gate.application(caller)
        if not self._sso.sessions.log_out(caller):
            raise no_session()

    def signup(self, cid: str, ctx: SignupCtx, current_app: str, remote_addr: Address) -> str:
        """The confirm token of a new user, '' unless the settings say that it is returned: it is mailed."""
        return self._sso.signup.sign_up(self._caller(cid, "", current_app, remote_addr), ctx)

    def confirm_signup(self, cid: str, confirm_token: str, current_app: str, remote_addr: Address) -> None:
        """Confirms a sign-up."""
        self._sso.signup.confirm(self._caller(cid, "", current_app, remote_addr), confirm_token)

    def change_password(
        self,
        cid: str,
        data: Mapping[str, Any],
        current_ust: str,
        current_app: str,
        remote_addr: Address,
    ) -> str:
        """Changes a password by old_password, new_password, user_id, password_expiry (days) and must_change.

        Returns the caller's new token if it is the caller's own password, '' otherwise.
        """
        if unknown := sorted(set(data) - CHANGES):
            raise invalid("data", f"may not have {', '.join(unknown)}.")
        wanted = NewPassword(
            new_password=data.get("new_password") or "",
            old_password=data.get("old_password") or "",
            user_id=data.get("user_id") or "",
            expiry=data.get("password_expiry"),
            must_change=data.get("must_change", data.get("password_must_change")),
        )
        caller = self._caller(cid, current_ust, current_app, remote_addr)
        return self._sso.change_password.change(caller, wanted)

    def set_password(  # noqa: PLR0913 - the contract
        self,
        cid: str,
        user_id: str,
        password: str,
        must_change: bool | None = None,
        password_expiry: int | None = None,
        current_app: str | None = None,
        remote_addr: Address = None,
        details: object = None,
    ) -> None:
        """Sets a password that meets the policy; nobody has to be logged in."""
        del details  # the audit trail has what there is to say
        caller = self._caller(cid, "", current_app, remote_addr, is_trusted=True)
        wanted = NewPassword(
            new_password=password, user_id=user_id, expiry=password_expiry, must_change=must_change
        )
        self._sso.change_password.change(caller, wanted)

    def validate_password(self, password: str) -> None:
        """Raises ``ValidationError``, with all codes, for a password that nobody may have."""
        if problems := self._sso.policy.password_problems(password):
            raise ValidationError(problems, True, field="password")

    def reset_totp_key(  # noqa: PLR0913 - the contract
        self,
        cid: str,
        current_ust: str | None,
        user_id: str | None,
        key: str | None,
        key_label: str | None,
        current_app: str | None,
        remote_addr: Address,
        skip_sec: bool = False,
    ) -> str:
        """A user's new key, which is generated unless ``key`` is given."""
        caller = self._caller(cid, current_ust, current_app, remote_addr, is_trusted=skip_sec)
        return self._sso.totp.reset(caller, user_id or "", key or "", key_label or "")
