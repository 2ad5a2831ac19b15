"""Single Sign-On on a real database, without a server: the real parts, in this process."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import weakref
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, update

from junctor.server.audit.trail import AuditTrail
from junctor.server.bus.client import Publisher
from junctor.server.context import Context
from junctor.server.log import Logs
from junctor.server.metrics import Metrics
from junctor.server.runtime.registry import Registry
from junctor.server.security.tokens import Tokens
from junctor.server.service.base import Service
from junctor.server.service.info import describe
from junctor.server.service.invoke import Invoker, InvokerSettings
from junctor.server.service.store import ServiceStore
from junctor.server.settings import Settings
from junctor.server.sso.caller import Caller
from junctor.server.sso.protection import new_user_id, username_key
from junctor.server.sso.records import Session, User, select_users, user_of
from junctor.server.sso.sessions import Origin
from junctor.server.sso.single_sign_on import SingleSignOn
from junctor.sql.config import Config
from junctor.sql.store import Snapshot, Store
from junctor.sql.tables.audit import AuditEvent
from junctor.sql.tables.sso import SsoSession, SsoUser
from tests.helpers.objects import add, edit

APP = "CRM"
PASSWORD = "correct horse battery staple 7"
ADDRESS = "203.0.113.7"
BROWSER = "Firefox/148"
_cids = itertools.count(1)


class SsoUnderTest:
    """One worker's Single Sign-On: with the application CRM, which may log users in and sign them up, and cheap password hashes.

    A second one on the same ``store`` is another worker of the cluster.
    """

    def __init__(self, store: Store, **settings: Any) -> None:
        directory = Path(tempfile.mkdtemp(prefix="junctor-sso-"))
        self._cleanup = weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        logs = Logs(directory, size=1_000_000, count=1)
        self.context = context = Context(Settings(directory=directory, odb_url=""), logs, Metrics())
        self.store = context.store = store
        context.services = ServiceStore()
        context.publisher = Publisher("", store.cluster_id)
        context.invoker = Invoker(context.services, context, InvokerSettings())
        context.tokens = Tokens(store, lambda: None)
        context.audit = AuditTrail(context)
        self.sso = context.sso = SingleSignOn(context)
        context.registry = Registry(context)
        if store.id_of("sso", "sso") is None:
            self._create(settings)
            settings = {}
        found = store.snapshot()
        # Nothing listens, calls out or publishes here.
        others = ("channel", "outgoing", "pubsub")
        objects = {kind: made for kind, made in found.objects.items() if not kind.startswith(others)}
        context.registry.load(Snapshot(found.version, objects))
        if settings:
            self.settings(**settings)

    def _create(self, settings: dict[str, Any]) -> None:
        add(self.store, "sso", "sso", **{"hash_secret_rounds": 1000, "password_min_length": 8, **settings})
        add(self.store, "sso_application", APP, signup_allowed=True)

    def settings(self, **changes: Any) -> None:
        """Changes settings of Single Sign-On."""
        edit(self.store, "sso", "sso", **changes)
        self.catch_up()

    def application(self, name: str, **fields: Any) -> Config:
        """An application, new or with other fields."""
        exists = self.store.id_of("sso_application", name) is not None
        made = (edit if exists else add)(self.store, "sso_application", name, **fields)
        self.catch_up()
        return made

    def addresses(self, username: str, *addresses: str) -> None:
        """The addresses that a user may come from."""
        exists = self.store.id_of("sso_user_address", username) is not None
        (edit if exists else add)(self.store, "sso_user_address", username, addresses=list(addresses))
        self.catch_up()

    def catch_up(self) -> None:
        """Applies what changed in the configuration, as a worker does by itself."""
        self.context.registry.apply(self.store.news(self.context.registry.version))

    def deploy(self, *services: type[Service]) -> None:
        """Makes services callable, and known as objects."""
        for service in services:
            info = describe(service)
            self.context.services.replace(f"{info.name}.py", [info])
            if self.store.id_of("service", info.name) is None:
                add(self.store, "service", info.name)
        self.catch_up()

    def caller(self, ust: str = "", app: str = APP, **more: Any) -> Caller:
        """Somebody who calls with a session, or without one; ``more`` are fields of ``Caller``."""
        given = {"cid": f"cid{next(_cids)}", "remote_addr": ADDRESS, "user_agent": BROWSER, **more}
        return Caller(current_ust=ust, current_app=app, **given)

    def trusted(self, who: str = "admin") -> Caller:
        """The cluster itself, as for the command line."""
        return Caller(cid=f"cid{next(_cids)}", is_trusted=True, who=who)

    def user(self, username: str = "alice", password: str = PASSWORD, **values: Any) -> User:
        """A user who has signed up and is approved; ``values`` are columns of ``SsoUser``, and ``email`` in the clear."""
        protection = self.sso.protection
        given: dict[str, Any] = {
            "cluster_id": self.store.cluster_id,
            "user_id": new_user_id(),
            "username": username,
            "username_key": username_key(username),
            "password": self.sso.passwords.hashed(password) if password else "",
            "approval_status": "approved",
            "approval_status_mod_by": "auto",
            "sign_up_status": "final",
            "sign_up_confirm_time": datetime.now(UTC),
            **values,
        }
        if email := given.pop("email", None):
            is_sealed = self.sso.settings["encrypt_email"]
            given["email_mac"] = protection.email_macs(email)[0]
            given["email_sealed" if is_sealed else "email"] = (
                protection.seal(email, "sso_user.email") if is_sealed else email
            )
        with self.store.engine.begin() as connection:
            id_ = connection.execute(insert(SsoUser).values(given).returning(SsoUser.id)).scalar_one()
        return self.reload(id_)

    def reload(self, user: User | int) -> User:
        """A user as the database has it now."""
        id_ = user if isinstance(user, int) else user.id
        with self.store.engine.connect() as connection:
            return user_of(connection.execute(select_users().where(SsoUser.id == id_)).one())

    def by_name(self, username: str) -> User:
        """A user as the database has it now, by name."""
        statement = select_users().where(
            SsoUser.cluster_id == self.store.cluster_id, SsoUser.username_key == username_key(username)
        )
        with self.store.engine.connect() as connection:
            return user_of(connection.execute(statement).one())

    def change(self, user: User, **values: Any) -> User:
        """Changes columns of a user behind the server's back, which looks at everything anew."""
        with self.store.engine.begin() as connection:
            connection.execute(SsoUser.__table__.update().where(SsoUser.id == user.id).values(values))
        self.sso.sessions.announce()
        return self.reload(user)

    def log_in(self, username: str = "alice", app: str = APP, **origin: Any) -> str:
        """The token of a new session of a user; no password is checked."""
        user = self.by_name(username)
        with self.store.engine.begin() as connection:
            given = {"factors": ("pwd",), "remote_addr": ADDRESS, "user_agent": BROWSER, **origin}
            return self.sso.sessions.open(connection, user, self.caller(app=app), Origin(**given)).ust

    def age(self, ust: str, **back: timedelta) -> None:
        """Moves times of a session back, such as ``expiration_time``; as if so much time had passed since."""
        session = self.session(ust)
        values = {name: getattr(session, name) - by for name, by in back.items()}
        with self.store.engine.begin() as connection:
            connection.execute(update(SsoSession).where(SsoSession.id == session.id).values(values))
        self.sso.sessions.announce()

    def session(self, ust: str) -> Session:
        """The session of a token, which must be valid."""
        found = self.sso.sessions.find(ust)
        assert found is not None, "there is no such session"
        return found

    def super_user_caller(self, username: str = "root1", **more: Any) -> Caller:
        """A super-user, who exists from now on, with a session; the same user for the same name."""
        if self.store_has(username):
            return self.caller(self.log_in(username), **more)
        self.user(username, "", is_super_user=True)
        return self.caller(self.log_in(username), **more)

    def store_has(self, username: str) -> bool:
        """Whether there is a user of this name."""
        statement = select(SsoUser.id).where(
            SsoUser.cluster_id == self.store.cluster_id, SsoUser.username_key == username_key(username)
        )
        with self.store.engine.connect() as connection:
            return connection.execute(statement).first() is not None

    def events(self, op: str | None = None) -> list[dict[str, Any]]:
        """The audit events so far, those of one operation if it is given, the oldest first; as dictionaries of their columns."""
        statement = select(AuditEvent.__table__).where(AuditEvent.cluster_id == self.store.cluster_id)
        if op is not None:
            statement = statement.where(AuditEvent.op == op)
        with self.store.engine.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(statement.order_by(AuditEvent.id))]

    def stop(self) -> None:
        """Ends what goes on by itself."""
        self.sso.stop()
        self.context.audit.stop()


def through(caller: Caller, **changes: Any) -> Caller:
    """The same caller under other circumstances."""
    return replace(caller, **changes)
