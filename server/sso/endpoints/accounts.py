"""Endpoints about linked accounts, and about a user's data as a whole."""

from __future__ import annotations

from typing import Any, Final

from junctor.server.sso.codes import const, status_code
from junctor.server.sso.endpoints.declaration import Endpoint, Field, Given, Output, Type, Who
from junctor.server.sso.endpoints.vocabulary import (
    ASKS,
    FRESH_CODES,
    OTHER_USER_ID,
    SUPER_USER_CODES,
    USER_ID,
    path,
)

AUTH_TYPES: Final = (const.auth_type.basic_auth, const.auth_type.jwt)
MEANT: Final = (
    USER_ID,
    Field(
        name="auth_type",
        help="Kind of the security definition.",
        is_required=True,
        choices=(*AUTH_TYPES, *(f"zato.{name}" for name in AUTH_TYPES)),
        max=30,
    ),
    Field(
        name="auth_username",
        help="Name of the definition, or its user name if that is one definition's alone.",
        is_required=True,
        max=200,
    ),
)
CODES: Final = (
    *SUPER_USER_CODES,
    *FRESH_CODES,
    status_code.user_id.invalid,
    status_code.common.invalid_input,
    status_code.common.invalid_operation,
)


def get_links(given: Given) -> dict[str, Any]:
    """Links of a user."""
    return {"result": given.sso.linked.get_list(given.caller, given.text("user_id"))}


def link(given: Given) -> None:
    """Links a definition to a user."""
    given.sso.linked.create(
        given.caller,
        given.text("user_id"),
        given.text("auth_type"),
        given.text("auth_username"),
        is_active=given.flag("is_active", default=True),
    )


def unlink(given: Given) -> None:
    """Deletes a link."""
    given.sso.linked.delete(
        given.caller, given.text("user_id"), given.text("auth_type"), given.text("auth_username")
    )


def export(given: Given) -> dict[str, Any]:
    """All that is stored of a user."""
    return {"data": given.sso.personal_data.export(given.caller, given.text("user_id"))}


def erase(given: Given) -> None:
    """Deletes a user with everything that belongs to the user."""
    given.sso.personal_data.erase(given.caller, given.text("user_id"))


LINKED: Final = (
    Endpoint(
        method="GET",
        path=path("user/linked"),
        summary="Linked accounts of a user",
        description="Each has auth_type, auth_username, creation_time and is_active.",
        who=Who.OWNER_OR_SUPER_USER,
        action=get_links,
        fields=(*ASKS, OTHER_USER_ID),
        outputs=(Output(name="result", help="Linked accounts.", type=Type.OBJECTS, is_kept=True),),
        codes=(*SUPER_USER_CODES, status_code.user_id.invalid),
        since="3.1",
    ),
    Endpoint(
        method="POST",
        path=path("user/linked"),
        summary="Link an account",
        description="Requests with the credentials of a security definition are the user's from now on; their answers have the token of a "
        "session in the header X-Zato-SSO-UST. A definition is one user's at the most.",
        who=Who.SUPER_USER,
        action=link,
        fields=(
            *ASKS,
            *MEANT,
            Field(name="is_active", help="Whether the link works; true by default.", type=Type.BOOLEAN),
        ),
        codes=CODES,
        since="3.1",
    ),
    Endpoint(
        method="DELETE",
        path=path("user/linked"),
        summary="Unlink an account",
        description="Sessions that were opened through it end.",
        who=Who.SUPER_USER,
        action=unlink,
        fields=(*ASKS, *MEANT),
        codes=CODES,
        since="3.1",
    ),
)
PERSONAL_DATA: Final = (
    Endpoint(
        method="GET",
        path=path("user/export"),
        summary="Export all data of a user",
        description="Profile, addresses, attributes, sessions, linked accounts, passkeys, recovery codes, what applications were granted, "
        "and the audit events about the user; never a hash, a key or a token.",
        who=Who.OWNER_OR_SUPER_USER,
        action=export,
        fields=(*ASKS, OTHER_USER_ID),
        outputs=(Output(name="data", help="The data.", type=Type.OBJECT),),
        codes=(*SUPER_USER_CODES, *FRESH_CODES, status_code.user_id.invalid),
        since="Junctor",
    ),
    Endpoint(
        method="DELETE",
        path=path("user/erase"),
        summary="Erase a user",
        description="For ever, with everything that belongs to the user; audit events stay, under an id that leads to nobody any more. "
        "The last super-user who can log in cannot be erased.",
        who=Who.OWNER_OR_SUPER_USER,
        action=erase,
        fields=(*ASKS, OTHER_USER_ID),
        codes=(
            *SUPER_USER_CODES,
            *FRESH_CODES,
            status_code.user_id.invalid,
            status_code.common.invalid_operation,
        ),
        since="Junctor",
    ),
)
