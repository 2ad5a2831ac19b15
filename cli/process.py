"""A process of an environment that outlives the command which starts it: start, stop, kill, status.

Its pidfile has two lines: the process id, and the identity by which the process is told from a later one with the same id.  Every
verb is idempotent: what runs already or no longer is an answer, never an error.  What a killed process left behind, children
included, is found and ended before a new one starts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from junctor.cli import ports, process_table
from junctor.cli.accounts import Account
from junctor.cli.private_files import replace_file
from junctor.sql.errors import EnvironmentProblem, ProcessFailed

MAX_LOG_SIZE = 10 * 1024 * 1024  # bytes; a larger log is set aside at the next start
KEPT_LOGS = 3
SHOWN_LINES = 12  # of a log, in an error
SHOWN_BYTES = 4096
KILL_TIMEOUT = 10.0  # seconds until the kernel must have ended what got SIGKILL
ORPHAN_GRACE = 1.0  # seconds which children have to notice that their parent is gone
PORT_RELEASE = 5.0  # seconds in which the port of an ended process must become free

Ready = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Launch:
    """How a process is started and recognised.

    ``directory`` is where it runs; it is also what its orphans are recognised by, together with ``program`` when no other
    process would run that program there.  ``stop_signals`` are sent one after the other, each with the seconds it has to work,
    before SIGKILL.  ``environment`` is the whole of it: nothing is inherited.  ``address`` is the port that is free when the
    process is gone.  ``pidfile`` and ``log``, which takes what it prints, lie where only we may write; ``more_logs`` is the
    directory of the logs that the process writes itself.
    """

    name: str
    command: Sequence[str]
    directory: Path
    pidfile: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    account: Account | None = None
    program: Path | None = None
    stop_signals: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, 15.0),)
    address: tuple[str, int] | None = None
    more_logs: Path | None = None


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """What there is to know about a process: ``pid`` and ``started`` (seconds since the epoch) are 0 unless it runs.

    'crashed' means that it ended without having been stopped.
    """

    state: Literal["running", "stopped", "crashed"]
    pid: int = 0
    started: float = 0.0

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.state == "running"


@dataclass(frozen=True, slots=True)
class Stopped:
    """What stopping a process came to; ``forced`` means that it had to be killed."""

    was_running: bool
    forced: bool = False


class Daemon:
    """One process of an environment, which may or may not run now."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self._log_start = 0
        self._spawned = 0.0

    def status(self) -> ProcessStatus:
        """Whether the process runs, by its pidfile; nothing is asked of the process itself."""
        recorded = self._recorded()
        if recorded is None:
            return ProcessStatus("stopped")
        pid, known_as = recorded
        if process_table.is_alive(pid, known_as):
            return ProcessStatus("running", pid, process_table.started_at(pid))
        return ProcessStatus("crashed")

    def start(self, ready: Ready, timeout: float) -> bool:
        """Whether the process had to be started; in either case it is ready now.

        Raises ``ProcessFailed`` with the end of its log when it stops at once or is not ready within ``timeout`` seconds;
        it does not run then.
        """
        return self.finish_start(self.spawn(), ready, timeout)

    def finish_start(self, fresh: bool, ready: Ready, timeout: float) -> bool:
        """The second half of ``start``, for whoever spawns many processes first; ``fresh`` is what ``spawn`` returned.

        A process that ran already but ends now, because it had been killed just before we looked, is started anew.
        """
        try:
            self.wait_ready(ready, timeout)
        except ProcessFailed:
            if fresh or self.status().running:
                raise
            self.spawn()
            self.wait_ready(ready, timeout)
            return True
        return fresh

    def spawn(self) -> bool:
        """Whether the process had to be started; ``finish_start`` or ``wait_ready`` must follow.

        What an earlier one left behind is ended first.  Raises ``ProcessFailed`` when the program cannot be run or its port
        is taken.
        """
        if self.status().running:
            return False
        self.end_orphans()
        launch = self.launch
        if launch.address and not ports.is_free(*launch.address):
            host, port = launch.address
            raise ProcessFailed(
                f"{launch.name} cannot start: {host}:{port} is taken by {ports.holder(port)}."
            )
        self._record(self._run())
        return True

    def wait_ready(self, ready: Ready, timeout: float) -> None:
        """Returns when ``ready()`` says so; raises ``ProcessFailed`` as ``start`` does.

        A process that this object has started is ended then; one that ran already is left alone, for it may just be busy.
        """
        ended = False

        def settled() -> bool:
            nonlocal ended
            if ready():
                return True
            ended = not self.status().running
            return ended

        in_time = process_table.wait_until(settled, timeout)
        if in_time and not ended:
            return
        reason = "stopped right after its start" if ended else f"was not ready within {timeout:g} s"
        log = self.last_lines()
        if ended or self._spawned:
            self.kill()
        raise ProcessFailed(f"{self.launch.name} {reason}. {log}")

    def stop(self) -> Stopped:
        """What stopping came to; the process, its children and its pidfile are gone, and its port is free.

        Raises ``ProcessFailed`` when even SIGKILL does not end it, or something else holds its port afterwards.
        """
        status = self.status()
        if not status.running:
            self.end_orphans()
            return Stopped(was_running=False)
        members = self._members(status.pid)
        main = self._identified([status.pid])
        for number, grace in self.launch.stop_signals:
            process_table.send(self._alive(main), number)
            if self._gone(main, grace):
                break
        forced = bool(self._alive(main))
        if forced:
            self._destroy(status.pid, members)
        self._end(members)
        self.end_orphans()
        self._await_port()
        return Stopped(was_running=True, forced=forced)

    def kill(self) -> None:
        """The process and its children are gone, without having been asked, and so is its pidfile."""
        status = self.status()
        if status.running:
            self._destroy(status.pid, self._members(status.pid))
        self.end_orphans()

    def signal(self, number: signal.Signals) -> bool:
        """Whether the process runs and has been sent the signal."""
        status = self.status()
        if status.running:
            process_table.send([status.pid], number)
        return status.running

    def adopt(self, pid: int) -> None:
        """The running process ``pid`` is this one: its pidfile, which was lost, is written."""
        self._record(pid)

    def processes(self) -> list[int]:
        """The ids of the process and its descendants; none if it does not run."""
        status = self.status()
        return [status.pid, *process_table.children_of(status.pid)] if status.running else []

    def end_orphans(self) -> None:
        """What a process that is gone left behind, its children and its pidfile, is gone too."""
        self._end(self._identified(self._orphans()))
        self.launch.pidfile.unlink(missing_ok=True)

    def last_lines(self) -> str:
        """What the process has logged since its start, the last lines of it, as a sentence for an error."""
        path = self.launch.log
        lines = _tail(path, self._log_start) or ["(nothing)"]
        report = [f"Its output in {path} ends with:", *(f"  {line}" for line in lines)]
        own_log = self._newest_log()
        if own_log:
            report += [f"Its log {own_log} ends with:", *(f"  {line}" for line in _tail(own_log, 0))]
        return "\n".join(report)

    def _run(self) -> int:
        launch, account = self.launch, self.launch.account
        if launch.log.exists() and launch.log.stat().st_size > MAX_LOG_SIZE:
            _set_aside(launch.log)
        try:
            with launch.log.open("ab") as log:
                os.fchmod(log.fileno(), 0o600)
                self._log_start = log.tell()
                self._spawned = time.time() - 1.0  # file systems round
                process = subprocess.Popen(
                    list(launch.command),
                    cwd=launch.directory,
                    env=dict(launch.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    umask=0o077,
                    user=account.uid if account else None,
                    group=account.gid if account else None,
                    extra_groups=[] if account else None,
                )
        except OSError as e:
            raise ProcessFailed(f"{launch.name} cannot be run: {e.filename}: {e.strerror}.") from e
        # It outlives us on purpose: Popen shall neither wait for it nor warn.  Should it end before us,
        # process_table.identity collects it.
        process.returncode = 0
        return process.pid

    def _record(self, pid: int) -> None:
        known_as = process_table.identity(pid) or "ended"
        try:
            replace_file(self.launch.pidfile, f"{pid}\n{known_as}\n")
        except EnvironmentProblem:
            process_table.send([pid], signal.SIGKILL)  # nobody would ever find it again
            raise

    def _recorded(self) -> tuple[int, str] | None:
        try:
            pid, known_as = self.launch.pidfile.read_text(encoding="ascii").split()
            return int(pid), known_as
        except FileNotFoundError:
            return None
        except (ValueError, UnicodeDecodeError):
            return 0, "damaged"  # a crash of the machine may leave an empty file: nothing of it is trusted

    def _members(self, pid: int) -> dict[int, str]:
        return self._identified([pid, *process_table.children_of(pid), *self._orphans()])

    def _orphans(self) -> list[int]:
        """Processes in our directory which are of our session or, as nobody else is, run our program."""
        recorded = self._recorded()
        main = recorded[0] if recorded else 0
        # While a process has the id of the main one without being it, no session of that number is ours.
        session = main if main and (process_table.identity(main) in (None, recorded and recorded[1])) else -1
        program = os.fspath(self.launch.program.resolve()) if self.launch.program else None
        return [
            pid
            for pid in process_table.processes_in(self.launch.directory)
            if pid not in (main, os.getpid())
            and (process_table.session_of(pid) == session or process_table.program_of(pid) == program)
        ]

    def _end(self, orphans: Mapping[int, str]) -> None:
        """Ends processes whose parent is gone: they had better notice themselves, then are asked, then killed."""
        if self._gone(orphans, ORPHAN_GRACE):
            return
        process_table.send(self._alive(orphans), signal.SIGTERM)
        if self._gone(orphans, ORPHAN_GRACE):
            return
        process_table.send(self._alive(orphans), signal.SIGKILL)
        if not self._gone(orphans, KILL_TIMEOUT):
            left = ", ".join(str(pid) for pid in self._alive(orphans))
            raise ProcessFailed(f"{self.launch.name} left processes that cannot be killed: {left}.")

    def _destroy(self, pid: int, members: Mapping[int, str]) -> None:
        # The parent goes first, so that it does not replace the children that it loses.
        process_table.send([main for main in self._alive(members) if main == pid], signal.SIGKILL)
        process_table.send(self._alive(members), signal.SIGKILL)
        if not self._gone(members, KILL_TIMEOUT):
            raise ProcessFailed(f"{self.launch.name} (process {pid}) cannot be killed.")

    @staticmethod
    def _identified(pids: Sequence[int]) -> dict[int, str]:
        return {pid: known_as for pid in pids if (known_as := process_table.identity(pid))}

    @staticmethod
    def _alive(members: Mapping[int, str]) -> list[int]:
        return [pid for pid, known_as in members.items() if process_table.is_alive(pid, known_as)]

    def _gone(self, members: Mapping[int, str], timeout: float) -> bool:
        return process_table.wait_until(lambda: not self._alive(members), timeout)

    def _await_port(self) -> None:
        address = self.launch.address
        if address and not process_table.wait_until(lambda: ports.is_free(*address), PORT_RELEASE):
            raise ProcessFailed(
                f"{self.launch.name} has stopped, but port {address[1]} is held by {ports.holder(address[1])}."
            )

    def _newest_log(self) -> Path | None:
        directory = self.launch.more_logs
        files = [path for path in directory.glob("*.log") if not path.is_symlink()] if directory else []
        newest = max(files, key=lambda path: path.stat().st_mtime, default=None)
        return newest if newest and newest.stat().st_mtime >= self._spawned else None


def stop_all(daemons: Sequence[Daemon]) -> list[Stopped]:
    """What stopping each came to; all are asked at once, so it takes as long as the slowest."""
    asked = [daemon.signal(daemon.launch.stop_signals[0][0]) for daemon in daemons]
    return [
        replace(daemon.stop(), was_running=running) for daemon, running in zip(daemons, asked, strict=True)
    ]


def _set_aside(log: Path) -> None:
    for number in range(KEPT_LOGS - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    log.replace(log.with_name(f"{log.name}.1"))


def _tail(path: Path, start: int) -> list[str]:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - SHOWN_BYTES))
        text = file.read(SHOWN_BYTES).decode("utf-8", errors="replace")
    return [line for line in text.splitlines() if line.strip()][-SHOWN_LINES:]
