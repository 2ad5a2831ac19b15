"""Endpoints of whoever is not logged in yet: sign-up, log-in, forgotten passwords; and logging out, and new passwords."""

from __future__ import annotations

from typing import Any, Final

from junctor.server.sso.change_password import NewPassword
from junctor.server.sso.codes import status_code
from junctor.server.sso.endpoints.declaration import Answer, Endpoint, Field, Given, Output, Type, Who
from junctor.server.sso.endpoints.vocabulary import (
    ASKS,
    CREATION_TIME,
    CURRENT_APP,
    EMAIL_CODES,
    EXPIRATION_TIME,
    FRESH_CODES,
    NEW_UST,
    OTHER_USER_ID,
    PASSWORD_CODES,
    SESSION_CODES,
    SUPER_USER_CODES,
    THROTTLE_CODES,
    TOTP_CODE,
    USERNAME_CODES,
    password,
    path,
)
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.login import Credentials, SessionInfo
from junctor.server.sso.signup import SignupCtx

LOGIN_CODES: Final = (
    status_code.auth.locked,
    status_code.auth.invalid_signup_status,
    status_code.auth.not_approved,
    status_code.auth.totp_missing,
    status_code.auth.second_factor_required,
    status_code.metadata.not_allowed,
    status_code.password.expired,
    status_code.password.w_about_to_exp,
    status_code.password.e_about_to_exp,
    status_code.password.must_send_new,
)
MAX_DAYS: Final = 36_500
REMOTE: Final = (
    Field(name="remote_addr", help="Address of the user, from applications that may tell it.", max=200),
    Field(name="user_agent", help="Browser of the user, from the same ones."),
)
SESSION: Final = (
    Output(name="ust", help="The token of the new session."),
    Output(name="user_id", help="Whose it is."),
    Output(name="username", help="The name of that user."),
    Output(name="public_id", help="What lists of sessions name it by."),
    CREATION_TIME,
    EXPIRATION_TIME,
)
CONFIRM_TOKEN: Final = Field(
    name="confirm_token", help="The token that was mailed.", is_required=True, is_secret=True
)


def opened(info: SessionInfo) -> Answer:
    """The answer with a new session, and what its user is to be warned of."""
    fields = {
        "ust": info.ust,
        "user_id": info.user_id,
        "username": info.username,
        "public_id": info.public_id,
        "creation_time": info.creation_time,
        "expiration_time": info.expiration_time,
    }
    return Answer(fields, tuple(info.warnings))


def sign_up(given: Given) -> dict[str, Any]:
    """A sign-up, and its token if the settings say so."""
    wanted = SignupCtx(
        username=given.text("username"),
        email=given.text("email"),
        password=given.text("password"),
        current_app=given.caller.current_app,
        app_list=given.values.get("app_list"),
    )
    return {"confirm_token": given.sso.signup.sign_up(given.caller, wanted)}


def confirm(given: Given) -> None:
    """Confirms a sign-up."""
    given.sso.signup.confirm(given.caller, given.text("confirm_token"))


def log_in(given: Given) -> Answer:
    """A new session."""
    credentials = Credentials(
        username=given.text("username"),
        password=given.text("password"),
        totp_code=given.text("totp_code"),
        new_password=given.text("new_password"),
        remote_addr=given.text("remote_addr"),
        user_agent=given.text("user_agent"),
    )
    return opened(given.sso.login.log_in(given.caller, credentials))


def log_out(given: Given) -> None:
    """Ends the session; the answer is the same whether there was one."""
    try:
        given.sso.sessions.log_out(given.caller)
    except ValidationError:
        return  # it is audited; whoever only tries tokens learns nothing


def change_password(given: Given) -> dict[str, Any]:
    """A new password, and the caller's new token."""
    wanted = NewPassword(
        new_password=given.text("new_password"),
        old_password=given.text("old_password"),
        user_id=given.text("user_id"),
        expiry=given.values.get("password_expiry"),
        must_change=given.values.get("must_change"),
    )
    return {"ust": given.sso.change_password.change(given.caller, wanted)}


def begin_reset(given: Given) -> None:
    """Mails a token."""
    given.sso.password_reset.create_token(given.caller, given.text("credential"))


def redeem_token(given: Given) -> dict[str, Any]:
    """The key for the last step."""
    _, key = given.sso.password_reset.access_token(given.caller, given.text("token"))
    return {"reset_key": key}


def reset_password(given: Given) -> None:
    """Sets the password."""
    given.sso.password_reset.change_password(
        given.caller, given.text("password"), given.text("token"), given.text("reset_key")
    )


def step_up(given: Given) -> Answer:
    """The caller's session under a new token."""
    return opened(
        given.sso.login.step_up(
            given.caller, password=given.text("password"), totp_code=given.text("totp_code")
        )
    )


SIGNING_IN: Final = (
    Endpoint(
        method="POST",
        path=path("user/signup"),
        summary="Sign up",
        description="What is wrong with the name or the address is told if the settings say so; whether it is taken, too.",
        who=Who.ANYBODY,
        action=sign_up,
        fields=(
            CURRENT_APP,
            Field(name="username", help="User name, unique in any case.", is_required=True),
            password("password", "Password."),
            Field(name="app_list", help="Applications that the user wants to use.", type=Type.TEXTS, max=100),
            Field(name="email", help="E-mail address; required if the settings say so."),
        ),
        outputs=(Output(name="confirm_token", help="The token that was mailed, if the settings say so."),),
        codes=(
            *USERNAME_CODES,
            *EMAIL_CODES,
            *PASSWORD_CODES,
            *THROTTLE_CODES,
            status_code.app_list.no_signup,
        ),
    ),
    Endpoint(
        method="PATCH",
        path=path("user/signup"),
        aliases=(("POST", path("user/signup/confirm")),),
        summary="Confirm a sign-up",
        description="A token works once. What exactly is wrong with one is not told.",
        who=Who.ANYBODY,
        action=confirm,
        fields=(CURRENT_APP, CONFIRM_TOKEN),
        codes=(
            status_code.auth.no_such_sign_up_token,
            status_code.auth.sign_up_confirmed,
            *THROTTLE_CODES,
        ),
    ),
    Endpoint(
        method="POST",
        path=path("user/login"),
        summary="Log in",
        description="Codes about the account are told only once the password is right, and if the settings say so. "
        "With status 'warning' there is a session all the same.",
        who=Who.ANYBODY,
        action=log_in,
        fields=(
            CURRENT_APP,
            Field(name="username", help="User name, in any case.", is_required=True),
            password("password", "Password."),
            TOTP_CODE,
            password(
                "new_password", "A new password, if it must be changed or has expired.", is_required=False
            ),
            *REMOTE,
        ),
        outputs=SESSION,
        codes=(*LOGIN_CODES, *PASSWORD_CODES, *THROTTLE_CODES),
    ),
    Endpoint(
        method="POST",
        path=path("user/logout"),
        summary="Log out",
        description="Out of all applications. The answer is always 'ok', so that nobody can try tokens here.",
        who=Who.USER,
        action=log_out,
        fields=ASKS,
    ),
    Endpoint(
        method="PATCH",
        path=path("user/password"),
        summary="Change a password",
        description="Who changes one's own must give the old one, super-users included; other sessions end, and the caller's own "
        "goes on under a new token.",
        who=Who.OWNER_OR_SUPER_USER,
        action=change_password,
        fields=(
            *ASKS,
            password("new_password", "The new password."),
            password("old_password", "The old one; needed for one's own.", is_required=False),
            OTHER_USER_ID,
            Field(
                name="password_expiry",
                help="By super-users: after how many days it expires; negative = as the settings say.",
                type=Type.INTEGER,
                min=-MAX_DAYS,
                max=MAX_DAYS,
            ),
            Field(
                name="must_change",
                help="By super-users: whether it must be changed at the next log-in.",
                type=Type.BOOLEAN,
                aliases=("password_must_change",),
            ),
        ),
        outputs=(NEW_UST,),
        codes=(
            *SUPER_USER_CODES,
            *FRESH_CODES,
            *PASSWORD_CODES,
            *THROTTLE_CODES,
            status_code.user_id.invalid,
        ),
    ),
    Endpoint(
        method="POST",
        path=path("password/reset"),
        aliases=(("POST", path("user/password/reset/begin")),),
        summary="Ask for a password reset",
        description="Mails a token to the user of this name or address. The answer is the same if there is none.",
        who=Who.ANYBODY,
        action=begin_reset,
        fields=(
            CURRENT_APP,
            Field(
                name="credential",
                help="User name or e-mail address, as the settings say.",
                is_required=True,
            ),
        ),
        codes=THROTTLE_CODES,
        since="3.2",
    ),
    Endpoint(
        method="PATCH",
        path=path("password/reset"),
        summary="Redeem a reset token",
        description="A token works once.",
        who=Who.ANYBODY,
        action=redeem_token,
        fields=(
            CURRENT_APP,
            Field(name="token", help="The token that was mailed.", is_required=True, is_secret=True),
        ),
        outputs=(Output(name="reset_key", help="What the last step needs beside the token."),),
        codes=(status_code.password_reset.could_not_access, *THROTTLE_CODES),
        since="3.2",
    ),
    Endpoint(
        method="DELETE",
        path=path("password/reset"),
        aliases=(("POST", path("user/password/reset/complete")),),
        summary="Set a forgotten password",
        description="All sessions of the user end. A second factor is still needed to log in.",
        who=Who.ANYBODY,
        action=reset_password,
        fields=(
            CURRENT_APP,
            Field(name="token", help="The token that was mailed.", is_required=True, is_secret=True),
            Field(name="reset_key", help="What redeeming it gave.", is_required=True, is_secret=True),
            password("password", "The new password."),
        ),
        codes=(status_code.password_reset.could_not_access, *PASSWORD_CODES, *THROTTLE_CODES),
        since="3.2",
    ),
    Endpoint(
        method="POST",
        path=path("user/session/step-up"),
        aliases=(("POST", path("session/step-up")),),
        summary="Prove again who is calling",
        description="For what answers E005010: the session goes on under a new token, with a fresh proof.",
        who=Who.USER,
        action=step_up,
        fields=(*ASKS, password("password", "The user's password."), TOTP_CODE),
        outputs=SESSION,
        codes=(*SESSION_CODES, *THROTTLE_CODES, status_code.auth.totp_missing),
        since="Junctor",
    ),
)
