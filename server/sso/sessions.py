"""Sessions: opened, given other tokens, and ended with what ends them.

A session lasts for its idle time after the last call, and for its absolute time at the most.  Its token is nowhere but with who got it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson
from sqlalchemy import Connection

from junctor.server.sso import session_rows as rows
from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import UST_PREFIX
from junctor.server.sso.errors import not_allowed
from junctor.server.sso.gate import ENROL, no_session
from junctor.server.sso.protection import base32, new_token
from junctor.server.sso.records import Session, User
from junctor.server.sso.session_calls import PURPOSE, SessionCalls, change_of
from junctor.server.sso.session_expiry import idle_minutes
from junctor.server.sso.session_upkeep import LINKS, users_in

EXT_PURPOSE: Final = "sso.ext-session"
PUBLIC_ID_PREFIX: Final = "zses"
SECOND_FACTORS: Final = frozenset({"otp", "hwk", "swk", "mfa"})  # RFC 8176


@dataclass(frozen=True, slots=True)
class Opened:
    """A new session: its token, which is nowhere else, and what may be shown of it."""

    ust: str = field(repr=False)
    public_id: str
    creation_time: datetime
    expiration_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """How a session comes about: ``factors`` are those of RFC 8176, e.g. ('pwd', 'otp'), and ``ENROL``.

    Without an address and a user agent of its own, it has those of the caller.  ``minutes`` are how long it may be idle, None = as the
    settings say.
    """

    factors: tuple[str, ...] = ()
    auth_type: str = "default"
    auth_principal: str = ""
    linked_id: int | None = None
    ext_session: str = ""
    remote_addr: str = ""
    user_agent: str = ""
    minutes: int | None = None


class Sessions(SessionCalls):
    """All sessions of the cluster."""

    def start(self) -> None:
        """Begins to tell other workers which sessions end, and to write which are used."""
        self._upkeep.start()

    def stop(self) -> None:
        """Ends it, once all of it is written."""
        self._upkeep.stop()

    def open(self, connection: Connection, user: User, caller: Caller, origin: Origin) -> Opened:
        """A new session, in the caller's transaction; raises ``ValidationError`` if the user's sessions were ended since ``user`` was read.

        The oldest sessions end if the user has too many.
        """
        minutes = origin.minutes or idle_minutes(self._sso, caller, user.username)
        generation, is_changed_here = rows.lock_user(connection, user.id)
        if generation != user.generation and not is_changed_here:
            raise not_allowed("The user has changed meanwhile.")
        now, ust = datetime.now(UTC), new_token(UST_PREFIX)
        if (limit := int(self._sso.settings["session_max_per_user"])) > 0:
            rows.end_oldest(connection, user.id, now, limit - 1)
        longest = int(self._sso.settings["session_absolute"])
        absolute = now + timedelta(minutes=longest) if longest else None
        expires = rows.expiration(now, minutes, absolute)
        public_id = PUBLIC_ID_PREFIX + base32(secrets.token_bytes(16))
        seen = replace(
            caller,
            remote_addr=origin.remote_addr or caller.remote_addr,
            user_agent=origin.user_agent or caller.user_agent,
        )
        values = {
            "cluster_id": self._sso.store.cluster_id,
            "user_id": user.id,
            "public_id": public_id,
            "token_mac": self._sso.protection.mac(PURPOSE, ust),
            "app": caller.current_app,
            "creation_time": now,
            "last_used": now,
            "expiration_time": expires,
            "absolute_time": absolute,
            "idle_minutes": minutes,
            "remote_addr": rows.cleaned(seen.remote_addr, rows.MAX_ADDRESS),
            "user_agent": rows.cleaned(seen.user_agent, rows.MAX_USER_AGENT),
            "auth_type": origin.auth_type,
            "auth_principal": origin.auth_principal,
            "linked_id": origin.linked_id,
            "ext_session_mac": self._ext_mac(origin.ext_session),
            "auth_time": now,
            "auth_factors": list(origin.factors),
            "state_changes": [change_of(seen, now, "login") | {"idx": 1}],
        }
        rows.add(connection, values)
        return Opened(ust, public_id, now, expires)

    def rotate(self, connection: Connection, session: Session, factors: tuple[str, ...]) -> Opened:
        """The same session under a new token, with a fresh proof of who the user is; the old token ends.

        A session that is for enrolment alone becomes one for everything when ``factors`` has a second factor.
        Raises ``ValidationError`` if it has ended.  ``announce`` is to be called after the commit.
        """
        is_enough = bool(SECOND_FACTORS.intersection(factors))
        kept = [factor for factor in session.auth_factors if factor != ENROL or not is_enough]
        ust, now = new_token(UST_PREFIX), datetime.now(UTC)
        seen = Caller(cid="", remote_addr=session.remote_addr, user_agent=session.user_agent)
        values = {
            "id": session.id,
            "now": now,
            "mac": self._sso.protection.mac(PURPOSE, ust),
            "old": session.token_mac,
            "factors": orjson.dumps(list(dict.fromkeys([*kept, *factors]))).decode(),
            "change": orjson.dumps(change_of(seen, now, "step-up")).decode(),
        }
        if (expires := rows.rotate(connection, values)) is None:
            raise no_session()
        return Opened(ust, session.public_id, session.creation_time, expires)

    def end_all(self, connection: Connection, user: User, *, but: int | None = None) -> int:
        """Ends the sessions of a user, except the one with this id, and what applications got through OpenID Connect; how many sessions.

        It is in the caller's transaction, and ``announce`` is to be called after the commit.
        """
        return rows.end_all(connection, user.id, but)

    def announce(self, user: User | None = None, *, with_links: bool = False) -> None:
        """Has all workers look at the sessions and the data of a user anew, or of all users: this one at once, others within a second.

        ``with_links`` is for when linked accounts have changed.
        """
        users = None if user is None else [user.id]
        self._cache.forget(users)
        self._upkeep.changed(users, with_links=with_links)

    def heard(self, message: str) -> None:
        """Another worker announced something.  Neither blocks nor raises."""
        self._cache.forget(users_in(message))
        if message in ("", LINKS):
            self._sso.linked.calls.wake()

    def of_linked(self, connection: Connection, linked_id: int, ext_session: str) -> Session | None:
        """The valid session of a linked account, by what its own session is known by."""
        macs = self._sso.protection.macs(EXT_PURPOSE, ext_session)
        return rows.by_linked(connection, linked_id, macs, datetime.now(UTC))

    def _ext_mac(self, ext_session: str) -> bytes | None:
        return self._sso.protection.mac(EXT_PURPOSE, ext_session) if ext_session else None
