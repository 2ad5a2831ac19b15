"""Links between users and security definitions, in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from junctor.sql.objects.security import Security
from junctor.sql.tables.sso import SsoLinkedAuth, SsoSession, SsoUser


@dataclass(frozen=True, slots=True)
class Link:
    """A security definition whose calls are a user's: rows of the link, the user and the definition, and what the user is known by."""

    id: int
    user: int
    user_id: str
    security: int
    auth_type: str


def active(connection: Connection, cluster: int) -> list[Link]:
    """All links of a cluster that are active."""
    statement = (
        select(
            SsoLinkedAuth.id,
            SsoUser.id,
            SsoUser.user_id,
            SsoLinkedAuth.security_id,
            SsoLinkedAuth.auth_type,
        )
        .join(SsoUser, SsoUser.id == SsoLinkedAuth.user_id)
        .where(SsoUser.cluster_id == cluster, SsoLinkedAuth.is_active)
    )
    return [Link(*row) for row in connection.execute(statement)]


def of_user(connection: Connection, user: int) -> Sequence[Any]:
    """The links of a user, with the names of the definitions, by name."""
    statement = (
        select(
            SsoLinkedAuth.auth_type,
            Security.name.label("auth_username"),
            SsoLinkedAuth.creation_time,
            SsoLinkedAuth.is_active,
        )
        .join(Security, Security.id == SsoLinkedAuth.security_id)
        .where(SsoLinkedAuth.user_id == user)
        .order_by(Security.name)
    )
    return connection.execute(statement).all()


def owner(connection: Connection, security: int) -> int | None:
    """The user whose definition it is, active or not."""
    found: int | None = connection.scalar(
        select(SsoLinkedAuth.user_id).where(SsoLinkedAuth.security_id == security)
    )
    return found


def save(connection: Connection, user: int, security: int, auth_type: str, *, is_active: bool) -> int | None:
    """The id of a link, new or with another state; None if the definition is another user's."""
    values = {
        "user_id": user,
        "security_id": security,
        "auth_type": auth_type,
        "is_active": is_active,
    }
    statement = insert(SsoLinkedAuth).values(values)
    statement = statement.on_conflict_do_update(
        index_elements=[SsoLinkedAuth.security_id],
        set_={"is_active": is_active, "last_modified": func.now()},
        where=SsoLinkedAuth.user_id == user,
    )
    found: int | None = connection.scalar(statement.returning(SsoLinkedAuth.id))
    return found


def end_sessions(connection: Connection, user: int, security: int) -> None:
    """Ends the sessions that were opened through a link."""
    links = select(SsoLinkedAuth.id).where(
        SsoLinkedAuth.user_id == user, SsoLinkedAuth.security_id == security
    )
    connection.execute(delete(SsoSession).where(SsoSession.linked_id.in_(links)))


def remove(connection: Connection, user: int, security: int) -> bool:
    """Deletes a link, and the sessions that were opened through it; whether there was one."""
    wanted = (SsoLinkedAuth.user_id == user, SsoLinkedAuth.security_id == security)
    return connection.execute(delete(SsoLinkedAuth).where(*wanted)).rowcount > 0
