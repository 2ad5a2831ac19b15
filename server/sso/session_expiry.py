"""How long a new session may be idle: as the settings say, or as a service decides for the user and the application."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import orjson

from junctor.server.service.call import Call
from junctor.server.sso.caller import Caller

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

TIMEOUT: Final = 5.0  # seconds
MAX_MINUTES: Final = 525_600
log = logging.getLogger(__name__)


def idle_minutes(sso: SingleSignOn, caller: Caller, username: str) -> int:
    """The minutes; those of the settings if the service fails or says something else than a number of minutes."""
    default = int(sso.settings["session_expiry"])
    service = str(sso.settings["session_expiry_hook"] or "")
    if not service:
        return default
    wanted = {"current_app": caller.current_app, "username": username, "default_expiry": default}
    call = Call(
        service=service,
        payload=wanted,
        cid=caller.cid,
        timeout=TIMEOUT,
    )
    try:
        found = _minutes(sso.context.invoker.invoke(call).payload)
    except Exception:
        # boundary: it is anybody's service, and nobody should be kept from logging in because it fails
        log.exception(
            "The expiry service %s failed; the session may be idle for %d minutes.", service, default
        )
        return default
    if found is None:
        log.warning(
            "The expiry service %s did not say a number of minutes; the session may be idle for %d.",
            service,
            default,
        )
        return default
    return found


def _minutes(answer: Any) -> int | None:
    if isinstance(answer, str | bytes):
        answer = orjson.loads(answer)
    minutes = answer.get("expiry") if isinstance(answer, dict) else None
    if not isinstance(minutes, int) or isinstance(minutes, bool):
        return None
    return minutes if 1 <= minutes <= MAX_MINUTES else None
