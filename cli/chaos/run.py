"""A run from beginning to end: the cluster is prepared, faults come while messages flow, everything arrives, the history is judged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from junctor.cli.chaos.callbacks import Callbacks
from junctor.cli.chaos.calls import Caller
from junctor.cli.chaos.checker import DEFAULT_BOUND, Judgement, judge
from junctor.cli.chaos.figures import Figures, figures_of
from junctor.cli.chaos.history import END, FAULTS_OVER, INFO, PHASE, PLAN, PUBLISHED, Event, History, read
from junctor.cli.chaos.ledger import Ledger
from junctor.cli.chaos.nemeses import Nemesis
from junctor.cli.chaos.plan import CALLED_BACK, HAND_OVER, WEB_SOCKET, Plan, Subscriber
from junctor.cli.chaos.proxy import Proxy
from junctor.cli.chaos.publishers import Publishing
from junctor.cli.chaos.scenery import Scenery, SceneryBuilder
from junctor.cli.chaos.subscribers import Behaviour, Pulling
from junctor.cli.chaos.websockets import Listening
from junctor.cli.environment import Environment
from junctor.server.client import AdminClient

LAST_CALLS = 30.0  # seconds in which publishers may find out what became of their last calls
QUIET = 1.0  # seconds that are waited at the end for what should not come
JOIN = 15.0  # seconds in which a thread must end
TICK = 0.1  # seconds
HTTP_PORT = 80


@dataclass(frozen=True, slots=True)
class Where:
    """The cluster of a run: its address, the proxy in front of it, the environment if it is one of this machine.

    ``callback_host`` is the name or address by which the cluster reaches this machine; '' = it does not.
    """

    address: str
    admin: AdminClient
    environment: Environment | None = None
    callback_host: str = ""
    has_proxy: bool = True
    bound: float = DEFAULT_BOUND


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to; ``problems`` are faults that could not be brought about, and objects that could not be removed."""

    judgement: Judgement
    figures: Figures
    problems: tuple[str, ...]


Tell = Callable[["Run"], None]


@dataclass(slots=True)
class Run:
    """A run under way.  ``phase`` is in words; ``tell`` is called some ten times a second."""

    plan: Plan
    where: Where
    history: History
    phase: str = "preparing the cluster"
    publishing: list[Publishing] = field(default_factory=list)
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    nemesis: Nemesis | None = None
    _calm: threading.Event = field(default_factory=threading.Event)
    _receiving: list[Pulling | Listening] = field(default_factory=list)
    _proxy: Proxy | None = None
    _callbacks: Callbacks | None = None

    def execute(self, tell: Tell) -> Result:
        """The result.  Everything the run made is removed, also when it is interrupted.

        Raises what ``AdminClient.invoke`` does while the cluster is prepared, and ``ProcessFailed`` if it does not recover.
        """
        self.history.add(INFO, PLAN, value=self.plan.as_dict())
        scenery = Scenery.new()
        problems: list[str] = []
        try:
            self._open_callbacks()
            url = self._callbacks.url if self._callbacks else ""
            builder = SceneryBuilder(self.where.admin, scenery, url)
            try:
                builder.build(self.plan)
                self._start(scenery)
                self._live(tell)
                self._settle(tell)
            finally:
                self._stop()
                self.phase = "removing what was made"
                tell(self)
                problems += builder.remove()
        finally:
            self._close()
        return self._result(problems)

    @property
    def acknowledged(self) -> int:
        """How many messages were acknowledged up to now."""
        return sum(publisher.acknowledged for publisher in self.publishing)

    def missing(self) -> dict[str, int]:
        """How many acknowledged messages each subscription has yet to receive, those aside that may never come."""
        wanted: dict[str, set[str]] = {}
        for publisher in self.publishing:
            wanted.setdefault(publisher.topic, set()).update(publisher.certain)
        uncertain = {item.name: item.uncertain for item in self._receiving if isinstance(item, Pulling)}
        found = {}
        for name, behaviour in self.behaviours.items():
            subscriber = behaviour.subscriber
            allowed = uncertain.get(name, 0) if subscriber.kind == HAND_OVER else 0
            left = wanted.get(subscriber.topic, set()) - behaviour.ids
            found[name] = max(0, len(left) - allowed)
        return found

    def _open_callbacks(self) -> None:
        if any(subscriber.kind in CALLED_BACK for subscriber in self.plan.subscribers):
            self._callbacks = Callbacks(self.where.callback_host)

    def _start(self, scenery: Scenery) -> None:
        """Subscribers first, so that nothing waits for them."""
        address = self._address()
        plan, history = self.plan, self.history
        for subscriber in plan.subscribers:
            self.behaviours[subscriber.name] = Behaviour(plan, subscriber, history, self._calm)
        if self._callbacks is not None:
            called = [item for item in self.behaviours.values() if item.subscriber.kind in CALLED_BACK]
            self._callbacks.start(called, scenery.sub_keys)
        for subscriber in plan.subscribers:
            if subscriber.kind not in CALLED_BACK:
                self._receiving.append(self._receiver(subscriber, address, scenery))
        user = scenery.users["publisher"].pair
        for publisher in plan.publishers:
            caller = Caller(address, user)
            self.publishing.append(Publishing(plan, publisher, scenery, history, caller))
        self.nemesis = Nemesis(plan, history, environment=self.where.environment, proxy=self._proxy)
        threads: Sequence[threading.Thread] = [*self._receiving, *self.publishing, self.nemesis]
        history.begin()
        for thread in threads:
            thread.start()

    def _receiver(self, subscriber: Subscriber, address: str, scenery: Scenery) -> Pulling | Listening:
        behaviour = self.behaviours[subscriber.name]
        if subscriber.kind == WEB_SOCKET:
            target = f"{address.replace('http', 'ws', 1)}{scenery.channel_path}"
            return Listening(target, behaviour, scenery, self.history)
        caller = Caller(address, scenery.users[subscriber.name].pair)
        return Pulling(behaviour, scenery, self.history, caller)

    def _address(self) -> str:
        """Where publishers and subscribers connect to: the proxy, if there is one."""
        if not self.where.has_proxy:
            return self.where.address
        parts = urlsplit(self.where.address)
        self._proxy = Proxy((str(parts.hostname), parts.port or HTTP_PORT))
        return f"http://127.0.0.1:{self._proxy.port}{parts.path}"

    def _live(self, tell: Tell) -> None:
        """Messages and faults, for as long as the plan says."""
        self.phase = "publishing under faults"
        assert self.nemesis is not None
        while self.history.now < self.plan.seconds:
            tell(self)
            time.sleep(TICK)
        for publisher in self.publishing:
            publisher.stopping.set()
        self.phase = "ending the last faults"
        while self.nemesis.is_alive():  # it has its own limits of time
            tell(self)
            self.nemesis.join(TICK)
        self.nemesis.heal()
        self.history.add(INFO, PHASE, value=FAULTS_OVER)

    def _settle(self, tell: Tell) -> None:
        """What was published arrives, or does not."""
        self._calm.set()
        self.phase = "waiting for the last calls"
        self._until(lambda: not any(item.is_alive() for item in self.publishing), LAST_CALLS, tell)
        for publisher in self.publishing:
            publisher.giving_up.set()
        _join(self.publishing)
        self.history.add(INFO, PHASE, value=PUBLISHED)
        self.phase = "waiting for what has not arrived"
        began = time.monotonic()

        def is_complete() -> bool:
            return not any(self.missing().values())

        self._until(is_complete, self.where.bound, tell)
        self.phase = f"everything has arrived after {time.monotonic() - began:.1f} s"
        self._until(lambda: False, QUIET, tell)
        self.history.add(INFO, PHASE, value=END)

    def _until(self, condition: Callable[[], bool], timeout: float, tell: Tell) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and not condition():
            tell(self)
            time.sleep(TICK)

    def _stop(self) -> None:
        """Nobody publishes or receives any more, and no fault is left, whatever has happened."""
        self._calm.set()
        for publisher in self.publishing:
            publisher.stopping.set()
            publisher.giving_up.set()
        for receiver in self._receiving:
            receiver.stopping.set()
        nemesis = self.nemesis
        if nemesis is not None and nemesis.ident is not None:
            nemesis.stopping.set()
            nemesis.join(JOIN)
            nemesis.heal()
        _join([*self.publishing, *self._receiving])

    def _close(self) -> None:
        if self._callbacks is not None:
            self._callbacks.close()
        if self._proxy is not None:
            self._proxy.close()
        self.history.close()

    def _result(self, problems: Sequence[str]) -> Result:
        events: list[Event] = list(read(self.history.path))
        ledger = Ledger.of(self.plan, events)
        faults = self.nemesis.problems if self.nemesis else []
        return Result(
            judge(self.plan, events, self.where.bound), figures_of(events, ledger), (*faults, *problems)
        )


def _join(threads: Iterable[threading.Thread]) -> None:
    for thread in threads:
        if thread.ident is not None:
            thread.join(JOIN)
