"""``self.audit_pii``: what services write to the audit trail (facts sheet, section 2.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson

from junctor.server.audit.trail import ERROR, OK, REFUSED, Event

if TYPE_CHECKING:
    from junctor.server.audit.trail import AuditTrail

_OUTCOMES: Final = (OK, REFUSED, ERROR)


class AuditPII:
    """Writes events of services.  Each is committed when the call returns; ``StoreUnavailable`` is raised when it cannot be.

    ``current_user`` is who acts, a user id as a rule, and ``target_user`` whom it is about.  ``result`` says how it went, and ``extra``,
    a dictionary or a text, what else there is to know.
    """

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail

    def info(
        self,
        cid: str,
        op: str,
        current_user: str = "",
        target_user: str = "",
        result: str = "",
        extra: Mapping[str, Any] | str = "",
    ) -> None:
        """Something was done."""
        self._write(OK, cid, op, current_user, target_user, result, extra)

    def warn(
        self,
        cid: str,
        op: str,
        current_user: str = "",
        target_user: str = "",
        result: str = "",
        extra: Mapping[str, Any] | str = "",
    ) -> None:
        """Something was refused."""
        self._write(REFUSED, cid, op, current_user, target_user, result, extra)

    warning = warn

    def error(
        self,
        cid: str,
        op: str,
        current_user: str = "",
        target_user: str = "",
        result: str = "",
        extra: Mapping[str, Any] | str = "",
    ) -> None:
        """Something went wrong."""
        self._write(ERROR, cid, op, current_user, target_user, result, extra)

    def _write(  # noqa: PLR0913 - the contract
        self,
        outcome: str,
        cid: str,
        op: str,
        current_user: str,
        target_user: str,
        result: str,
        extra: Mapping[str, Any] | str,
    ) -> None:
        more = _dictionary(extra)
        if result in _OUTCOMES:
            outcome = result
        elif result:
            more = {"result": result, **more}
        self._trail.note(
            Event(
                cid=cid or "",
                op=op,
                outcome=outcome,
                actor=current_user or "",
                target=target_user or "",
                extra=more,
            )
        )


def _dictionary(extra: Mapping[str, Any] | str) -> dict[str, Any]:
    """What services give as ``extra``; the text of a JSON object is one."""
    if isinstance(extra, Mapping):
        return dict(extra)
    if not extra:
        return {}
    try:
        parsed = orjson.loads(extra)
    except orjson.JSONDecodeError:
        parsed = extra
    return parsed if isinstance(parsed, dict) else {"text": extra}
