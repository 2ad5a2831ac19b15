"""What a search looks for, as conditions of SQL."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from junctor.server.sso.codes import const
from junctor.server.sso.errors import invalid
from junctor.server.sso.protection import Protection, username_key
from junctor.server.sso.search_names import LINES, SHORTEST, folded, grams
from junctor.server.sso.user_fields import APPROVAL_STATUSES, MAX_NAME, choice, flag, text

SIGN_UP_STATUSES: Final = (
    const.signup_status.before_confirmation,
    const.signup_status.to_approve,
    const.signup_status.final,
)
OPERATORS: Final = (const.search.and_, const.search.or_)
MAX_TEXT: Final = 800  # characters


@dataclass(frozen=True, slots=True)
class Criteria:
    """Conditions that users must meet: ``where``, in SQL, with ``parameters``; ``indexed`` is the part of it that an index answers.

    ``statuses`` are the pairs of sign-up and approval status that are looked for, empty = any, and are not in ``where``.  With
    ``has_names``, names are looked for, and with ``has_parts``, parts of them.  ``digest`` is another one for other criteria.
    """

    where: str = "true"
    indexed: str = "true"
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)
    statuses: tuple[tuple[str, str], ...] = ()
    has_names: bool = False
    has_parts: bool = False
    digest: str = ""


def criteria_of(given: Mapping[str, Any], protection: Protection) -> Criteria:
    """The conditions of a search (facts 1.6): an id, or a name, or an address, or else names and statuses.

    Raises ``ValidationError`` (E008002) for texts of less than two characters, and for statuses and operators that do not exist.
    """
    digest = hashlib.sha256(orjson.dumps(given, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
    if user_id := _text(given, "user_id"):
        return Criteria("u.user_id = :user_id", parameters={"user_id": user_id}, digest=digest)
    if username := _text(given, "username"):
        key = {"username": username_key(username)}
        return Criteria("u.username_key = :username", parameters=key, digest=digest)
    if email := _text(given, "email"):
        macs = {"email": protection.email_macs(email)}
        return Criteria("u.email_mac = ANY(:email)", parameters=macs, digest=digest)
    (pieces, checks), parameters = _names(given)
    statuses = _statuses(given)
    if not pieces:
        return Criteria(statuses=statuses, digest=digest)
    # Apart, so that the index answers the first half; it follows from the second one, which is right by itself.
    where = f"{pieces} AND {checks}"
    has_parts = not given.get("is_name_exact", True)
    return Criteria(where, pieces, parameters, statuses, has_names=True, has_parts=has_parts, digest=digest)


def _names(given: Mapping[str, Any]) -> tuple[tuple[str, str], dict[str, Any]]:
    """Conditions on names: what the index can answer, and what must hold; and their parameters."""
    is_exact = flag("is_name_exact", given.get("is_name_exact", True))
    operator = choice("name_op", given.get("name_op") or const.search.and_, OPERATORS)
    pieces: list[str] = []
    checks: list[str] = []
    parameters: dict[str, Any] = {}
    for line in LINES:
        if not (name := _text(given, line)):
            continue
        needle = folded(name)
        if len(name) > MAX_NAME or len(needle) < SHORTEST:
            raise invalid(line, f"must have from {SHORTEST} to {MAX_NAME} characters.")
        stored = rf"split_part(u.search_names, E'\n', {LINES.index(line) + 1})"
        pieces.append(f"sso_name_grams(u.search_names) @> CAST(:{line}_grams AS text[])")
        checks.append(f"{stored} = :{line}" if is_exact else f"strpos({stored}, :{line}) > 0")
        parameters |= {line: needle, f"{line}_grams": grams(line, needle, is_exact=is_exact)}
    joined = [f"({f' {operator} '.join(half)})" if half else "" for half in (pieces, checks)]
    return (joined[0], joined[1]), parameters


def _statuses(given: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    sign_up, approval = given.get("sign_up_status"), given.get("approval_status")
    if not sign_up and not approval:
        return ()
    sign_ups = (choice("sign_up_status", sign_up, SIGN_UP_STATUSES),) if sign_up else SIGN_UP_STATUSES
    approvals = (choice("approval_status", approval, APPROVAL_STATUSES),) if approval else APPROVAL_STATUSES
    return tuple((one, other) for one in sign_ups for other in approvals)


def _text(given: Mapping[str, Any], name: str) -> str:
    """A text to look for; '' if there is none."""
    value = given.get(name)
    if value is None or value == "":
        return ""
    stripped = text(name, value).strip()
    if not SHORTEST <= len(stripped) <= MAX_TEXT:
        raise invalid(name, f"must have at least {SHORTEST} characters.")
    return stripped
