"""The keys that tokens are signed with: made when they are needed, replaced in time, the same for all workers."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import gevent
from joserfc.jwk import RSAKey
from sqlalchemy import Connection, insert, select, text
from sqlalchemy.sql import Select

from junctor.server.audit.trail import Event
from junctor.server.sso.audited import TRUSTED
from junctor.sql.engine import database_errors
from junctor.sql.tables.sso import SsoSigningKey

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

ALGORITHM: Final = "RS256"  # the one that every client must know
BITS: Final = 2048
FIELD: Final = "sso_signing_key.private_key"
KNOWN_FOR: Final = 10.0  # seconds until a worker looks for keys of others
AHEAD: Final = timedelta(days=1)  # how long a key is published before it signs
AFTER: Final = timedelta(days=2)  # how long it verifies afterwards: longer than any access token lives

_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('sso.oidc-key', :cluster))")
_END: Final = text(
    """
    UPDATE sso_signing_key SET signs_until = least(signs_until, now()), verifies_until = now()
     WHERE cluster_id = :cluster AND verifies_until > now()
    """
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key, and from when until when it signs."""

    kid: str
    key: RSAKey = field(repr=False)
    signs_from: datetime
    signs_until: datetime


class SigningKeys:
    """The keys of the cluster that are valid now."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso
        self._keys: list[SigningKey] = []
        self._looked = float("-inf")

    def look(self) -> None:
        """Looks for keys of other workers now and then, and makes one if there is none, or its successor in time.

        The rest works with what was found here, so that whoever has a connection to the database already needs no other one.
        """
        if time.monotonic() - self._looked >= KNOWN_FOR:
            self._load()
        now = datetime.now(UTC)
        if self._current(now) is None:
            self._create(now)
        newest = max(key.signs_until for key in self._keys)
        if newest - now < min(AHEAD, self._ttl / 4):
            self._create(newest)

    def signing(self) -> SigningKey:
        """The key that signs now."""
        current = self._current(datetime.now(UTC))
        assert current is not None, "look() was called at the beginning of the request"
        return current

    def find(self, kid: str) -> RSAKey | None:
        """A key that signatures may be verified with."""
        return next((key.key for key in self._keys if key.kid == kid), None)

    def public(self) -> list[dict[str, Any]]:
        """The keys as JWKS has them, those included that will sign next."""
        return [
            {**key.key.as_dict(private=False), "kid": key.kid, "use": "sig", "alg": ALGORITHM}
            for key in self._keys
        ]

    def replace(self, who: str, cid: str) -> str:
        """The id of a new key, after all others have ended at once: for keys that somebody else may have.

        Every token that they signed is invalid at once here, and for applications as soon as they fetch the keys.
        """
        store = self._sso.store
        made = _generate()
        with database_errors(), store.engine.begin() as connection:
            connection.execute(_LOCK, {"cluster": store.cluster_id})
            connection.execute(_END, {"cluster": store.cluster_id})
            kid = self._insert(connection, made, datetime.now(UTC), who, cid)
        self._load()
        return kid

    @property
    def _ttl(self) -> timedelta:
        return timedelta(days=self._sso.settings["oidc_key_ttl"])

    def _current(self, now: datetime) -> SigningKey | None:
        found = [key for key in self._keys if key.signs_from <= now < key.signs_until]
        return max(found, key=lambda key: key.signs_from, default=None)

    def _load(self) -> None:
        """The keys as the database has them; private ones are unsealed and parsed once."""
        store = self._sso.store
        with database_errors(), store.engine.connect() as connection:
            rows = connection.execute(_valid(store.cluster_id)).all()
        had = {key.kid: key for key in self._keys}
        self._keys = [had.get(row.kid) or self._parsed(row) for row in rows]
        self._looked = time.monotonic()

    def _parsed(self, row: Any) -> SigningKey:
        private = self._sso.protection.unseal(row.private_key_sealed, FIELD)
        key = RSAKey.import_key(private, {"kid": row.kid, "use": "sig", "alg": ALGORITHM})
        return SigningKey(row.kid, key, row.signs_from, row.signs_until)

    def _create(self, signs_from: datetime) -> None:
        """Makes a key that signs from then on, unless another worker has made one meanwhile."""
        store = self._sso.store
        made = _generate()
        with database_errors(), store.engine.begin() as connection:
            connection.execute(_LOCK, {"cluster": store.cluster_id})
            later = select(SsoSigningKey.id).where(
                SsoSigningKey.cluster_id == store.cluster_id, SsoSigningKey.signs_until > signs_from
            )
            if connection.execute(later).first() is None:
                self._insert(connection, made, signs_from, TRUSTED, "")
        self._load()

    def _insert(self, connection: Connection, made: RSAKey, signs_from: datetime, who: str, cid: str) -> str:
        kid = made.thumbprint()
        ends = signs_from + self._ttl
        connection.execute(
            insert(SsoSigningKey).values(
                cluster_id=self._sso.store.cluster_id,
                kid=kid,
                algorithm=ALGORITHM,
                private_key_sealed=self._sso.protection.seal(made.as_pem(private=True).decode(), FIELD),
                public_key=made.as_pem(private=False).decode(),
                signs_from=signs_from,
                signs_until=ends,
                verifies_until=ends + AFTER,
            )
        )
        self._sso.audit.record(connection, Event(cid=cid, op="oidc.new_key", actor=who, extra={"kid": kid}))
        log.info("There is a new key for OpenID Connect, %s, which signs from %s on.", kid, signs_from)
        return kid


def _valid(cluster_id: int) -> Select[str, str, datetime, datetime]:
    return (
        select(
            SsoSigningKey.kid,
            SsoSigningKey.private_key_sealed,
            SsoSigningKey.signs_from,
            SsoSigningKey.signs_until,
        )
        .where(SsoSigningKey.cluster_id == cluster_id, SsoSigningKey.verifies_until > text("now()"))
        .order_by(SsoSigningKey.signs_from, SsoSigningKey.id)
    )


def _generate() -> RSAKey:
    """A new key; it takes a tenth of a second or more, in a thread."""
    made: RSAKey = gevent.get_hub().threadpool.apply(RSAKey.generate_key, (BITS,))
    return made
