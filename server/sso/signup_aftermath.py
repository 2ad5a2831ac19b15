"""What follows a sign-up: e-mails and the services that are called; done later, and as often as it takes, as a durable call.

So a sign-up takes as long for an address that is known as for any other.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from junctor.server.pubsub.durable import store_call
from junctor.server.service.call import Call
from junctor.server.service.channel import CHANNEL, DATA_FORMAT, ChannelInfo
from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import const
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.records import User

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

SERVICE: Final = "zato.sso.signup.after"
FIELD: Final = "sso.signup.after"
NEW, TAKEN, VERIFY = "new", "taken", "verify"
NOTICES_AN_HOUR: Final = 3  # that a user gets of sign-ups with the user's address
HOUR: Final = 3600  # seconds


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What happened: a new user, one whose address is another user's (``owner_id``), or a new address; and the token that confirms it."""

    kind: str
    user_id: str
    token: str = field(repr=False)
    owner_id: str = ""


def store(sso: SingleSignOn, caller: Caller, aftermath: Aftermath) -> None:
    """Has ``follow`` called with it; encrypted, and for as long as the token lives.  Raises as ``store_call`` does."""
    stored = {"caller": asdict(replace(caller, current_ust="")), "aftermath": asdict(aftermath)}
    call = Call(
        SERVICE,
        {"sealed": sso.protection.seal(orjson.dumps(stored).decode(), FIELD)},
        cid=caller.cid,
        channel=ChannelInfo(CHANNEL.INVOKE_ASYNC),
        data_format=DATA_FORMAT.DICT,
    )
    store_call(sso.context, call, expiration=sso.settings["signup_confirm_token_valid_for"] * 60)


def follow(sso: SingleSignOn, sealed: str) -> None:
    """Does what follows.  Raises ``StoreUnavailable`` and the like: then it is done again."""
    stored = orjson.loads(sso.protection.unseal(sealed, FIELD))
    caller, aftermath = Caller(**stored["caller"]), Aftermath(**stored["aftermath"])
    if aftermath.kind == TAKEN:
        _tell_owner(sso, caller, aftermath.owner_id)
        return
    user = sso.users.by_user_id(aftermath.user_id)
    if user is None:
        return  # deleted in the meantime
    if user.sign_up_status == const.signup_status.final and aftermath.kind == NEW:
        _welcome(sso, caller, user)
    elif user.email_mac:
        sso.mail.confirm(caller, user, aftermath.token)
    if aftermath.kind == NEW:
        _call_back(sso, caller, user, aftermath.token)


def _welcome(sso: SingleSignOn, caller: Caller, user: User) -> None:
    if user.approval_status == const.approval_status.approved and not user.is_locked:
        sso.mail.welcome(caller, user)


def _tell_owner(sso: SingleSignOn, caller: Caller, owner_id: str) -> None:
    owner = sso.users.by_user_id(owner_id)
    if owner is None:
        return  # several users have the address, or none has any more
    try:
        sso.throttle.take("signup-exists", owner.user_id, NOTICES_AN_HOUR, HOUR)
    except ValidationError:
        return  # the owner has heard of it
    sso.mail.notice(caller, owner, "signup-exists")


def _call_back(sso: SingleSignOn, caller: Caller, user: User, token: str) -> None:
    """Calls the services of the settings, each durably; what is stored of it has a token only if everybody gets it who signs up."""
    data: dict[str, Any] = {
        "user_id": user.user_id,
        "username": user.username,
        "current_app": caller.current_app,
        "app_list": user.app_list,
    }
    if sso.settings["signup_always_return_confirm_token"]:
        data["confirm_token"] = token
    for service in sso.settings["signup_callback_service_list"]:
        call = Call(
            service,
            data,
            cid=caller.cid,
            channel=ChannelInfo(CHANNEL.INVOKE_ASYNC),
            data_format=DATA_FORMAT.DICT,
        )
        store_call(sso.context, call)
