"""Sessions in the database: each function is one step in a transaction of its caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, cast

from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select, text, update

from junctor.server.sso.records import Session, select_sessions, session_of
from junctor.sql.tables.sso import SsoGrant, SsoSession, SsoUser

MAX_HISTORY: Final = 100  # changes of state that a session remembers
MAX_ADDRESS: Final = 200  # characters
MAX_USER_AGENT: Final = 1000  # characters
_ADD = insert(cast(Table, SsoSession.__table__))
_FIND = select_sessions().where(
    SsoSession.cluster_id == bindparam("cluster"),
    SsoSession.token_mac.in_(bindparam("macs", expanding=True)),
    SsoSession.expiration_time > bindparam("now"),
)
_HISTORY = f"""
    (CASE WHEN jsonb_array_length(state_changes) >= {MAX_HISTORY} THEN state_changes - 0 ELSE state_changes END)
    || jsonb_build_array(CAST(:change AS jsonb) || jsonb_build_object(
        'idx', COALESCE(CAST(state_changes -> -1 ->> 'idx' AS integer), 0) + 1))
"""
_MOVED = "LEAST(CAST(:now AS timestamptz) + make_interval(mins => idle_minutes), absolute_time)"
_RENEW = text(f"""
    UPDATE sso_session SET last_used = :now, expiration_time = {_MOVED}, state_changes = {_HISTORY}
    WHERE id = :id AND expiration_time > :now
    RETURNING expiration_time
""")  # noqa: S608 - constants
_ROTATE = text(f"""
    UPDATE sso_session
    SET last_used = :now, expiration_time = {_MOVED}, state_changes = {_HISTORY},
        token_mac = :mac, auth_time = :now, auth_factors = CAST(:factors AS jsonb)
    WHERE id = :id AND token_mac = :old AND expiration_time > :now
    RETURNING expiration_time
""")  # noqa: S608 - constants
_TOUCH = text(f"""
    UPDATE sso_session SET last_used = :now, expiration_time = {_MOVED}
    WHERE id = :id AND expiration_time > :now AND last_used < :now
""")  # noqa: S608 - constants
_LOCK = text("""
    SELECT generation, xmin = CAST(pg_current_xact_id() AS xid) AS is_ours
    FROM sso_user WHERE id = :id FOR NO KEY UPDATE
""")


def find(connection: Connection, cluster: int, macs: Sequence[bytes], now: datetime) -> Session | None:
    """The session with one of these digests, unless it has expired."""
    row = connection.execute(_FIND, {"cluster": cluster, "macs": macs, "now": now}).one_or_none()
    return session_of(row) if row is not None else None


def lock_user(connection: Connection, user_row: int) -> tuple[int, bool]:
    """A user's generation, -1 for a user who is gone, and whether this transaction has changed the user itself.

    Whatever else opens or ends sessions of this user waits until the end of the transaction.
    """
    row = connection.execute(_LOCK, {"id": user_row}).one_or_none()
    return (int(row.generation), bool(row.is_ours)) if row is not None else (-1, False)


def add(connection: Connection, values: Mapping[str, Any]) -> None:
    """A new session."""
    connection.execute(_ADD, dict(values))


def renew(connection: Connection, id_: int, now: datetime, change: str) -> datetime | None:
    """When the session ends, whose idle time begins anew; ``change`` is JSON for its history.  None if it has ended."""
    found: datetime | None = connection.scalar(_RENEW, {"id": id_, "now": now, "change": change})
    return found


def rotate(connection: Connection, values: Mapping[str, Any]) -> datetime | None:
    """When the session ends, which has another token from now on; None if it has ended or had another one already."""
    found: datetime | None = connection.scalar(_ROTATE, dict(values))
    return found


def touch(connection: Connection, used: Mapping[int, datetime]) -> None:
    """Moves idle sessions on, by their ids; in order, so that two workers never wait for each other in a circle."""
    connection.execute(_TOUCH, [{"id": id_, "now": used[id_]} for id_ in sorted(used)])


def end_oldest(connection: Connection, user_row: int, now: datetime, keep: int) -> int:
    """Ends all sessions of a user but those that were opened last; how many."""
    newest = (
        select(SsoSession.id)
        .where(SsoSession.user_id == user_row, SsoSession.expiration_time > now)
        .order_by(SsoSession.creation_time.desc(), SsoSession.id.desc())
        .limit(keep)
    )
    statement = delete(SsoSession).where(SsoSession.user_id == user_row, SsoSession.id.not_in(newest))
    return connection.execute(statement).rowcount


def end_all(connection: Connection, user_row: int, but: int | None) -> int:
    """Ends the sessions of a user, and what applications got through OpenID Connect, except for one session; how many sessions."""
    connection.execute(
        update(SsoUser).where(SsoUser.id == user_row).values(generation=SsoUser.generation + 1)
    )
    others = [] if but is None else [SsoGrant.session_id.is_distinct_from(but)]
    connection.execute(
        update(SsoGrant)
        .where(SsoGrant.user_id == user_row, SsoGrant.revoked_time.is_(None), *others)
        .values(revoked_time=func.now())
    )
    return end_others(connection, user_row, but)


def end_others(connection: Connection, user_row: int, but: int | None) -> int:
    """Ends the sessions of a user except for one; how many."""
    statement = delete(SsoSession).where(SsoSession.user_id == user_row)
    if but is not None:
        statement = statement.where(SsoSession.id != but)
    return connection.execute(statement).rowcount


def end_by_token(connection: Connection, cluster: int, macs: Sequence[bytes]) -> tuple[int, str] | None:
    """Ends the session with one of these digests; the row and the id of its user, None if there was none."""
    statement = (
        delete(SsoSession)
        .where(
            SsoSession.cluster_id == cluster,
            SsoSession.token_mac.in_(macs),
            SsoUser.id == SsoSession.user_id,
        )
        .returning(SsoUser.id, SsoUser.user_id)
    )
    row = connection.execute(statement).one_or_none()
    return (row[0], row[1]) if row is not None else None


def end_by_public_id(
    connection: Connection, cluster: int, public_id: str, owner: int | None
) -> tuple[int, str] | None:
    """Ends a session, which must be of the user ``owner`` unless that is None; as ``end_by_token``."""
    wanted = [
        SsoSession.cluster_id == cluster,
        SsoSession.public_id == public_id,
        SsoUser.id == SsoSession.user_id,
    ]
    if owner is not None:
        wanted.append(SsoSession.user_id == owner)
    statement = delete(SsoSession).where(*wanted).returning(SsoUser.id, SsoUser.user_id)
    row = connection.execute(statement).one_or_none()
    return (row[0], row[1]) if row is not None else None


def of_user(connection: Connection, user_row: int, now: datetime, limit: int) -> Sequence[Any]:
    """The sessions of a user with their history, those first that were opened last."""
    statement = (
        select(*SsoSession.__table__.columns)
        .where(SsoSession.user_id == user_row, SsoSession.expiration_time > now)
        .order_by(SsoSession.creation_time.desc(), SsoSession.id.desc())
        .limit(limit)
    )
    return connection.execute(statement).all()


def by_linked(
    connection: Connection, linked_id: int, ext_macs: Sequence[bytes], now: datetime
) -> Session | None:
    """The session of a linked account that was opened for one of these digests, unless it has expired."""
    statement = (
        select_sessions()
        .where(
            SsoSession.linked_id == linked_id,
            SsoSession.ext_session_mac.in_(ext_macs),
            SsoSession.expiration_time > now,
        )
        .order_by(SsoSession.id.desc())
        .limit(1)
    )
    row = connection.execute(statement).one_or_none()
    return session_of(row) if row is not None else None


def expiration(now: datetime, idle_minutes: int, absolute: datetime | None) -> datetime:
    """When a session ends that is used now."""
    idle = now + timedelta(minutes=idle_minutes)
    return idle if absolute is None else min(idle, absolute)


def cleaned(value: str, limit: int) -> str:
    """Text of a client in the form that a database takes."""
    return value.encode("utf-8", "replace").decode().replace("\x00", "")[:limit]
