"""Pages of users in their order, from a database of millions.

What makes it fast: an order that an index has; pages that begin after a user, not after a number of users; and for parts of names an
index of pieces.  What matches rarely is collected and sorted.  Of what matches often, a sample tells up to where in the order there will
be enough of it for a page, and what is up to there is collected and sorted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from junctor.server.sso.errors import invalid
from junctor.server.sso.protection import username_key
from junctor.server.sso.records import User, select_users, user_of
from junctor.server.sso.search_criteria import Criteria
from junctor.sql.tables.sso import SsoUser

EXACT_LIMIT: Final = 2_500  # users up to which a total is always exact
COUNT_UP_TO: Final = 10_000  # users; what the database estimates to be more is not counted
MAX_OFFSET: Final = 250_000  # users that a page may come after by its number
MAX_SCATTERED: Final = 10_000  # the same, when names are looked for
SAMPLE: Final = 1_000  # users
SPARE, LEAST, GROWTH = (
    4,
    6,
    4,
)  # times what is needed; places in a sample; times as much when it was not enough

Place = tuple[str, str]
"""A user's display name and user name: where it is in the order, which both make unique."""

# No other columns: these are in the indexes, which are enough then.
_FOUND = "SELECT u.display_name, u.username FROM sso_user u WHERE u.cluster_id = :cluster_id"
_AFTER = "u.display_name >= :after_0 AND (u.display_name, u.username) > (:after_0, :after_1)"
_UP_TO = "u.display_name <= :end"
_BEYOND = "u.display_name > :beyond"
_ORDER = "ORDER BY display_name, username"
_COLLECTED = """
WITH hits AS MATERIALIZED ({found} LIMIT :most)
SELECT hits.total, page.* FROM (SELECT count(*) AS total FROM hits) AS hits LEFT JOIN LATERAL (
    SELECT u.display_name, u.username FROM hits AS u WHERE {after} {order} OFFSET :offset LIMIT :limit
) AS page ON true {order}
"""
_IN_RANGE = "WITH hits AS MATERIALIZED ({found}) SELECT * FROM hits {order} LIMIT :limit"
_MERGED = "SELECT * FROM ({parts}) AS merged {order} OFFSET :offset LIMIT :limit"
_COUNTED = "SELECT count(*) FROM ({found} LIMIT :most) AS counted"
# Of all that matches, not of what comes after a place: that would be looked for in the order, user by user.
_SAMPLED = """
SELECT count(*) AS hits, array_agg(u.display_name ORDER BY u.display_name) FILTER (WHERE {after}) AS bounds
FROM ({found} LIMIT :most) AS u
"""
# Statistics are never right about what follows what in a name: the indexes are right always.
_PLANS = text(
    "SELECT set_config('enable_seqscan', 'off', true), set_config('work_mem', '16MB', true),"
    " set_config('jit', 'off', true), set_config('max_parallel_workers_per_gather', '0', true)"
)


@dataclass(frozen=True, slots=True)
class Total:
    """How many users there are, or about how many."""

    count: int
    is_exact: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """``limit`` users, after a place, or after the first ``offset`` ones; ``total``, if it is known from the page before."""

    limit: int
    offset: int = 0
    after: Place | None = None
    total: Total | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The users of a page, in their order, and whether there are others after them."""

    users: list[User]
    total: Total
    has_next: bool


class Pages:
    """Pages of what meets some criteria, over a connection in a transaction."""

    def __init__(self, connection: Connection, cluster_id: int, criteria: Criteria) -> None:
        self._connection = connection
        self._criteria = criteria
        self._parameters = {"cluster_id": cluster_id, **criteria.parameters}
        # Estimates of whole names are right, those of parts of names are often too low.
        self._limit = COUNT_UP_TO if criteria.has_names and not criteria.has_parts else EXACT_LIMIT
        connection.execute(_PLANS)

    def find(self, wanted: Wanted) -> Found:
        """A page.  Raises ``ValidationError`` (E008002) for a page so far from the first that it is to be reached by cursor."""
        most = MAX_SCATTERED if self._criteria.has_names else MAX_OFFSET
        if wanted.offset > most:
            raise invalid("cur_page", f"is after more than {most} users: continue from next_cursor instead.")
        if self._criteria.where == "true":
            names, total = self._ordered(wanted)
        else:
            names, total = self._matching(wanted)
        return Found(self._users(names[: wanted.limit]), total, len(names) > wanted.limit)

    def _matching(self, wanted: Wanted) -> tuple[list[str], Total]:
        """The user names of a page of what meets conditions, one more than fit."""
        found = f"{_FOUND} AND {self._criteria.where}{self._status_filter()}"
        estimate = 0
        if self._criteria.has_names:
            estimate = self._estimate(f"{_FOUND} AND {self._criteria.indexed}{self._status_filter()}")
        total = wanted.total
        if estimate <= COUNT_UP_TO and (total is None or total.is_exact):
            names, count = self._collected(found, wanted)
            if count <= self._limit:
                return names, Total(count, is_exact=True)
        return self._frequent(found, wanted, total or Total(max(estimate, self._limit + 1), is_exact=False))

    def _collected(self, found: str, wanted: Wanted) -> tuple[list[str], int]:
        """The user names of a page, and how many there are in all, of what matches rarely."""
        statement = _COLLECTED.format(found=found, order=_ORDER, after=_AFTER if wanted.after else "true")
        parameters = {
            "most": self._limit + 1,
            "offset": 0 if wanted.after else wanted.offset,
            "limit": wanted.limit + 1,
            **_place("after", wanted.after),
        }
        rows = self._run(statement, parameters)
        return [row.username for row in rows if row.username is not None], rows[0].total

    def _frequent(self, found: str, wanted: Wanted, total: Total) -> tuple[list[str], Total]:
        """The user names of a page of what matches often, and how many there are."""
        skipped = 0 if wanted.after else wanted.offset
        needed = skipped + wanted.limit + 1
        place = SPARE * needed * SAMPLE // total.count + LEAST
        names: list[str] = []
        after, places = (_AFTER if wanted.after else "true"), _place("after", wanted.after)
        sample = self._run(_SAMPLED.format(found=found, after=after), {"most": SAMPLE, **places})[0]
        bounds = sample.bounds or []
        if sample.hits < SAMPLE:
            bounds = []
            if not wanted.after:
                total = Total(sample.hits, is_exact=True)  # the estimate was wrong
        rest = f"{found} AND {after}"
        while True:
            end = bounds[place - 1] if place <= len(bounds) else None  # None: everything is needed
            statement = _IN_RANGE.format(
                found=f"{rest} AND {_UP_TO}" if end is not None else rest, order=_ORDER
            )
            parameters = {"limit": needed - len(names), "end": end, **places}
            names += [row.username for row in self._run(statement, parameters)]
            if end is None or len(names) >= needed:
                return names[skipped:], total
            rest, places = f"{found} AND {_BEYOND}", {"beyond": end}
            place *= GROWTH

    def _ordered(self, wanted: Wanted) -> tuple[list[str], Total]:
        """The user names of a page of all users, or of those of some statuses, which indexes have in order."""
        after = f" AND {_AFTER}" if wanted.after else ""
        parameters = {
            "offset": 0 if wanted.after else wanted.offset,
            "limit": wanted.limit + 1,
            **_place("after", wanted.after),
        }
        if self._criteria.statuses:
            parts = [
                f"({_FOUND} AND u.sign_up_status = '{sign_up}' AND u.approval_status = '{approval}'{after}"
                f" {_ORDER} LIMIT CAST(:offset AS bigint) + :limit)"
                for sign_up, approval in self._criteria.statuses
            ]
            statement = _MERGED.format(parts=" UNION ALL ".join(parts), order=_ORDER)
        else:
            statement = f"{_FOUND}{after} {_ORDER} OFFSET :offset LIMIT :limit"
        return [row.username for row in self._run(statement, parameters)], wanted.total or self._count()

    def _count(self) -> Total:
        found = _FOUND + self._status_filter()
        counted = self._run(_COUNTED.format(found=found), {"most": EXACT_LIMIT + 1})[0][0]
        if counted <= EXACT_LIMIT:
            return Total(counted, is_exact=True)
        return Total(max(self._estimate(found), EXACT_LIMIT + 1), is_exact=False)

    def _estimate(self, statement: str) -> int:
        """How many rows the database thinks that a statement has."""
        plan = self._run(f"EXPLAIN (FORMAT JSON) {statement}", {})[0][0]
        return int(plan[0]["Plan"]["Plan Rows"])

    def _status_filter(self) -> str:
        """The condition on statuses; they are of ours, not of callers."""
        if not self._criteria.statuses:
            return ""
        sign_ups = sorted({sign_up for sign_up, _ in self._criteria.statuses})
        approvals = sorted({approval for _, approval in self._criteria.statuses})
        return (
            f" AND u.sign_up_status IN ({_quoted(sign_ups)}) AND u.approval_status IN ({_quoted(approvals)})"
        )

    def _run(self, statement: str, parameters: Mapping[str, Any]) -> list[Row[Any]]:
        return list(self._connection.execute(text(statement), {**self._parameters, **parameters}).all())

    def _users(self, names: list[str]) -> list[User]:
        """The users of these user names, in this order."""
        if not names:
            return []
        keys = [username_key(name) for name in names]
        mine = SsoUser.cluster_id == self._parameters["cluster_id"]
        rows = self._connection.execute(select_users().where(mine, SsoUser.username_key.in_(keys))).all()
        users = {row.username: user_of(row) for row in rows}
        return [users[name] for name in names if name in users]


def _place(name: str, place: Place | None) -> dict[str, str]:
    return {} if place is None else {f"{name}_0": place[0], f"{name}_1": place[1]}


def _quoted(words: list[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)
