"""Which processes are alive, and which are the same as before.

A process id alone says little: it is used again.  So a process is known by its id *and* its identity: the boot of the
machine and the clock tick in which it started.  Neither changes when somebody sets the clock.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

PROC = Path("/proc")
BOOT_ID = PROC / "sys/kernel/random/boot_id"
START_TICK = 19  # the 22nd field of /proc/PID/stat, counted from the state, which is the third
SESSION = 3
DEAD_STATES = "ZXx"
POLL = 0.02  # seconds


def identity(pid: int) -> str | None:
    """The identity of the living process ``pid``, or None; a zombie is dead, and is collected if it was our child."""
    fields = _stat(pid)
    if fields is None:
        return None
    if fields[0] in DEAD_STATES:
        _collect(pid)
        return None
    return f"{_boot_id()}:{fields[START_TICK]}"


def is_alive(pid: int, known_as: str) -> bool:
    """Whether ``pid`` is alive and still the process whose identity was ``known_as``."""
    return identity(pid) == known_as


def exists(pid: int) -> bool:
    """Whether there is a process ``pid``, be it a zombie."""
    return _stat(pid) is not None


def session_of(pid: int) -> int:
    """The id of the session of ``pid``; 0 if there is no such process."""
    fields = _stat(pid)
    return int(fields[SESSION]) if fields else 0


def processes_in(directory: Path) -> list[int]:
    """The living processes whose working directory is ``directory`` or below it, as far as we may see them."""
    wanted = os.fspath(directory.resolve())
    found = []
    for entry in os.listdir(PROC):
        if not entry.isdigit():
            continue
        try:
            current = os.readlink(PROC / entry / "cwd")
        except OSError:
            continue
        if (current == wanted or current.startswith(f"{wanted}/")) and identity(int(entry)):
            found.append(int(entry))
    return found


def program_of(pid: int) -> str:
    """The path of the program that ``pid`` runs; '' if there is no such process or we may not see it.

    A program that was replaced on disk since keeps its path.
    """
    try:
        return os.readlink(PROC / str(pid) / "exe").removesuffix(" (deleted)")
    except OSError:
        return ""


def children_of(pid: int) -> list[int]:
    """The living descendants of ``pid``, children before grandchildren."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir(PROC):
        fields = _stat(int(entry)) if entry.isdigit() else None
        if fields and fields[0] not in DEAD_STATES:
            parents.setdefault(int(fields[1]), []).append(int(entry))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(0), [])
        found += children
        waiting += children
    return found


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Each of ``pids`` has been sent the signal, those which are gone excepted."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Whether ``condition`` became true within ``timeout`` seconds; it is asked at least once."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL)
    return True


def memory_of(pids: Iterable[int]) -> int:
    """The bytes of memory that ``pids`` use: shared pages are shared out between those who map them."""
    total = 0
    for pid in pids:
        try:
            lines = (
                (PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii", errors="replace").splitlines()
            )
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def started_at(pid: int) -> float:
    """When ``pid`` started, in seconds since the epoch, UTC; 0.0 if there is no such process."""
    fields = _stat(pid)
    if fields is None:
        return 0.0
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[START_TICK]) / os.sysconf("SC_CLK_TCK")
    return time.time() - age


def _stat(pid: int) -> list[str] | None:
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the name in parentheses, which may contain anything.
    return text.rpartition(")")[2].split()


def _boot_id() -> str:
    return BOOT_ID.read_text(encoding="ascii").strip()


def _collect(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
