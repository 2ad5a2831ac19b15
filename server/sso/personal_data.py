"""What is known of a user: exported as one document, and erased (GDPR, articles 15, 17 and 20)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, or_, select

from junctor.server.sso import attribute_rows
from junctor.server.sso.attribute_rows import Owner
from junctor.server.sso.audited import audited
from junctor.server.sso.caller import Caller
from junctor.server.sso.records import User
from junctor.server.sso.user_imports import Imported, UserImport
from junctor.server.sso.user_view import iso
from junctor.sql.engine import database_errors
from junctor.sql.tables.audit import AuditEvent
from junctor.sql.tables.sso import SsoGrant, SsoLinkedAuth, SsoPasskey, SsoRecoveryCode, SsoSession

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

MAX_ROWS: Final = 10_000  # of each kind
SESSION: Final = (
    "public_id",
    "app",
    "creation_time",
    "last_used",
    "expiration_time",
    "absolute_time",
    "remote_addr",
    "user_agent",
    "auth_type",
    "auth_principal",
    "auth_time",
    "auth_factors",
    "state_changes",
)
PASSKEY: Final = ("label", "transports", "is_backed_up", "creation_time", "last_used")
LINK: Final = ("auth_type", "is_active", "creation_time", "last_modified")
GRANT: Final = (
    "app",
    "scope",
    "redirect_uri",
    "remote_addr",
    "auth_time",
    "auth_factors",
    "creation_time",
    "expiration_time",
    "revoked_time",
)
RECOVERY_CODE: Final = ("creation_time", "used_time")
EVENT: Final = ("at", "cid", "op", "outcome", "actor", "target", "app", "remote_addr", "user_agent", "extra")
OTHERS: Final = ("remote_addr", "user_agent")
"""What is somebody else's in an event of somebody else."""


class PersonalData:
    """Documents of all that is stored of a user, and of many users who come from elsewhere."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def export(self, caller: Caller, user_id: str = "") -> dict[str, Any]:
        """Everything that is stored of the caller, or for a super-user of the user of an id, as JSON types.

        Never a hash, a key or a token.  ``audit`` has the newest 10,000 events; with ``is_complete`` false, something was too much.
        Raises ``ValidationError``: E005010 without a fresh log-in.
        """
        sso = self._sso
        with audited(sso, caller, "personal_data.export", target=user_id) as event:
            session, user, _ = sso.gate.own_or_super_user(caller, user_id)
            event.by(session)
            event.target = user.user_id
            sso.gate.fresh(session)
            with database_errors(), sso.store.engine.begin() as connection:
                document = self._document(connection, user)
                event.record(connection)
        return document

    def erase(self, caller: Caller, user_id: str = "") -> None:
        """Deletes the caller, or for a super-user the user of an id, with everything that belongs to the user.

        Audit events stay, under an id that leads to nobody any more.  Raises ``ValidationError``: E005010 without a fresh log-in, E008001
        for the last super-user who can log in.
        """
        sso = self._sso
        with audited(sso, caller, "personal_data.erase", target=user_id) as event:
            session, user, _ = sso.gate.own_or_super_user(caller, user_id)
            event.by(session)
            event.target = user.user_id
            sso.gate.fresh(session)
            with database_errors(), sso.store.engine.begin() as connection:
                sso.user_state.erase(connection, sso.user_state.lock(connection, user), session)
                event.record(connection)
        sso.sessions.announce()

    def import_users(self, caller: Caller, rows: Iterable[Mapping[str, Any]]) -> list[Imported]:
        """Makes up to 1,000 users, all or none, for a super-user or a trusted caller; see ``UserImport``.

        Raises ``ImportRefused``, which lists everything that is wrong, and E005010 without a fresh log-in.
        """
        sso = self._sso
        with audited(sso, caller, "user.import_users") as event:
            session = sso.gate.super_user(caller)
            event.by(session)
            sso.gate.fresh(session)
            wanted = UserImport(sso, rows, caller=caller, session=session)
            with database_errors(), sso.store.engine.begin() as connection:
                made = wanted.apply(connection)
                event.extra["count"] = len(made)
                event.record(connection)
        return made

    def _document(self, connection: Connection, user: User) -> dict[str, Any]:
        sso = self._sso
        sessions = self._rows(connection, SsoSession, user)
        parts: dict[str, list[dict[str, Any]]] = {
            "attributes": self._attributes(connection, Owner(user.id, 0, user.user_id)),
            "sessions": [
                _shown(row, SESSION)
                | {"attributes": self._attributes(connection, Owner(user.id, row.id, user.user_id))}
                for row in sessions
            ],
            "linked_accounts": [_shown(row, LINK) for row in self._rows(connection, SsoLinkedAuth, user)],
            "passkeys": [_shown(row, PASSKEY) for row in self._rows(connection, SsoPasskey, user)],
            "recovery_codes": [
                _shown(row, RECOVERY_CODE) for row in self._rows(connection, SsoRecoveryCode, user)
            ],
            "grants": [_shown(row, GRANT) for row in self._rows(connection, SsoGrant, user)],
            "audit": self._events(connection, user),
        }
        listed = sso.addresses.get(user.username_key)
        return {
            "exported": iso(datetime.now(UTC)),
            "is_complete": all(len(part) < MAX_ROWS for part in parts.values()),
            "profile": sso.users.view(user, is_full=True),
            "addresses": list(listed.config["addresses"]) if listed else [],
            **parts,
        }

    def _rows(self, connection: Connection, table: Any, user: User) -> Any:
        statement = select(table.__table__).where(table.user_id == user.id).order_by(table.id).limit(MAX_ROWS)
        return connection.execute(statement).all()

    def _attributes(self, connection: Connection, owner: Owner) -> list[dict[str, Any]]:
        found = attribute_rows.find(connection, owner)
        protection = self._sso.protection
        entities = [attribute_rows.entity(protection, owner, row, decrypt=True) for row in found]
        return [entity.to_dict(serialize_dt=True) for entity in entities]

    def _events(self, connection: Connection, user: User) -> list[dict[str, Any]]:
        """Events by the user and about the user, the newest first."""
        statement = (
            select(AuditEvent.__table__)
            .where(
                AuditEvent.cluster_id == self._sso.store.cluster_id,
                or_(AuditEvent.actor == user.user_id, AuditEvent.target == user.user_id),
            )
            .order_by(AuditEvent.id.desc())
            .limit(MAX_ROWS)
        )
        own = [name for name in EVENT if name not in OTHERS]
        return [
            _shown(row, EVENT if row.actor == user.user_id else own) for row in connection.execute(statement)
        ]


def _shown(row: Any, names: Iterable[str]) -> dict[str, Any]:
    """Columns of a row as JSON; without those that have no value."""
    shown = {}
    for name in names:
        value = getattr(row, name)
        if value is not None and value != "":
            shown[name] = iso(value) if isinstance(value, datetime) else value
    return shown
