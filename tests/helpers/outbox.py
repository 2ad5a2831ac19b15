"""Durable calls of a worker in this process: stored as ever, and made when a test says so."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import orjson

from junctor.server.context import Context
from junctor.server.pubsub.durable import TOPIC, RunDurably
from junctor.server.pubsub.message import NewMessage
from junctor.server.service.base import Service
from junctor.server.service.call import Call
from junctor.server.service.channel import DATA_FORMAT
from junctor.server.service.info import describe
from junctor.server.sso.mail_service import SendMail
from junctor.server.sso.password_reset import IssueToken
from junctor.sql.errors import StoreUnavailable


@dataclass(frozen=True, slots=True)
class Waiting:
    """A call that was stored: its message, and what will be invoked with what."""

    message: NewMessage
    service: str
    payload: Any

    @property
    def delay(self) -> float:
        """Seconds until it may be made."""
        return self.message.delay / 1000

    @property
    def expiration(self) -> float:
        """Seconds after which it is not made any more."""
        return self.message.expiration / 1000


class Outbox:
    """Takes the place of a context's publish/subscribe.  While it ``is_down``, nothing can be stored."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.waiting: list[Waiting] = []
        self.is_down = False
        lane = SimpleNamespace(sub_key="zpsk.lane")
        directory = SimpleNamespace(
            internal_endpoint=None,
            topic=lambda name: SimpleNamespace(id=1) if name == TOPIC else None,
            subscriptions_of=lambda _: [lane],
        )
        context.pubsub = SimpleNamespace(  # type: ignore[assignment]  # as much of a broker as durable calls need
            directory=directory, publishing=SimpleNamespace(publish=self._publish)
        )
        self.deploy(RunDurably, SendMail, IssueToken)

    def deploy(self, *services: type[Service]) -> None:
        """Makes services callable."""
        for service in services:
            self._context.services.replace(f"{service.name}.py", [describe(service)])

    def of(self, service: str) -> list[Waiting]:
        """The calls of a service that were stored and not made yet."""
        return [item for item in self.waiting if item.service == service]

    def deliver(self, *, again: int = 0) -> int:
        """Makes all calls that wait, and those that they store in turn unless these are delayed; how many.

        With ``again``, each was made as often before.  Raises what a call raises; then it waits on, and those behind it as well.
        """
        made = 0
        while ready := [item for item in self.waiting if not item.delay]:
            self.make(ready[0], again=again)
            self.waiting.remove(ready[0])
            made += 1
        return made

    def make(self, item: Waiting, *, again: int = 0) -> None:
        """Makes one call."""
        payload = {"data": orjson.loads(item.message.data), "delivery_count": again}
        self._context.invoker.invoke(Call(RunDurably.name, payload, data_format=DATA_FORMAT.DICT))

    def _publish(self, _endpoint: Any, messages: list[NewMessage], **_: Any) -> list[str]:
        if self.is_down:
            raise StoreUnavailable("The database is away.")
        for message in messages:
            stored = orjson.loads(message.data)
            self.waiting.append(Waiting(message, stored["service"], stored.get("payload")))
        return [message.msg_id for message in messages]
