"""Searching users (facts sheet, section 1.6)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from junctor.server.sso.audited import audited
from junctor.server.sso.caller import Caller
from junctor.server.sso.errors import invalid
from junctor.server.sso.records import User
from junctor.server.sso.search_criteria import Criteria, criteria_of
from junctor.server.sso.search_pages import Found, Pages, Total, Wanted
from junctor.server.sso.user_fields import flag
from junctor.sql.engine import database_errors
from junctor.sql.errors import SecretUnreadable

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

CURSOR: Final = "sso.search.cursor"
MAX_CURSOR: Final = 10_000  # characters
MAX_PAGE: Final = 10**9
UNPAGED: Final = 5_000  # users on a page of a search without pages
PAGING: Final = frozenset({"paginate", "cur_page", "page_size", "cursor"})


@dataclass(slots=True)
class SearchCtx:
    """What to look for; '' or None = not given.  ``cursor`` continues from where ``next_cursor`` of an answer says."""

    user_id: str = ""
    username: str = ""
    email: str = ""
    display_name: str = ""
    first_name: str = ""
    middle_name: str = ""
    last_name: str = ""
    sign_up_status: str = ""
    approval_status: str = ""
    paginate: bool = True
    cur_page: int = 1
    page_size: int | None = None
    name_op: str = "and"
    is_name_exact: bool = True
    cursor: str = ""


class Search:
    """Pages of users."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def search(self, caller: Caller, wanted: SearchCtx, *, serialize_dt: bool = True) -> dict[str, Any]:
        """A page, for super-users and trusted callers.

        ``result`` has what super-users see of each user, in the order of display and user names.  ``total`` is exact up to 2,500 at
        least, and an estimate beyond, as ``total_is_exact`` says; ``has_next_page`` is right always.  ``next_cursor``, None on the last
        page, leads to the next page at the same cost for any page, and fits the same search alone.  Without ``paginate``, a page has
        5,000 users.  Raises ``ValidationError``: E008002 for texts of less than two characters, and for cursors that are none.
        """
        sso = self._sso
        with audited(sso, caller, "user.search") as event:
            event.by(sso.gate.super_user(caller))
            given = {name: value for name, value in asdict(wanted).items() if name not in PAGING}
            criteria = criteria_of(given, sso.protection)
            page, size = _number("cur_page", wanted.cur_page), self._size(wanted)
            asked = Wanted(size, offset=(page - 1) * size)
            if wanted.cursor:
                page, asked = self._continued(wanted.cursor, criteria, size)
            with database_errors(), sso.store.engine.begin() as connection:
                found = Pages(connection, sso.store.cluster_id, criteria).find(asked)
            event.extra["criteria"] = sorted(name for name in criteria.parameters if "grams" not in name)
        view = sso.users.view
        shown = [view(user, is_full=True, serialize_dt=serialize_dt) for user in found.users]
        return self._answer(found, criteria, page, size) | {"result": shown}

    def _answer(self, found: Found, criteria: Criteria, page: int, size: int) -> dict[str, Any]:
        count = found.total.count
        return {
            "total": count,
            "total_is_exact": found.total.is_exact,
            "num_pages": -(-count // size),
            "page_size": size,
            "cur_page": page,
            "has_next_page": found.has_next,
            "has_prev_page": page > 1,
            "next_page": page + 1 if found.has_next else None,
            "prev_page": page - 1 if page > 1 else None,
            "next_cursor": self._cursor(found.users[-1], found.total, criteria, page + 1)
            if found.has_next
            else None,
        }

    def _size(self, wanted: SearchCtx) -> int:
        settings = self._sso.settings
        if not flag("paginate", wanted.paginate):
            return UNPAGED
        if wanted.page_size is None:
            return int(settings["search_default_page_size"])
        return min(_number("page_size", wanted.page_size), int(settings["search_max_page_size"]))

    def _cursor(self, last: User, total: Total, criteria: Criteria, page: int) -> str:
        """A place in the order, encrypted, since it has names in it."""
        place = [criteria.digest, last.display_name, last.username, total.count, total.is_exact, page]
        return self._sso.protection.seal(orjson.dumps(place).decode(), CURSOR)

    def _continued(self, cursor: str, criteria: Criteria, size: int) -> tuple[int, Wanted]:
        problem = invalid("cursor", "is none that this search has returned.")
        if not isinstance(cursor, str) or len(cursor) > MAX_CURSOR or not cursor.isascii():
            raise problem
        try:
            place = orjson.loads(self._sso.protection.unseal(cursor, CURSOR))
        except SecretUnreadable:
            raise problem from None
        digest, display_name, username, count, is_exact, page = place
        if digest != criteria.digest:
            raise problem
        return page, Wanted(size, after=(display_name, username), total=Total(count, is_exact))


def _number(name: str, value: Any) -> int:
    """A number of at least 1; what is below is 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value > MAX_PAGE:
        raise invalid(name, "must be a whole number.")
    return max(value, 1)
