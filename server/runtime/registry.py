"""The live objects of a worker, and how a change of the configuration reaches them: build the new one, swap, stop the old one."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gevent

from junctor.server.runtime.live import Live, live_classes
from junctor.sql import base
from junctor.sql.changes import EDIT, Change
from junctor.sql.config import Config
from junctor.sql.errors import JunctorError
from junctor.sql.shape import name_space
from junctor.sql.store import News, Snapshot

if TYPE_CHECKING:
    from junctor.server.context import Context

TURN = 0.005  # seconds that building may keep requests waiting at a time
Key = tuple[str, int]
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Entry:
    """An object as it is configured, and the live object that works for it: None when the type has none, or when it never started."""

    config: Config
    live: Live | None


class Registry:
    """Every object of the cluster, in one worker.

    ``version`` is the version of the configuration that has been applied.  ``problems`` says of each object that does not work
    as configured what is wrong, by (kind, name).
    """

    def __init__(self, context: Context) -> None:
        self.version = 0
        self.problems: dict[tuple[str, str], str] = {}
        self._context = context
        self._entries: dict[Key, Entry] = {}
        self._names: dict[tuple[str, str], int] = {}

    def load(self, snapshot: Snapshot) -> None:
        """Makes everything that there is live; objects that fail are left out and reported in ``problems``."""
        for configs in snapshot.objects.values():
            for config in configs:
                self._swap([self._build(config)], [])
        self._retry()
        self.version = snapshot.version

    def replace_all(self, snapshot: Snapshot) -> None:
        """Makes what the snapshot has live, and nothing else: for a worker that is too far behind, or ahead of a restored database."""
        configs = [config for group in snapshot.objects.values() for config in group]
        wanted = {(_space(config.kind), config.id) for config in configs}
        built = self._build_all(configs)
        retired = self._swap(built, [key for key in self._entries if key not in wanted])
        retired += self._retry()
        log.warning("Everything was loaded anew: version %d in place of %d.", snapshot.version, self.version)
        self.version = snapshot.version
        for live in retired:
            self._stop(live)

    def apply(self, news: News) -> None:
        """Makes everything that changed live.

        The new objects are built one after another while the old ones work on; then all are swapped without a pause, so
        nobody sees half of a version; then the old ones are stopped.
        """
        started = time.monotonic()
        changed = {(change.kind, change.object_id): change for change in news.changes}
        built = self._build_all([news.objects[key] for key in self._in_order(changed) if key in news.objects])
        gone = [(_space(kind), id_) for kind, id_ in changed if (kind, id_) not in news.objects]
        for change in news.changes:
            self._follow_rename(change)
        retired = self._swap(built, gone)
        retired += self._retry()
        self.version = news.version
        for live in retired:
            self._stop(live)
        log.info(
            "Configuration %d applied: %d objects in %.1f ms.",
            news.version,
            len(changed),
            (time.monotonic() - started) * 1000,
        )

    def find(self, kind: str, name: str) -> Entry | None:
        """The entry of this type or family and name."""
        id_ = self._names.get((_space(kind), name))
        return None if id_ is None else self._entries.get((_space(kind), id_))

    def live(self, space: str, object_id: int) -> Live | None:
        """The live object of this id; ``space`` is a family such as ``security``, or a type that is in none."""
        entry = self._entries.get((space, object_id))
        return entry.live if entry else None

    def entries(self, kind: str) -> Iterator[Entry]:
        """All entries of a type, as they are now."""
        return iter([entry for entry in list(self._entries.values()) if entry.config.kind == kind])

    def _retry(self) -> list[Live]:
        """Builds what does not work once more, as long as that helps: it may have needed something that is only there now."""
        retired = []
        failing: set[tuple[str, str]] = set()
        while self.problems and set(self.problems) != failing:
            failing = set(self.problems)
            for kind, name in failing:
                if (entry := self.find(kind, name)) is not None:
                    retired += self._swap([self._build(entry.config, quietly=True)], [])
        return retired

    def _in_order(self, changed: Iterable[Key]) -> list[Key]:
        order = {kind: position for position, kind in enumerate(base.kinds())}
        known = [key for key in changed if key[0] in order]
        return sorted(known, key=lambda key: (order[key[0]], key[1]))

    def _build_all(self, configs: Iterable[Config]) -> list[Entry]:
        """The entries of many configurations; others have their turn in between, however many there are."""
        built = []
        turn = time.monotonic()
        for config in configs:
            built.append(self._build(config))
            if time.monotonic() - turn > TURN:
                gevent.sleep(0)
                turn = time.monotonic()
        return built

    def _build(self, config: Config, *, quietly: bool = False) -> Entry:
        """The entry of a new configuration.  When it does not start, the live object that is there stays and works on."""
        cls = live_classes().get(config.kind)
        if cls is None:
            return Entry(config, None)
        try:
            live = cls(config, self._context)
            live.start()
        except Exception as error:  # noqa: BLE001 - boundary: one object that does not start must not stop the others
            self._report(config, error, logging.DEBUG if quietly else logging.ERROR)
            return Entry(config, self.live(_space(config.kind), config.id))
        self.problems.pop((config.kind, config.name), None)
        return Entry(config, live)

    def _report(self, config: Config, error: Exception, level: int) -> None:
        self.problems[config.kind, config.name] = str(error) or type(error).__name__
        label = base.kind_class(config.kind).label
        traceback = None if isinstance(error, JunctorError) else error
        log.log(level, "%s %r does not start: %s", label, config.name, error, exc_info=traceback)

    def _swap(self, built: list[Entry], gone: list[Key]) -> list[Live]:
        """Puts entries in their places and takes the gone ones out; returns the live objects that nobody finds any more."""
        retired = []
        for key in gone:
            if (entry := self._entries.pop(key, None)) is not None:
                self._forget_name(key, entry.config)
                self.problems.pop((entry.config.kind, entry.config.name), None)
                if entry.live is not None:
                    entry.live.leave()
                    retired.append(entry.live)
        for entry in built:
            key = (_space(entry.config.kind), entry.config.id)
            previous = self._entries.get(key)
            self._entries[key] = entry
            if previous is not None and previous.config.name != entry.config.name:
                self._forget_name(key, previous.config)
                self.problems.pop((entry.config.kind, previous.config.name), None)
            self._names[key[0], entry.config.name] = entry.config.id
            old = previous.live if previous else None
            if entry.live is not None and entry.live is not old:
                entry.live.take_over(old)
                retired += [old] if old is not None else []
        return retired

    def _forget_name(self, key: Key, config: Config) -> None:
        """Takes a name out unless another object has it already, as when two objects exchange their names."""
        if self._names.get((key[0], config.name)) == key[1]:
            del self._names[key[0], config.name]

    def _follow_rename(self, change: Change) -> None:
        """Gives objects that refer to a renamed one its new name; they find it by its id, so nothing else changes for them."""
        if change.verb != EDIT or "name" not in change.differences():
            return
        for entry in list(self._entries.values()):
            for field, target in base.references(base.kind_class(entry.config.kind)).items():
                if change.kind in base.members(target) and entry.config[f"{field}_id"] == change.object_id:
                    entry.config = entry.config.replaced(field, change.name)

    def _stop(self, live: Live) -> None:
        try:
            live.stop()
        except Exception:
            log.exception("%s %r did not stop cleanly.", live.config.kind, live.config.name)

    def shown_problems(self) -> Mapping[str, str]:
        """``problems`` by 'kind/name', as the cluster's status shows them."""
        return {f"{kind}/{name}": problem for (kind, name), problem in self.problems.items()}

    def shown_states(self) -> Mapping[str, dict[str, Any]]:
        """The states of those live objects that have one beside working or not, by 'kind/name', as the cluster's status shows them."""
        kinds = [kind for kind, cls in live_classes().items() if cls.runtime_state is not Live.runtime_state]
        states = {}
        for kind in kinds:
            for entry in self.entries(kind):
                if entry.live is not None and (state := entry.live.runtime_state()) is not None:
                    states[f"{kind}/{entry.config.name}"] = state
        return states


def _space(kind: str) -> str:
    """The family of a type, or the type."""
    return name_space(base.kind_class(kind)) if kind in base.kinds() else kind
