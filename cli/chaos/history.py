"""What happened in a run, as it happened: a file with an event on each line, and how it is read again.

Every operation has an event when it begins ('invoke') and one when it ends: 'ok', it took place; 'fail', it did not; 'info', nobody knows,
such as a publish whose answer was lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from junctor.sql.errors import InvalidInput

INVOKE, OK, FAIL, INFO = "invoke", "ok", "fail", "info"
PUBLISH, RECEIVE, PULL, ACKNOWLEDGE = "publish", "receive", "pull", "acknowledge"
FAULT, LINK, PHASE, PLAN = "fault", "link", "phase", "plan"
FAULTS_OVER, PUBLISHED, END = "faults-over", "published", "end"  # phases


class Sent(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message as it was published; ``number`` counts those of its publisher; ``expiration`` is in seconds, 0 = never."""

    id: str
    number: int
    priority: int = 5
    expiration: int = 0


class Received(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message as it arrived; ``count`` is its delivery_count, ``is_intact`` whether it has its whole content."""

    id: str
    count: int = 0
    is_intact: bool = True


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a history.

    ``time`` is in seconds since the run began, by a clock that nobody sets.  ``process`` is the publisher, subscriber or fault.
    ``operation`` joins an event with its 'invoke'.  ``value`` is the topic of a publish, the largest number of messages of a pull, the
    name of a phase, the plan; ``text`` is for people.
    """

    time: float
    type: str
    f: str
    process: str = ""
    operation: int = 0
    value: Any = None
    sent: tuple[Sent, ...] = ()
    received: tuple[Received, ...] = ()
    text: str = ""


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Event)


class History:
    """Writes the events of a run; any thread may add some."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb", buffering=0)  # so that a run that is killed leaves all of it
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._operations = 0

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def begin(self) -> None:
        """The run begins now."""
        with self._lock:
            self._began = time.monotonic()

    def new_operation(self) -> int:
        """A number for an operation that begins."""
        with self._lock:
            self._operations += 1
            return self._operations

    def add(self, type: str, f: str, process: str = "", **more: Any) -> Event:
        """The event, which is in the file; it happened now.  Nothing is added any more once the history is closed."""
        with self._lock:  # the clock is read inside, so that lines are in the order of their times
            event = Event(round(self.now, 6), type, f, process, **more)
            if not self._file.closed:
                self._file.write(_encoder.encode(event) + b"\n")
        return event

    def close(self) -> None:
        """The file is complete."""
        with self._lock:
            self._file.close()


def read(path: Path) -> Iterator[Event]:
    """The events in a file, in their order; a last line that was cut off is left out.  Raises ``InvalidInput``."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InvalidInput.one("", f"{path} cannot be read: {error.strerror}.") from error
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            yield _decoder.decode(line)
        except msgspec.DecodeError as error:
            if number == len(lines):
                return
            raise InvalidInput.one(
                "", f"{path}, line {number}, is no event of a history: {error}."
            ) from error


def plan_in(events: Sequence[Event]) -> Any:
    """The plan that a history begins with, as JSON has it; None if it has none."""
    return next((event.value for event in events if event.f == PLAN), None)
