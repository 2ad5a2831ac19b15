"""The audit trail for administrators: find events, verify the chain step by step, begin a new one."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from junctor.server.admin.objects import DEFAULT_PAGE
from junctor.server.admin.pubsub import moment
from junctor.server.admin.service import AdminService
from junctor.server.audit import query
from junctor.server.audit.query import MAX_PAGE, Wanted
from junctor.server.audit.trail import Event
from junctor.server.audit.verify import MAX_STEP, Cursor
from junctor.sql.errors import InvalidInput, NotFound

MAX_ID = 2**62
CHAIN = "[0-9a-f]{64}"


class GetList(AdminService):
    """Audit events, the newest first."""

    name = "zato.audit.get-list"

    def handle(self) -> None:
        """``actor``, ``target``, ``op`` (with * at its end: a prefix), ``outcome``, ``cid``, ``app``, ``remote_addr``.

        ``since`` and ``until``; ``oldest_first``; ``limit`` and ``cursor``.  The answer's ``cursor`` leads to the next page.
        Who has looked is audited, too.
        """
        fields = self.fields
        names = ("actor", "target", "op", "outcome", "cid", "app", "remote_addr")
        wanted = Wanted(
            **{name: self.text(fields, name, "") for name in names},
            since=moment(fields, "since"),
            until=moment(fields, "until"),
            oldest_first=self.flag(fields, "oldest_first"),
            page_size=int(self.number(fields, "limit", DEFAULT_PAGE, high=MAX_PAGE)),
            cursor=self.text(fields, "cursor", ""),
        )
        page = self.context.audit.find(wanted)
        if not wanted.cursor:
            filters = sorted(name for name in (*names, "since", "until") if fields.get(name))
            extra = {"filters": filters}
            self.context.audit.note(Event(cid=self.cid, op="audit.find", actor=self.who, extra=extra))
        self.response.payload = {"items": page.events, "cursor": page.cursor}


class Get(AdminService):
    """One audit event with all that is known of it."""

    name = "zato.audit.get"

    def handle(self) -> None:
        """``id``."""
        fields = self.fields
        if "id" not in fields:
            raise InvalidInput.one("id", "is required.")
        id_ = int(self.number(fields, "id", 0, high=MAX_ID))
        found = query.get(self.context.store, id_)
        if found is None:
            raise NotFound("audit event", str(id_))
        self.response.payload = found


class Verify(AdminService):
    """Verifies a part of the audit trail: that all events are there, as they were written, in their order."""

    name = "zato.audit.verify"

    def handle(self) -> None:
        """``cursor``, of the answer before, for the next part; ``limit``, events that a call looks at.

        The answer: ``checked``, ``unknown_keys`` (events whose keys have been retired, for which the chain alone vouches),
        ``problem_count`` and ``problems`` of this part; ``first_position`` and ``last_position`` of the chain; ``unchained``, events
        that wait for their place, known at the end.  ``cursor`` is null at the end.
        """
        fields = self.fields
        most = int(self.number(fields, "limit", MAX_STEP, high=MAX_STEP)) or MAX_STEP
        step = self.context.audit.verifier.step(_cursor(fields.get("cursor")), most)
        answer = asdict(step)
        answer["cursor"] = _shown(step.cursor)
        self.response.payload = answer


class BeginChain(AdminService):
    """Begins a new chain behind one that is broken beyond repair; what is wrong with the old one stays to be seen."""

    name = "zato.audit.begin-chain"

    def handle(self) -> None:
        """No input."""
        self.context.audit.begin_chain(self.cid, self.who)
        self.logger.warning("A new chain of audit events was begun by %s.", self.who)
        self.response.payload = {}


SERVICES = (GetList, Get, Verify, BeginChain)


def _shown(cursor: Cursor | None) -> dict[str, Any] | None:
    if cursor is None:
        return None
    return {"position": cursor.position, "chain": None if cursor.chain is None else cursor.chain.hex()}


def _cursor(given: Any) -> Cursor | None:
    """Raises ``InvalidInput`` for what no answer had."""
    if given in (None, ""):
        return None
    problem = InvalidInput.one("cursor", "is none that a call before this one returned.")
    if not isinstance(given, dict):
        raise problem
    position, chain = given.get("position"), given.get("chain")
    if isinstance(position, bool) or not isinstance(position, int) or not 0 <= position < MAX_ID:
        raise problem
    if chain is None:
        return Cursor(position, None)
    if not isinstance(chain, str) or not re.fullmatch(CHAIN, chain):
        raise problem
    return Cursor(position, bytes.fromhex(chain))
