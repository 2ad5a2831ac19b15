"""Endpoints about second factors and passkeys."""

from __future__ import annotations

from typing import Any, Final

from junctor.server.sso.codes import status_code
from junctor.server.sso.endpoints.declaration import Answer, Endpoint, Field, Given, Output, Type, Who
from junctor.server.sso.endpoints.signing_in import LOGIN_CODES, SESSION, opened
from junctor.server.sso.endpoints.vocabulary import (
    ASKS,
    CURRENT_APP,
    FRESH_CODES,
    NEW_UST,
    OTHER_USER_ID,
    SESSION_CODES,
    SUPER_USER_CODES,
    THROTTLE_CODES,
    TOTP_CODE,
    path,
)

CODE: Final = Field(
    name="totp_code",
    help="A code of the authenticator now.",
    is_required=True,
    is_secret=True,
    max=TOTP_CODE.max,
)
LABEL: Final = Field(
    name="totp_label", help="What the authenticator shows with the key.", aliases=("label",), max=200
)
CREDENTIAL: Final = Field(
    name="credential",
    help="What the browser answered, a PublicKeyCredential as JSON.",
    type=Type.OBJECT,
    is_required=True,
    is_secret=True,
)
PASSKEY_ID: Final = Field(
    name="passkey_id", help="`id` of the passkey in the list.", is_required=True, max=2000
)
PASSKEY_LABEL: Final = Field(name="label", help="What the user calls it.", max=200)
OPTIONS: Final = Output(
    name="options",
    help="What the browser's call is to be given as `publicKey`, with bytes as base64url.",
    type=Type.OBJECT,
)
RECOVERY_CODES: Final = Output(
    name="recovery_codes",
    help="Codes for when the authenticator is lost; shown this once.",
    type=Type.TEXTS,
)
INVALID: Final = (status_code.second_factor.invalid, status_code.second_factor.not_enrolled)


def begin_totp(given: Given) -> dict[str, Any]:
    """A key to set an authenticator up with."""
    made = given.sso.totp_enrolment.begin(given.caller, given.text("totp_label"))
    return {"totp_key": made.totp_key, "totp_uri": made.totp_uri, "qr_svg": made.qr_svg}


def confirm_totp(given: Given) -> dict[str, Any]:
    """The session's new token, and recovery codes."""
    done = given.sso.totp_enrolment.confirm(given.caller, given.text("totp_code"))
    return {"ust": done.ust, "recovery_codes": done.recovery_codes}


def disable_totp(given: Given) -> None:
    """Has codes not asked for any more."""
    given.sso.totp_enrolment.disable(given.caller, given.text("totp_code"))


def reset_totp(given: Given) -> dict[str, Any]:
    """The new key, if it was generated."""
    key = given.sso.totp.reset(
        given.caller, given.text("user_id"), given.text("totp_key"), given.text("totp_label")
    )
    return {"totp_key": "" if given.text("totp_key") else key}


def renew_codes(given: Given) -> dict[str, Any]:
    """New recovery codes."""
    return {"recovery_codes": given.sso.recovery_codes.renew(given.caller)}


def count_codes(given: Given) -> dict[str, Any]:
    """How many recovery codes are unused."""
    return {"left": given.sso.recovery_codes.count(given.caller)}


def registration_options(given: Given) -> dict[str, Any]:
    """What the browser makes a passkey with."""
    return {"options": given.sso.passkeys.registration_options(given.caller)}


def register(given: Given) -> dict[str, Any]:
    """The new passkey, and the session's new token."""
    id_, ust = given.sso.passkeys.register(
        given.caller, given.values["credential"] or {}, given.text("label")
    )
    return {"passkey_id": id_, "ust": ust}


def get_passkeys(given: Given) -> dict[str, Any]:
    """The passkeys of a user."""
    return {"result": given.sso.passkeys.get_list(given.caller, given.text("user_id"))}


def rename_passkey(given: Given) -> None:
    """Gives a passkey another label."""
    given.sso.passkeys.rename(given.caller, given.text("passkey_id"), given.text("label"))


def delete_passkey(given: Given) -> None:
    """Deletes a passkey."""
    given.sso.passkeys.delete(given.caller, given.text("passkey_id"), given.text("user_id"))


def log_in_options(given: Given) -> dict[str, Any]:
    """What the browser finds a passkey with."""
    return {"options": given.sso.passkeys.authentication_options(given.caller, given.text("username"))}


def log_in(given: Given) -> Answer:
    """A new session."""
    return opened(given.sso.passkeys.log_in(given.caller, given.values["credential"] or {}))


def step_up_options(given: Given) -> dict[str, Any]:
    """What the browser finds one of the caller's passkeys with."""
    return {"options": given.sso.passkeys.step_up_options(given.caller)}


def step_up(given: Given) -> Answer:
    """The caller's session under a new token."""
    return opened(given.sso.passkeys.step_up(given.caller, given.values["credential"] or {}))


FACTORS: Final = (
    Endpoint(
        method="POST",
        path=path("user/totp"),
        summary="Begin to set an authenticator up",
        description="Nothing changes before it is confirmed, within 15 minutes.",
        who=Who.USER,
        action=begin_totp,
        fields=(*ASKS, LABEL),
        outputs=(
            Output(name="totp_key", help="The key in base 32, to be typed."),
            Output(name="totp_uri", help="The same as an otpauth:// URI, to be opened."),
            Output(name="qr_svg", help="The same as an image, to be scanned."),
        ),
        codes=(*SESSION_CODES, *FRESH_CODES, status_code.common.invalid_input),
        since="Junctor",
    ),
    Endpoint(
        method="POST",
        path=path("user/totp/confirm"),
        aliases=(("PUT", path("user/totp")),),
        summary="Confirm an authenticator",
        description="Codes are asked for from now on. Other sessions of the user end, as the settings say.",
        who=Who.USER,
        action=confirm_totp,
        fields=(*ASKS, CODE),
        outputs=(NEW_UST, RECOVERY_CODES),
        codes=(*SESSION_CODES, *FRESH_CODES, *INVALID),
        since="Junctor",
    ),
    Endpoint(
        method="DELETE",
        path=path("user/totp"),
        summary="Remove an authenticator",
        description="With one of its codes or a recovery code; not where every user needs a second factor and there is no other one.",
        who=Who.USER,
        action=disable_totp,
        fields=(*ASKS, CODE),
        codes=(
            *SESSION_CODES,
            *FRESH_CODES,
            *INVALID,
            *THROTTLE_CODES,
            status_code.common.invalid_operation,
        ),
        since="Junctor",
    ),
    Endpoint(
        method="PATCH",
        path=path("user/totp"),
        summary="Reset the key of an authenticator",
        description="At once and without a confirmation, as Zato has it. The key is in the answer if it was generated.",
        who=Who.OWNER_OR_SUPER_USER,
        action=reset_totp,
        fields=(
            *ASKS,
            OTHER_USER_ID,
            Field(
                name="totp_key",
                help="The new key in base 32; generated if not given.",
                is_secret=True,
                max=200,
            ),
            LABEL,
        ),
        outputs=(Output(name="totp_key", help="The new key in base 32, if it was generated."),),
        codes=(
            *SUPER_USER_CODES,
            *FRESH_CODES,
            status_code.user_id.invalid,
            status_code.common.invalid_input,
        ),
        since="3.1",
    ),
    Endpoint(
        method="POST",
        path=path("user/recovery-codes"),
        summary="New recovery codes",
        description="Those of before end.",
        who=Who.USER,
        action=renew_codes,
        fields=ASKS,
        outputs=(RECOVERY_CODES,),
        codes=(*SESSION_CODES, *FRESH_CODES, status_code.second_factor.not_enrolled),
        since="Junctor",
    ),
    Endpoint(
        method="GET",
        path=path("user/recovery-codes"),
        summary="How many recovery codes are unused",
        who=Who.USER,
        action=count_codes,
        fields=ASKS,
        outputs=(Output(name="left", help="How many are unused.", type=Type.INTEGER),),
        codes=SESSION_CODES,
        since="Junctor",
    ),
)
PASSKEYS: Final = (
    Endpoint(
        method="POST",
        path=path("user/passkey/options"),
        summary="Begin to register a passkey",
        description="The answer is for `navigator.credentials.create`, and good for five minutes.",
        who=Who.USER,
        action=registration_options,
        fields=ASKS,
        outputs=(OPTIONS,),
        codes=(*SESSION_CODES, *FRESH_CODES, status_code.second_factor.not_enrolled),
        since="Junctor",
    ),
    Endpoint(
        method="POST",
        path=path("user/passkey"),
        aliases=(("PUT", path("user/passkey")),),
        summary="Register a passkey",
        description="With what the browser answered. Other sessions of the user end, as the settings say.",
        who=Who.USER,
        action=register,
        fields=(*ASKS, CREDENTIAL, PASSKEY_LABEL),
        outputs=(Output(name="passkey_id", help="`id` of the passkey in the list."), NEW_UST),
        codes=(
            *SESSION_CODES,
            *FRESH_CODES,
            *INVALID,
            status_code.common.invalid_operation,
            status_code.common.invalid_input,
        ),
        since="Junctor",
    ),
    Endpoint(
        method="GET",
        path=path("user/passkey"),
        summary="Passkeys of a user",
        description="Each has id, label, transports, is_backed_up, creation_time and last_used.",
        who=Who.OWNER_OR_SUPER_USER,
        action=get_passkeys,
        fields=(*ASKS, OTHER_USER_ID),
        outputs=(Output(name="result", help="Passkeys.", type=Type.OBJECTS, is_kept=True),),
        codes=(*SUPER_USER_CODES, status_code.user_id.invalid),
        since="Junctor",
    ),
    Endpoint(
        method="PATCH",
        path=path("user/passkey"),
        summary="Rename a passkey",
        who=Who.USER,
        action=rename_passkey,
        fields=(*ASKS, PASSKEY_ID, PASSKEY_LABEL),
        codes=(*SESSION_CODES, *INVALID, status_code.common.invalid_input),
        since="Junctor",
    ),
    Endpoint(
        method="DELETE",
        path=path("user/passkey"),
        summary="Delete a passkey",
        description="Other sessions of the user end, as the settings say.",
        who=Who.OWNER_OR_SUPER_USER,
        action=delete_passkey,
        fields=(*ASKS, PASSKEY_ID, OTHER_USER_ID),
        codes=(
            *SUPER_USER_CODES,
            *FRESH_CODES,
            *INVALID,
            status_code.user_id.invalid,
            status_code.common.invalid_operation,
        ),
        since="Junctor",
    ),
    Endpoint(
        method="POST",
        path=path("user/passkey/login/options"),
        aliases=(("POST", path("user/login/passkey")),),
        summary="Begin to log in with a passkey",
        description="The answer is for `navigator.credentials.get`, and good for five minutes. It is the same in kind whether there is "
        "such a user; without a user name, the browser offers the passkeys that it has.",
        who=Who.ANYBODY,
        action=log_in_options,
        fields=(CURRENT_APP, Field(name="username", help="User name, in any case.")),
        outputs=(OPTIONS,),
        codes=(status_code.second_factor.not_enrolled, *THROTTLE_CODES),
        since="Junctor",
    ),
    Endpoint(
        method="POST",
        path=path("user/passkey/login"),
        aliases=(("PUT", path("user/login/passkey")),),
        summary="Log in with a passkey",
        description="With what the browser answered. A passkey is two factors: no password and no code are needed beside it.",
        who=Who.ANYBODY,
        action=log_in,
        fields=(CURRENT_APP, CREDENTIAL),
        outputs=SESSION,
        codes=(*LOGIN_CODES, *INVALID, *THROTTLE_CODES),
        since="Junctor",
    ),
    Endpoint(
        method="POST",
        path=path("user/passkey/step-up/options"),
        summary="Begin to prove again who is calling, with a passkey",
        who=Who.USER,
        action=step_up_options,
        fields=ASKS,
        outputs=(OPTIONS,),
        codes=(*SESSION_CODES, status_code.second_factor.not_enrolled),
        since="Junctor",
    ),
    Endpoint(
        method="POST",
        path=path("user/passkey/step-up"),
        summary="Prove again who is calling, with a passkey",
        description="For what answers E005010: the session goes on under a new token, with a fresh proof.",
        who=Who.USER,
        action=step_up,
        fields=(*ASKS, CREDENTIAL),
        outputs=SESSION,
        codes=(*SESSION_CODES, *INVALID),
        since="Junctor",
    ),
)
