"""Calls through linked accounts: a request with the credentials of a linked definition is its user's, and gets a session.

A session's token is in no database, so each worker has sessions of its own: one for a Basic Auth, one for each JSON Web Token.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import gevent
from gevent.event import Event
from gevent.lock import Semaphore
from sqlalchemy.exc import IntegrityError

from junctor.server.access_log import ClientAddress
from junctor.server.http_settings import TrustedPeers
from junctor.server.security.jwt import bearer
from junctor.server.sso import linked_rows as rows
from junctor.server.sso.audited import Audited
from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import const, status_code
from junctor.server.sso.errors import ValidationError, not_allowed
from junctor.server.sso.gate import no_session
from junctor.server.sso.linked_rows import Link
from junctor.server.sso.rate_limits import limit_for
from junctor.server.sso.records import Session, User
from junctor.server.sso.sessions import Origin
from junctor.sql.engine import database_errors
from junctor.sql.errors import Forbidden, JunctorError, TooManyRequests
from junctor.sql.secrets import Secret

if TYPE_CHECKING:
    from junctor.server.service.channel import ChannelSecurityInfo
    from junctor.server.sso.single_sign_on import SingleSignOn

POLL_INTERVAL: Final = 2.0  # seconds
MAX_KNOWN: Final = 10_000  # sessions whose tokens a worker remembers
MAX_AGENT: Final = 1000  # characters
OP: Final = "session.on_external_auth_succeeded"
FACTORS: Final[Mapping[str, tuple[str, ...]]] = {const.auth_type.basic_auth: ("pwd",)}
log = logging.getLogger(__name__)


class LinkedCalls:
    """The links of the cluster, in one worker, and the sessions of those who called.

    ``context.linked`` has the links by the ids of their definitions: what is not in there costs a call nothing.
    """

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso
        self._known: OrderedDict[tuple[int, bytes], Secret] = OrderedDict()
        self._turn = Semaphore()
        self._wake = Event()
        self._greenlet: gevent.Greenlet | None = None
        self._is_down = False
        self._client_address: ClientAddress | None = None

    def start(self) -> None:
        """Reads the links, and follows what other workers do with them."""
        self._look()
        self._greenlet = gevent.spawn(self._follow)

    def stop(self) -> None:
        """Ends it."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)
            self._greenlet = None

    def wake(self) -> None:
        """Makes the worker look at the links now.  Neither blocks nor raises."""
        self._wake.set()

    def changed(self) -> None:
        """Links were changed here: this worker knows at once, unless the database is away again."""
        self._look()

    def reload(self) -> None:
        """Reads the links.  Raises ``StoreUnavailable``."""
        with database_errors(), self._sso.store.engine.connect() as connection:
            found = rows.active(connection, self._sso.store.cluster_id)
        # Replaced as a whole, since requests look at it in between.
        self._sso.context.linked = {link.security: link for link in found}

    def on_call(self, definition: ChannelSecurityInfo, environ: Mapping[str, Any], cid: str) -> str:
        """The token of the session of whose definition let a request in; '' while there is no Single Sign-On.

        Raises ``Forbidden``, which says why with the codes of Single Sign-On, and ``TooManyRequests``.
        """
        link = self._sso.context.linked.get(definition.id)
        if link is None or not self._sso.is_active:
            return ""
        settings = self._sso.settings
        variable = f"HTTP_{settings['apps_http_header'].upper().replace('-', '_')}"
        caller = Caller(
            cid=cid,
            current_app=environ.get(variable) or settings["apps_default"] or "",
            remote_addr=self._address(environ),
            user_agent=environ.get("HTTP_USER_AGENT", "")[:MAX_AGENT],
        )
        ext_session = bearer(environ) if link.auth_type == const.auth_type.jwt else ""
        try:
            return self.session_for(caller, link, definition.username or "", ext_session)
        except ValidationError as error:
            codes = ", ".join(error.shown)
            if status_code.auth.too_many_attempts in error.sub_status:
                raise TooManyRequests(cid, f"Single Sign-On refuses the call for now: {codes}.") from error
            raise Forbidden(cid, f"Single Sign-On refuses the call: {codes}.") from error

    def session_for(self, caller: Caller, link: Link, principal: str, ext_session: str) -> str:
        """The token of a linked account's session, new or with its idle time begun anew.  Raises ``ValidationError``."""
        key = (link.id, hashlib.sha256(ext_session.encode("utf-8", "surrogatepass")).digest())
        try:
            found = self._session(key)
            if found is None:
                with self._turn:  # of many calls at a time, the first one opens it
                    found = self._session(key)
                    if found is None:
                        return self._open(caller, link, principal, key)
            ust, session = found
            self._sso.gate.application(caller)
            self._sso.gate.valid(session, caller)
            self._limit(session.user, caller)
            self._sso.sessions.touch(session)
            return ust
        except ValidationError as error:
            self._sso.sessions.refused(caller, OP, link.user_id, error)
            raise

    def _session(self, key: tuple[int, bytes]) -> tuple[str, Session] | None:
        """The token and the session that there is for a key, if it is still valid."""
        if (token := self._known.get(key)) is None:
            return None
        self._known.move_to_end(key)
        session = self._sso.sessions.find(token.reveal())
        return (token.reveal(), session) if session is not None else None

    def _open(self, caller: Caller, link: Link, principal: str, key: tuple[int, bytes]) -> str:
        user = self._sso.users.by_id(link.user)
        if user is None:
            raise no_session()
        gate = self._sso.gate
        application = gate.application(caller)
        gate.account(user, caller.remote_addr)
        gate.granted(application, user)
        self._limit(user, caller)
        origin = Origin(
            factors=FACTORS.get(link.auth_type, ()),
            auth_type=link.auth_type,
            auth_principal=principal,
            linked_id=link.id,
            ext_session=key[1].hex(),
        )
        call = Audited(self._sso, caller, OP, user.user_id)
        call.actor = user.user_id
        try:
            with database_errors(), self._sso.store.engine.begin() as connection:
                opened = self._sso.sessions.open(connection, user, caller, origin)
                call.extra = {"auth_type": link.auth_type, "session": opened.public_id}
                call.record(connection)
        except IntegrityError:  # the link was deleted a moment ago
            raise no_session() from None
        if len(self._known) >= MAX_KNOWN:
            self._known.popitem(last=False)
        self._known[key] = Secret(opened.ust)
        return opened.ust

    def _limit(self, user: User, caller: Caller) -> None:
        """Raises ``ValidationError`` if a user who has rate limits calls too often, or from an address that has none."""
        if not user.is_rate_limit_active:
            return
        try:
            limit = limit_for(user.rate_limit_def, caller.remote_addr)
        except ValueError:
            raise not_allowed("The rate limits of the user cannot be understood.") from None
        if limit is None:
            raise not_allowed("The rate limits of the user have no line for this address.")
        key = f"{user.user_id} {limit.network or '*'}"
        self._sso.throttle.take("linked", key, limit.calls, limit.seconds)

    def _address(self, environ: Mapping[str, Any]) -> str:
        if self._client_address is None:
            trusted = TrustedPeers.parse(self._sso.context.settings.trusted_proxies)
            self._client_address = ClientAddress(trusted)
        return self._client_address(environ)

    def _follow(self) -> None:
        while True:
            self._wake.wait(POLL_INTERVAL)
            self._wake.clear()
            self._look()

    def _look(self) -> None:
        try:
            self.reload()
            if self._is_down:
                log.info("Linked accounts can be read again.")
            self._is_down = False
        except JunctorError as error:
            if not self._is_down:
                log.warning("Linked accounts cannot be read: %s Those known stay linked.", error)
            self._is_down = True
        except Exception:  # boundary: without this greenlet, the worker would hear of no new links
            log.exception("Reading the linked accounts failed; trying again.")
