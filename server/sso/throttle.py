"""How often something may fail or happen, counted in the database for the whole cluster.

An account, which need not exist, has one counter of failures in a row for all the addresses that its user is not known at, and one for
each address at which the user logged in lately: so nobody can keep users out who are where they always are.  Addresses and applications
are counted in windows of time.  The keys of all counters are digests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, text

from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.protection import username_key
from junctor.sql.engine import database_errors

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

PURPOSE: Final = "sso.throttle"
PASSWORD: Final = "pwd"  # noqa: S105 - the name of a factor (RFC 8176)
WINDOW: Final = 600  # seconds
KNOWN_FOR: Final = 30  # days
KEPT: Final = 7  # days, of a few failures
KEPT_BLOCKED: Final = 90  # days, of failures that one has to wait after
KEPT_OFF: Final = 3650  # days
MAX_ACCOUNT: Final = 1000  # characters

_LOOK = text("""
    SELECT key_mac, count, EXTRACT(EPOCH FROM blocked_until - now()) AS wait, EXTRACT(EPOCH FROM expires - now()) AS rest
    FROM sso_throttle WHERE cluster_id = :cluster_id AND key_mac = ANY(:keys) AND expires > now()
""")
_N = "CASE WHEN t.expires > now() THEN t.count + 1 ELSE 1 END"
_FAILED = text(f"""
    INSERT INTO sso_throttle AS t (cluster_id, key_mac, owner_mac, count, blocked_until, expires)
    VALUES (:cluster_id, :key, :owner, 1, CASE WHEN :free <= 1 THEN now() + interval '1 second' END, now() + make_interval(days => :kept))
    ON CONFLICT (cluster_id, key_mac) DO UPDATE SET
        count = {_N},
        blocked_until = CASE WHEN {_N} >= :free
            THEN now() + make_interval(secs => LEAST(:max_delay, power(2, LEAST({_N} - :free, 30)))) END,
        expires = now() + make_interval(
            days => CASE WHEN {_N} >= :off THEN :kept_off WHEN {_N} >= :free THEN :kept_blocked ELSE :kept END)
""")  # noqa: S608 - constants
_HAPPENED = text(f"""
    INSERT INTO sso_throttle AS t (cluster_id, key_mac, count, expires)
    SELECT :cluster_id, key, 1, now() + make_interval(secs => :seconds) FROM unnest(CAST(:keys AS bytea[])) AS key ORDER BY key
    ON CONFLICT (cluster_id, key_mac) DO UPDATE SET
        count = {_N},
        window_start = CASE WHEN t.expires > now() THEN t.window_start ELSE now() END,
        expires = CASE WHEN t.expires > now() THEN t.expires ELSE EXCLUDED.expires END
    RETURNING count, EXTRACT(EPOCH FROM expires - now()) AS rest
""")  # noqa: S608 - constants
_GRANT = text("""
    WITH blocked AS (
        SELECT 1 FROM sso_throttle
        WHERE cluster_id = :cluster_id AND key_mac = ANY(:bucket) AND expires > now() AND (count >= :off OR blocked_until > now())
    ), forgotten AS (
        DELETE FROM sso_throttle
        WHERE cluster_id = :cluster_id AND key_mac = ANY(:bucket) AND NOT EXISTS (SELECT 1 FROM blocked)
    ), known AS (
        INSERT INTO sso_throttle AS t (cluster_id, key_mac, expires)
        SELECT :cluster_id, key, now() + make_interval(days => :known) FROM unnest(CAST(:places AS bytea[])) AS key
        WHERE NOT EXISTS (SELECT 1 FROM blocked) ORDER BY key
        ON CONFLICT (cluster_id, key_mac) DO UPDATE SET expires = EXCLUDED.expires
        WHERE t.expires < EXCLUDED.expires - interval '1 day'
    )
    SELECT NOT EXISTS (SELECT 1 FROM blocked)
""")
_FORGET = text("DELETE FROM sso_throttle WHERE cluster_id = :cluster_id AND owner_mac = ANY(:owners)")
_IS_OFF = text("""
    SELECT EXISTS (
        SELECT 1 FROM sso_throttle
        WHERE cluster_id = :cluster_id AND owner_mac = ANY(:owners) AND expires > now() AND count >= :off)
""")


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt to prove who somebody is, which was admitted; it ends with ``failed`` or ``is_granted``, or with neither."""

    throttle: Throttle
    bucket: list[bytes]
    """What the counter of failures may be found by, the newest key first; so are the next two, which may be empty."""
    address: list[bytes]
    app: list[bytes]
    owner: bytes
    places: list[bytes]
    """What is remembered of the address after a success."""
    is_known: bool
    """Whether the user, if there is one, logged in from this address lately."""
    is_good: bool
    """Whether any user did."""

    def failed(self) -> None:
        """Counts a failure."""
        self.throttle.count_failure(self)

    def is_granted(self, connection: Connection) -> bool:
        """Forgets the failures, in the caller's transaction; False if others failed so often meanwhile that it counts as a failure.

        So that of many attempts at the same moment, no more are of any use than would be one after the other.
        """
        return self.throttle.grant(connection, self)


class Throttle:
    """Counters of failures and of calls."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def begin(self, account: str, caller: Caller, *, factor: str = PASSWORD) -> Attempt:
        """An attempt for a user name, whether or not there is such a user.  Raises as ``admit`` does."""
        attempt, rows = self._attempt(account, caller, factor)
        self._require_free([rows[key] for key in attempt.bucket if key in rows])
        if not caller.is_trusted:
            limits = self._sso.settings
            if attempt.address and not attempt.is_known:
                _require_below(rows, attempt.address, limits["throttle_address_limit"])
            if not attempt.is_good:
                _require_below(rows, attempt.app, limits["throttle_app_limit"])
        return attempt

    def admit(self, account: str, caller: Caller, *, factor: str = PASSWORD) -> None:
        """Raises ``ValidationError`` (E005009, with ``retry_after``) while an account, which need not exist, has to wait."""
        self.begin(account, caller, factor=factor)

    def failed(self, account: str, caller: Caller, *, factor: str = PASSWORD) -> None:
        """Counts a failure."""
        self._attempt(account, caller, factor)[0].failed()

    def succeeded(
        self, account: str, *, factor: str = PASSWORD, connection: Connection | None = None
    ) -> None:
        """Forgets all failures of an account, wherever they came from; in the caller's transaction if there is one."""
        given = {"cluster_id": self._cluster_id, "owners": self._owners(account, factor)}
        if connection is not None:
            connection.execute(_FORGET, given)
            return
        with database_errors(), self._sso.store.engine.begin() as own:
            own.execute(_FORGET, given)

    def is_off(self, account: str, *, factor: str = PASSWORD) -> bool:
        """Whether there were so many failures in a row somewhere that the factor is not taken from there until it is reset."""
        given = {
            "cluster_id": self._cluster_id,
            "owners": self._owners(account, factor),
            "off": self._off,
        }
        with database_errors(), self._sso.store.engine.connect() as connection:
            return bool(connection.execute(_IS_OFF, given).scalar_one())

    def take(self, what: str, key: str, limit: int, seconds: int) -> None:
        """Counts a call; raises ``ValidationError`` (E005009) for more than ``limit`` of them within ``seconds``."""
        mac = self._macs("call", what, key)[0]
        given = {"cluster_id": self._cluster_id, "keys": [mac], "seconds": seconds}
        with database_errors(), self._sso.store.engine.begin() as connection:
            count, rest = connection.execute(_HAPPENED, given).one()
        if count > limit:
            raise _too_many(f"More than {limit} calls within {seconds} s.", rest)

    def welcome(self, connection: Connection, account: str, caller: Caller) -> None:
        """Forgets the failures of an account and knows its address, after a log-in without a password; in the caller's transaction."""
        self.succeeded(account, connection=connection)
        self.grant(connection, self._attempt(account, caller, PASSWORD, connection)[0])

    def count_failure(self, attempt: Attempt) -> None:
        """Counts a failure of an attempt."""
        settings = self._sso.settings
        account = {
            "cluster_id": self._cluster_id,
            "key": attempt.bucket[0],
            "owner": attempt.owner,
            "free": settings["throttle_free_failures"],
            "max_delay": settings["throttle_max_delay"],
            "off": self._off,
            "kept": KEPT,
            "kept_blocked": KEPT_BLOCKED,
            "kept_off": KEPT_OFF,
        }
        keys = [*attempt.address[:1], *attempt.app[:1]]
        windows = {"cluster_id": self._cluster_id, "keys": keys, "seconds": WINDOW}
        with database_errors(), self._sso.store.engine.begin() as connection:
            connection.execute(_FAILED, account)
            if keys:
                connection.execute(_HAPPENED, windows)

    def grant(self, connection: Connection, attempt: Attempt) -> bool:
        """Forgets the failures of an attempt; see there."""
        given = {
            "cluster_id": self._cluster_id,
            "bucket": attempt.bucket,
            "places": attempt.places,
            "known": KNOWN_FOR,
            "off": self._off,
        }
        return bool(connection.execute(_GRANT, given).scalar_one())

    def _attempt(
        self, account: str, caller: Caller, factor: str, connection: Connection | None = None
    ) -> tuple[Attempt, dict[bytes, Any]]:
        """An attempt that nobody has admitted yet, and the counters that there are."""
        account, place = username_key(account[:MAX_ACCOUNT]), _place(caller)
        own, others = self._macs("account", account, factor, place), self._macs("account", account, factor)
        known, good = self._macs("known", account, place), self._macs("good", place)
        is_anybody = not caller.is_trusted
        address = self._macs("address", place) if place and is_anybody else []
        app = self._macs("app", caller.current_app) if is_anybody else []
        rows = self._rows([*own, *others, *known, *good, *address, *app], connection)
        is_known = caller.is_trusted or (bool(place) and any(key in rows for key in known))
        attempt = Attempt(
            throttle=self,
            bucket=own if is_known else others,
            address=address,
            app=app,
            owner=self._macs("owner", account, factor)[0],
            places=[known[0], good[0]] if address else [],
            is_known=is_known,
            is_good=any(key in rows for key in good),
        )
        return attempt, rows

    def _rows(self, keys: list[bytes], connection: Connection | None) -> dict[bytes, Any]:
        given = {"cluster_id": self._cluster_id, "keys": keys}
        if connection is not None:
            return {bytes(row.key_mac): row for row in connection.execute(_LOOK, given)}
        with database_errors(), self._sso.store.engine.connect() as own:
            return {bytes(row.key_mac): row for row in own.execute(_LOOK, given)}

    def _require_free(self, rows: Sequence[Any]) -> None:
        if any(row.count >= self._off for row in rows):
            raise _too_many(
                "So many attempts failed in a row that none is taken until the password or the factor is reset.",
                self._sso.settings["throttle_max_delay"],
            )
        wait = max((row.wait for row in rows if row.wait is not None), default=0)
        if wait > 0:
            raise _too_many("Too many attempts failed.", wait)

    def _owners(self, account: str, factor: str) -> list[bytes]:
        return self._macs("owner", username_key(account[:MAX_ACCOUNT]), factor)

    def _macs(self, *parts: str) -> list[bytes]:
        return self._sso.protection.macs(PURPOSE, "\0".join(parts))

    @property
    def _off(self) -> int:
        return int(self._sso.settings["throttle_password_off"])

    @property
    def _cluster_id(self) -> int:
        return self._sso.store.cluster_id


def _place(caller: Caller) -> str:
    """Where a caller is: an address, or with IPv6 the /64 that somebody has for themselves; '' = nobody knows."""
    if caller.is_trusted:
        return "junctor"
    try:
        address = ip_address(caller.remote_addr.partition("%")[0])
    except ValueError:
        return caller.remote_addr[:MAX_ACCOUNT]
    if not isinstance(address, IPv6Address):
        return str(address)
    return str(address.ipv4_mapped or ip_network((int(address), 64), strict=False))


def _require_below(rows: dict[bytes, Any], keys: Sequence[bytes], limit: int) -> None:
    for key in keys:
        if key in rows and rows[key].count >= limit:
            raise _too_many(
                "Too many attempts failed from this address or through this application.", rows[key].rest
            )


def _too_many(reason: str, wait: Any) -> ValidationError:
    return ValidationError(
        status_code.auth.too_many_attempts, True, reason=reason, retry_after=max(1, math.ceil(wait))
    )
