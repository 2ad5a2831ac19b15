"""Endpoints about users: made, read, changed, deleted, found, approved, locked."""

from __future__ import annotations

from typing import Any, Final

from junctor.server.sso.codes import const, status_code
from junctor.server.sso.endpoints.declaration import Endpoint, Field, Given, Output, Type, Who
from junctor.server.sso.endpoints.vocabulary import (
    APPROVAL_STATUSES,
    ASKS,
    EMAIL_CODES,
    FRESH_CODES,
    OTHER_USER_ID,
    PASSWORD_CODES,
    SIGN_UP_STATUSES,
    SUPER_USER_CODES,
    USER_ID,
    USERNAME_CODES,
    names_of_people,
    password,
    path,
)
from junctor.server.sso.search import SearchCtx

INVALID: Final = (
    status_code.user_id.invalid,
    status_code.common.invalid_input,
    status_code.common.missing_input,
)
MAX_PAGE: Final = 1_000_000_000

OWN_VIEW: Final = (
    Output(name="user_id", help="Id of the user."),
    Output(name="username", help="User name."),
    Output(name="email", help="E-mail address."),
    Output(name="is_email_verified", help="Whether the address was confirmed.", type=Type.BOOLEAN),
    Output(name="display_name", help="How the user is called."),
    Output(name="first_name", help="First name."),
    Output(name="middle_name", help="Middle name."),
    Output(name="last_name", help="Last name."),
    Output(name="is_totp_enabled", help="Whether there is a second factor.", type=Type.BOOLEAN),
    Output(name="totp_label", help="What the authenticator knows the key by."),
)
FULL_VIEW: Final = (
    *OWN_VIEW,
    Output(name="is_active", help="Always true.", type=Type.BOOLEAN),
    Output(name="is_internal", help="Whether the user came with the cluster.", type=Type.BOOLEAN),
    Output(name="is_super_user", help="Whether the user may do everything.", type=Type.BOOLEAN),
    Output(name="is_approval_needed", help="Whether a super-user must still decide.", type=Type.BOOLEAN),
    Output(name="approval_status", help="What was decided of the sign-up."),
    Output(name="approval_status_mod_by", help="Who decided: an id, or 'auto'."),
    Output(name="approval_status_mod_time", help="When it was decided.", type=Type.TIME),
    Output(name="approv_rej_by", help="Who approved or rejected the user."),
    Output(name="approv_rej_time", help="When that was.", type=Type.TIME),
    Output(name="is_locked", help="Whether the user can do nothing.", type=Type.BOOLEAN),
    Output(name="locked_time", help="When the user was locked or unlocked.", type=Type.TIME),
    Output(name="locked_by", help="Who did that."),
    Output(name="creation_ctx", help="How the user came about.", type=Type.ANY),
    Output(name="app_list", help="Applications that the user may use or asked for.", type=Type.TEXTS),
    Output(name="password_expiry", help="When the password expires.", type=Type.TIME),
    Output(name="password_is_set", help="Whether there is a password.", type=Type.BOOLEAN),
    Output(name="password_must_change", help="Whether it must be changed next time.", type=Type.BOOLEAN),
    Output(name="password_last_set", help="When it was set.", type=Type.TIME),
    Output(name="sign_up_status", help="How far the sign-up is."),
    Output(name="sign_up_time", help="When the user signed up.", type=Type.TIME),
    Output(name="sign_up_confirm_time", help="When the sign-up was confirmed.", type=Type.TIME),
    Output(name="is_rate_limit_active", help="Whether calls are limited.", type=Type.BOOLEAN),
    Output(name="rate_limit_type", help="Kind of the limit."),
    Output(name="rate_limit_def", help="The limit."),
    Output(name="rate_limit_check_parent_def", help="Whether other limits apply, too.", type=Type.BOOLEAN),
)
SIGN_UP_STATUS: Final = Field(
    name="sign_up_status", help="How far the sign-up is.", choices=SIGN_UP_STATUSES, max=30
)
APPROVAL_STATUS: Final = Field(
    name="approval_status", help="What was decided of the sign-up.", choices=APPROVAL_STATUSES, max=30
)
APP_LIST: Final = Field(
    name="app_list", help="By super-users: the applications that the user may use.", type=Type.TEXTS, max=100
)
TOTP_LABEL: Final = Field(name="totp_label", help="What an authenticator shows with the key.", max=200)


def create(given: Given) -> dict[str, Any]:
    """A new user, as super-users see one."""
    user = given.sso.users.create(
        given.caller,
        given.but("ust", "current_app", "auto_approve"),
        auto_approve=given.flag("auto_approve"),
    )
    return given.sso.users.view(user, is_full=True)


def get(given: Given) -> dict[str, Any]:
    """The caller, or another user for super-users."""
    user, is_full = given.sso.users.get(given.caller, given.text("user_id"))
    return given.sso.users.view(user, is_full=is_full)


def update(given: Given) -> None:
    """Changes a user; a field that is null has no value from then on."""
    given.sso.users.update(
        given.caller, given.but("ust", "current_app", "user_id"), user_id=given.text("user_id")
    )


def delete(given: Given) -> None:
    """Deletes a user."""
    given.sso.users.delete(given.caller, given.text("user_id"))


def approve(given: Given) -> None:
    """Approves a user."""
    given.sso.users.decide(given.caller, given.text("user_id"), is_approved=True)


def reject(given: Given) -> None:
    """Rejects a user."""
    given.sso.users.decide(given.caller, given.text("user_id"), is_approved=False)


def lock(given: Given) -> None:
    """Locks a user."""
    given.sso.users.set_lock(given.caller, given.text("user_id"), is_locked=True)


def unlock(given: Given) -> None:
    """Unlocks a user."""
    given.sso.users.set_lock(given.caller, given.text("user_id"), is_locked=False)


def search(given: Given) -> dict[str, Any]:
    """A page of users."""
    wanted = SearchCtx(
        **{key: value for key, value in given.but("ust", "current_app").items() if value is not None}
    )
    return given.sso.search.search(given.caller, wanted)


USERS: Final = (
    Endpoint(
        method="POST",
        path=path("user"),
        summary="Create a user",
        description="The password is a random one if none is given, which nobody learns. No call makes super-users: see the command line.",
        who=Who.SUPER_USER,
        action=create,
        fields=(
            *ASKS,
            Field(name="username", help="User name, unique in any case.", is_required=True),
            password("password", "Password.", is_required=False),
            Field(
                name="password_must_change",
                help="Whether it must be changed at the first log-in.",
                type=Type.BOOLEAN,
                aliases=("must_change",),
            ),
            *names_of_people(nullable=True),
            Field(name="email", help="E-mail address.", is_nullable=True),
            Field(name="is_locked", help="Whether the user can do nothing yet.", type=Type.BOOLEAN),
            SIGN_UP_STATUS,
            APP_LIST,
            Field(name="is_totp_enabled", help="Whether there is a second factor.", type=Type.BOOLEAN),
            Field(name="totp_key", help="Its key in base 32.", is_secret=True, max=200),
            TOTP_LABEL,
            Field(name="is_rate_limit_active", help="Whether calls are limited.", type=Type.BOOLEAN),
            Field(name="rate_limit_def", help="The limit.", max=10_000),
            Field(name="auto_approve", help="Whether the user is approved at once.", type=Type.BOOLEAN),
        ),
        outputs=FULL_VIEW,
        codes=(
            *SUPER_USER_CODES,
            *USERNAME_CODES,
            *EMAIL_CODES,
            *PASSWORD_CODES,
            *INVALID,
            status_code.app_list.invalid,
        ),
    ),
    Endpoint(
        method="GET",
        path=path("user"),
        summary="Details of a user",
        description="Users see their own names, address and second factor; super-users see everything.",
        who=Who.OWNER_OR_SUPER_USER,
        action=get,
        fields=(*ASKS, OTHER_USER_ID),
        outputs=FULL_VIEW,
        codes=(*SUPER_USER_CODES, status_code.user_id.invalid),
    ),
    Endpoint(
        method="PATCH",
        path=path("user"),
        summary="Change a user",
        description="What is not given stays, what is null has no value from then on. A single field that the caller may not change "
        "refuses the whole call. A new user name or e-mail address needs a fresh log-in.",
        who=Who.OWNER_OR_SUPER_USER,
        action=update,
        fields=(
            *ASKS,
            OTHER_USER_ID,
            Field(name="username", help="User name, unique in any case."),
            *names_of_people(nullable=True),
            Field(name="email", help="E-mail address.", is_nullable=True),
            Field(name="is_totp_enabled", help="Whether there is a second factor.", type=Type.BOOLEAN),
            TOTP_LABEL,
            Field(
                name="is_locked", help="By super-users: whether the user can do nothing.", type=Type.BOOLEAN
            ),
            Field(
                name="password_must_change",
                help="By super-users: whether the password must be changed next time.",
                type=Type.BOOLEAN,
                aliases=("must_change",),
            ),
            Field(
                name="password_expiry",
                help="By super-users: when the password expires.",
                type=Type.TIME,
                is_nullable=True,
            ),
            SIGN_UP_STATUS,
            APPROVAL_STATUS,
            APP_LIST,
            Field(
                name="is_approved", help="By super-users: true approves, false rejects.", type=Type.BOOLEAN
            ),
        ),
        codes=(
            *SUPER_USER_CODES,
            *FRESH_CODES,
            *USERNAME_CODES,
            *EMAIL_CODES,
            *INVALID,
            status_code.app_list.invalid,
        ),
    ),
    Endpoint(
        method="DELETE",
        path=path("user"),
        summary="Delete a user",
        description="For ever, with sessions and attributes. Nobody can delete oneself: see /zato/sso/user/erase.",
        who=Who.SUPER_USER,
        action=delete,
        fields=(*ASKS, USER_ID),
        codes=(*SUPER_USER_CODES, *FRESH_CODES, status_code.user_id.invalid),
    ),
    Endpoint(
        method="POST",
        path=path("user/approve"),
        aliases=(("POST", path("user/signup/approve")),),
        summary="Approve a user",
        description="Who was rejected can be approved later.",
        who=Who.SUPER_USER,
        action=approve,
        fields=(*ASKS, USER_ID),
        codes=(*SUPER_USER_CODES, status_code.user_id.invalid),
    ),
    Endpoint(
        method="POST",
        path=path("user/reject"),
        aliases=(("POST", path("user/signup/reject")),),
        summary="Reject a user",
        description="All sessions of the user end.",
        who=Who.SUPER_USER,
        action=reject,
        fields=(*ASKS, USER_ID),
        codes=(*SUPER_USER_CODES, status_code.user_id.invalid),
    ),
    Endpoint(
        method="POST",
        path=path("user/lock"),
        summary="Lock a user",
        description="All sessions of the user end.",
        who=Who.SUPER_USER,
        action=lock,
        fields=(*ASKS, USER_ID),
        codes=(*SUPER_USER_CODES, status_code.user_id.invalid),
        since="3.2",
    ),
    Endpoint(
        method="DELETE",
        path=path("user/lock"),
        summary="Unlock a user",
        who=Who.SUPER_USER,
        action=unlock,
        fields=(*ASKS, USER_ID),
        codes=(*SUPER_USER_CODES, status_code.user_id.invalid),
        since="3.2",
    ),
    Endpoint(
        method="GET",
        path=path("user/search"),
        summary="Search for users",
        description="A user id alone counts if it is given, otherwise a user name; without any criterion, all users are found. They are "
        "in the order of their display names, user names, times of sign-up and ids. `cursor` is the faster way through many pages.",
        who=Who.SUPER_USER,
        action=search,
        fields=(
            *ASKS,
            Field(name="user_id", help="Id, exact.", max=200),
            Field(name="username", help="User name, exact, in any case."),
            Field(name="email", help="E-mail address, exact, in any case."),
            *names_of_people(nullable=False),
            SIGN_UP_STATUS,
            APPROVAL_STATUS,
            Field(name="paginate", help="Whether there are pages; true by default.", type=Type.BOOLEAN),
            Field(
                name="cur_page",
                help="Which page; from 1, which is the default.",
                type=Type.INTEGER,
                min=-MAX_PAGE,
                max=MAX_PAGE,
            ),
            Field(
                name="page_size",
                help="How many users on a page; as the settings say by default, and at the most.",
                type=Type.INTEGER,
                min=-MAX_PAGE,
                max=MAX_PAGE,
            ),
            Field(
                name="name_op",
                help="Whether all names must match, or any of them.",
                choices=(const.search.and_, const.search.or_),
                max=10,
            ),
            Field(
                name="is_name_exact",
                help="Whether a name must match as a whole; true by default.",
                type=Type.BOOLEAN,
            ),
            Field(name="cursor", help="`next_cursor` of the page before.", max=10_000),
        ),
        outputs=(
            Output(name="total", help="How many users were found.", type=Type.INTEGER),
            Output(
                name="total_is_exact",
                help="Whether that is exact, or an estimate.",
                type=Type.BOOLEAN,
            ),
            Output(name="num_pages", help="How many pages there are.", type=Type.INTEGER),
            Output(name="page_size", help="How many users are on a page.", type=Type.INTEGER),
            Output(name="cur_page", help="Which page this is.", type=Type.INTEGER),
            Output(name="has_next_page", help="Whether there is another one.", type=Type.BOOLEAN),
            Output(name="has_prev_page", help="Whether there is one before.", type=Type.BOOLEAN),
            Output(name="next_page", help="Number of the next one.", type=Type.INTEGER),
            Output(name="prev_page", help="Number of the one before.", type=Type.INTEGER),
            Output(name="next_cursor", help="`cursor` of the next one."),
            Output(name="result", help="Users, as super-users see them.", type=Type.OBJECTS, is_kept=True),
        ),
        codes=(*SUPER_USER_CODES, status_code.common.invalid_input),
    ),
)
