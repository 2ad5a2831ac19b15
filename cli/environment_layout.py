"""The directories of an environment: how they are named, made, recognised and removed.

    ENV/.junctor-info  environment.toml  secrets/
        postgres/{data,log,run}  redis/{data,log,run}      the embedded stores, when they are embedded
        server1/{server.toml,logs,pickup/incoming/services,run,work}
        load-balancer/{haproxy.cfg,haproxy.local.cfg,logs,run}

While an environment is being created it holds the file ``.creating``, which is locked by who creates it, so that a half-created
directory and one in the making can be told apart.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TextIO

from junctor.cli.private_files import PRIVATE_DIRECTORY, PRIVATE_FILE, make_directory, replace_file
from junctor.cli.process import Daemon, Launch
from junctor.sql.errors import EnvironmentProblem

FILE, INFO, CREATING, LOCK = "environment.toml", ".junctor-info", ".creating", ".lock"
SECRETS, POSTGRES, REDIS, LOAD_BALANCER = "secrets", "postgres", "redis", "load-balancer"
SERVER = "server"
KINDS = (POSTGRES, REDIS, SERVER, LOAD_BALANCER)  # in the order of starting
SERVER_FILE = "server.toml"
OUR_ENTRIES = frozenset({FILE, INFO, CREATING, LOCK, SECRETS, POSTGRES, REDIS, LOAD_BALANCER})
PASSABLE_DIRECTORY = (
    0o711  # root's environment: the account of the database passes through to its own directory
)
MAX_SOCKET_PATH = 107  # bytes in a sockaddr_un
LONGEST_SOCKET = (
    f"{LOAD_BALANCER}/run/stats.sock.4194304.tmp"  # HAProxy binds under a name with its pid, then renames
)
SHOWN_ENTRIES = 5


class State(Enum):
    """What is at the path of an environment."""

    ABSENT = "there is nothing"
    EMPTY = "there is an empty directory"
    COMPLETE = "there is an environment"
    HALF_CREATED = "there is an environment whose creation was interrupted"
    FOREIGN = "there is something else"


@dataclass(frozen=True, slots=True)
class Component:
    """A part of an environment that has a directory: ``kind`` is server, load-balancer, postgres or redis."""

    name: str
    kind: str
    path: Path


def state_of(path: Path) -> State:
    """What is at ``path``; raises ``EnvironmentProblem`` when we may not look."""
    try:
        entries = set(os.listdir(path))
    except FileNotFoundError:
        return State.ABSENT
    except NotADirectoryError:
        return State.FOREIGN
    except OSError as e:
        raise EnvironmentProblem(f"{path} cannot be read: {e.strerror}.") from e
    if CREATING in entries:
        return State.HALF_CREATED
    if FILE in entries:
        return State.COMPLETE
    return State.FOREIGN if entries else State.EMPTY


def check_path(path: Path) -> None:
    """Returns if an environment can be created at ``path``; raises ``EnvironmentProblem`` with the reason if not."""
    text = os.fspath(path)
    if not text.isprintable():
        raise EnvironmentProblem(f"{text!r} cannot be an environment: its path has unprintable characters.")
    if len(os.fsencode(path / LONGEST_SOCKET)) > MAX_SOCKET_PATH:
        longest = MAX_SOCKET_PATH - len(LONGEST_SOCKET) - 1
        raise EnvironmentProblem(
            f"{path} is too long a path: a UNIX socket below it could not be opened. It may have {longest} bytes."
        )
    state = state_of(path)
    if state is State.COMPLETE:
        raise EnvironmentProblem(f"{path} is an environment already.")
    if state is State.FOREIGN:
        what = "is a file" if path.is_file() else "is not empty: " + _some_entries(path)
        raise EnvironmentProblem(f"{path} {what}. Choose a directory that is empty or does not exist.")


def _some_entries(path: Path) -> str:
    entries = sorted(os.listdir(path))
    return ", ".join(entries[:SHOWN_ENTRIES]) + (", ..." if len(entries) > SHOWN_ENTRIES else "")


def make_root(path: Path) -> None:
    """``path`` is a directory of ours, parents included; raises ``EnvironmentProblem``."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(PASSABLE_DIRECTORY if os.geteuid() == 0 else PRIVATE_DIRECTORY)
    except OSError as e:
        raise EnvironmentProblem(f"{path} cannot be created: {e.strerror} ({e.filename}).") from e


def claim(path: Path) -> TextIO:
    """The open file ``.creating`` at ``path``, locked until it is closed; raises ``EnvironmentProblem`` if somebody else has it."""
    try:
        file = open_lock(path / CREATING)
    except OSError as e:
        raise EnvironmentProblem(f"{path} cannot be written to: {e.strerror}.") from e
    if not try_lock(file):
        file.seek(0)
        creator = file.read().strip()
        file.close()
        raise EnvironmentProblem(f"{path} is being created right now, by process {creator}.")
    sign(file)
    return file


def open_lock(path: Path) -> TextIO:
    """The lock file ``path``, open; only we may open it, so that nobody else can hold the lock."""
    file = path.open("a+", encoding="ascii")
    os.fchmod(file.fileno(), PRIVATE_FILE)
    return file


def sign(file: TextIO) -> None:
    """The lock file has our process id, for whoever finds it locked."""
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()


def try_lock(file: TextIO) -> bool:
    """Whether ``file`` is locked by us now; never waits."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def clear(path: Path) -> None:
    """Ends the processes of what is half-created at ``path`` and removes it, but never what is not ours."""
    entries = [entry for entry in sorted(path.iterdir()) if entry.name not in (CREATING, LOCK)]
    foreign = [entry.name for entry in entries if not _is_ours(entry)]
    if foreign:
        raise EnvironmentProblem(
            f"{path} holds what no environment has, so it is not removed: {', '.join(foreign[:SHOWN_ENTRIES])}."
        )
    for entry in entries:
        for pidfile in entry.glob("run/*pidfile"):
            Daemon(Launch(entry.name, (), entry, pidfile, pidfile)).kill()
    for entry in entries:
        _remove(entry)


def _is_ours(entry: Path) -> bool:
    if entry.name in OUR_ENTRIES or entry.name.startswith((f".{FILE}.", f".{INFO}.")):
        return True
    return entry.is_dir() and ((entry / INFO).exists() or not os.listdir(entry))


def _remove(entry: Path) -> None:
    try:
        if entry.is_symlink() and (entry / INFO).is_file():
            shutil.rmtree(entry.resolve())  # a database that had to live elsewhere, see embedded/postgres.py
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    except OSError as e:
        raise EnvironmentProblem(f"{e.filename} cannot be removed: {e.strerror}.") from e


def check_owner(path: Path) -> None:
    """Returns if the environment at ``path`` is ours; raises ``EnvironmentProblem`` naming whose it is if not."""
    owner = path.stat().st_uid
    if owner == os.geteuid():
        return
    import pwd  # for the message only

    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = f"user {owner}"
    raise EnvironmentProblem(
        f"{path} belongs to {name}: run the command as {name}, for instance with 'sudo -u'."
    )


def find_components(path: Path) -> list[Component]:
    """Everything in the environment at ``path`` that has a directory: stores, servers, load balancer, others."""
    found = []
    for entry in sorted(path.iterdir()):
        if (entry / INFO).is_file():
            found.append(Component(entry.name, _kind(entry / INFO), entry))
    return sorted(found, key=lambda c: (KINDS.index(c.kind) if c.kind in KINDS else len(KINDS), c.name))


def make_component(path: Path, kind: str, parts: tuple[str, ...]) -> None:
    """``path`` is the directory of a component with the subdirectories ``parts``, all with mode 0700."""
    make_directory(path)
    write_info(path, kind)
    for part in parts:
        make_directory(path / part)


def write_info(path: Path, kind: str) -> None:
    """``path`` has a file ``.junctor-info``: what it is, who made it when with which version."""
    import getpass  # for creating only
    import socket
    from importlib.metadata import version

    info = {
        "version": version("junctor"),
        "component": kind,
        "created_ts": now(),
        "created_user_host": f"{getpass.getuser()}@{socket.gethostname()}",
    }
    replace_file(path / INFO, json.dumps(info, indent=2) + "\n")


def _kind(info: Path) -> str:
    try:
        return str(json.loads(read(info))["component"])
    except (ValueError, KeyError, TypeError) as e:
        raise EnvironmentProblem(f"{info} is damaged: {e}.") from e


def now() -> str:
    """The time in ISO 8601, UTC, to the second."""
    from datetime import UTC, datetime  # for creating only

    return datetime.now(UTC).isoformat(timespec="seconds")


def read(path: Path) -> str:
    """The text in ``path``; raises ``EnvironmentProblem``."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as e:
        raise EnvironmentProblem(f"{path} cannot be read: {e.strerror}.") from e
    except UnicodeDecodeError as e:
        raise EnvironmentProblem(f"{path} is not text: {e.reason}.") from e
