"""Endpoints about sessions: verified, renewed, looked at, listed, ended."""

from __future__ import annotations

from typing import Any, Final

from junctor.server.sso.endpoints.declaration import Endpoint, Field, Given, Output, Type, Who
from junctor.server.sso.endpoints.vocabulary import (
    CREATION_TIME,
    CURRENT_APP,
    EXPIRATION_TIME,
    SESSION_ASKS,
    SESSION_CODES,
    SUPER_USER_CODES,
    THROTTLE_CODES,
    path,
)

TARGET_UST: Final = Field(
    name="target_ust", help="The token of the session that it is about.", is_required=True, is_secret=True
)
PUBLIC_ID: Final = Field(
    name="public_id", help="What lists of sessions name it by.", is_required=True, max=200
)
REMOTE_ADDR: Final = Output(name="remote_addr", help="Where the user logged in from.")
USER_AGENT: Final = Output(name="user_agent", help="With which browser.")


def verify(given: Given) -> dict[str, Any]:
    """Whether a session is valid."""
    return {"is_valid": given.sso.sessions.verify(given.caller, given.text("target_ust"))}


def renew(given: Given) -> dict[str, Any]:
    """When the caller's session ends from now on."""
    return {"expiration_time": given.sso.sessions.renew(given.caller)}


def get(given: Given) -> dict[str, Any]:
    """A session."""
    session = given.sso.sessions.get(given.caller, given.text("target_ust"))
    return {
        "creation_time": session.creation_time,
        "expiration_time": session.expiration_time,
        "remote_addr": session.remote_addr,
        "user_agent": session.user_agent,
    }


def get_list(given: Given) -> dict[str, Any]:
    """Sessions of a user."""
    return {"result": given.sso.sessions.get_list(given.caller, given.text("target_ust"))}


def end(given: Given) -> None:
    """Ends a session."""
    given.sso.sessions.end(given.caller, given.text("public_id"))


def end_others(given: Given) -> dict[str, Any]:
    """Ends the caller's other sessions."""
    return {"ended": given.sso.sessions.end_others(given.caller)}


def introspect(given: Given) -> dict[str, Any]:
    """What an application may know of a session; nothing but that it is not valid, if it is not."""
    session = given.sso.sessions.introspect(given.caller, given.text("app_secret"), given.text("target_ust"))
    if session is None:
        return {"is_valid": False}
    return {
        "is_valid": True,
        "user_id": session.user.user_id,
        "username": session.user.username,
        "is_super_user": session.user.is_super_user,
        "public_id": session.public_id,
        "creation_time": session.creation_time,
        "expiration_time": session.expiration_time,
        "auth_time": session.auth_time,
        "auth_factors": list(session.auth_factors),
    }


SESSIONS: Final = (
    Endpoint(
        method="POST",
        path=path("user/session"),
        aliases=(("POST", path("session")),),
        summary="Verify a session",
        description="Also false for a session of a user who is locked or the like; it does not move the session's end on. "
        "Applications with a secret of their own use /zato/sso/session/introspect, for which nobody has to be logged in.",
        who=Who.SUPER_USER,
        action=verify,
        fields=(*SESSION_ASKS, TARGET_UST),
        outputs=(Output(name="is_valid", help="Whether it is valid.", type=Type.BOOLEAN),),
        codes=SUPER_USER_CODES,
    ),
    Endpoint(
        method="PATCH",
        path=path("user/session"),
        aliases=(("PATCH", path("session")),),
        summary="Renew one's session",
        description="Its idle time begins anew, as with each call; never beyond the longest time that the settings allow.",
        who=Who.USER,
        action=renew,
        fields=(
            *SESSION_ASKS,
            Field(name="target_ust", help="The same token; it is not looked at.", is_secret=True),
        ),
        outputs=(EXPIRATION_TIME,),
        codes=SESSION_CODES,
    ),
    Endpoint(
        method="GET",
        path=path("user/session"),
        aliases=(("GET", path("session")),),
        summary="Details of a session",
        who=Who.SUPER_USER,
        action=get,
        fields=(*SESSION_ASKS, TARGET_UST),
        outputs=(CREATION_TIME, EXPIRATION_TIME, REMOTE_ADDR, USER_AGENT),
        codes=SUPER_USER_CODES,
    ),
    Endpoint(
        method="DELETE",
        path=path("user/session"),
        aliases=(("DELETE", path("session")),),
        summary="End a session",
        description="One of one's own, as lists name it; any, for super-users.",
        who=Who.OWNER_OR_SUPER_USER,
        action=end,
        fields=(*SESSION_ASKS, PUBLIC_ID),
        codes=SESSION_CODES,
        since="Junctor",
    ),
    Endpoint(
        method="DELETE",
        path=path("user/session/others"),
        aliases=(("DELETE", path("session/others")), ("POST", path("user/session/end-others"))),
        summary="Log out elsewhere",
        description="Ends all sessions of the caller but the one that calls.",
        who=Who.USER,
        action=end_others,
        fields=SESSION_ASKS,
        outputs=(Output(name="ended", help="How many sessions ended.", type=Type.INTEGER),),
        codes=SESSION_CODES,
        since="Junctor",
    ),
    Endpoint(
        method="GET",
        path=path("user/session/list"),
        aliases=(("GET", path("session/list")),),
        summary="Sessions of a user",
        description="Of the caller; or, for super-users, of the user whose token is given. Each has public_id, app, auth_type, "
        "auth_principal, auth_factors, creation_time, expiration_time, last_used, remote_addr, user_agent, is_current and "
        "session_state_change_list, the history of its log-ins and renewals. Tokens are never in the list.",
        who=Who.OWNER_OR_SUPER_USER,
        action=get_list,
        fields=(
            *SESSION_ASKS,
            Field(name="target_ust", help="The token of a session of whom it is about.", is_secret=True),
        ),
        outputs=(Output(name="result", help="Sessions.", type=Type.OBJECTS, is_kept=True),),
        codes=SUPER_USER_CODES,
        since="3.1",
    ),
    Endpoint(
        method="POST",
        path=path("session/introspect"),
        aliases=(("POST", path("user/session/introspect")),),
        summary="Introspect a session",
        description="For applications that the cluster knows a secret of, and which may introspect; no session of a super-user is needed.",
        who=Who.APPLICATION,
        action=introspect,
        fields=(
            CURRENT_APP,
            Field(
                name="app_secret",
                help="The secret of the application.",
                is_required=True,
                is_secret=True,
            ),
            TARGET_UST,
        ),
        outputs=(
            Output(name="is_valid", help="Whether it is valid.", type=Type.BOOLEAN),
            Output(name="user_id", help="Whose it is."),
            Output(name="username", help="The name of that user."),
            Output(name="is_super_user", help="Whether that user may do everything.", type=Type.BOOLEAN),
            Output(name="public_id", help="What lists of sessions name it by."),
            CREATION_TIME,
            EXPIRATION_TIME,
            Output(name="auth_time", help="When the user last proved who they are.", type=Type.TIME),
            Output(name="auth_factors", help="With what, in the words of RFC 8176.", type=Type.TEXTS),
        ),
        codes=THROTTLE_CODES,
        since="Junctor",
    ),
)
