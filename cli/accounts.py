"""The account that a process runs as when the environment belongs to root."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from junctor.sql.errors import EnvironmentProblem

CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """An operating system account: its name, user id and main group id.  It gets no other groups."""

    name: str
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """The account to give privileges up to: ``postgres`` if there is one, else ``nobody``; None if we are not root.

    No account is ever created.  Raises ``EnvironmentProblem`` when there is neither.
    """
    if os.geteuid() != 0:
        return None
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise EnvironmentProblem(f"There is no account to give root's privileges up to; looked for {CANDIDATES}.")


def owner_of(path: Path) -> Account | None:
    """The account that ``path`` belongs to, when we are root and it is another one; else None."""
    owner = path.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return None
    try:
        name = pwd.getpwuid(owner.st_uid).pw_name
    except KeyError:
        name = str(owner.st_uid)
    return Account(name, owner.st_uid, owner.st_gid)


def first_barrier(path: Path, account: Account) -> Path | None:
    """The first directory on the way to ``path``, which need not exist, that ``account`` may not pass; None if it may.

    Symbolic links are followed.  Access control lists are not looked at.
    """
    for directory in reversed(path.resolve().parents):
        if not _may_pass(directory, account):
            return directory
    return None


def give(path: Path, account: Account | None) -> None:
    """``path``, which is not followed if it is a link, belongs to ``account`` now; None changes nothing."""
    if account is None:
        return
    try:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)
    except OSError as e:
        raise EnvironmentProblem(f"{path} cannot be given to {account.name}: {e.strerror}.") from e


def _may_pass(directory: Path, account: Account) -> bool:
    entry = directory.stat()
    if entry.st_uid == account.uid:
        bit = stat.S_IXUSR
    elif entry.st_gid == account.gid:
        bit = stat.S_IXGRP
    else:
        bit = stat.S_IXOTH
    return bool(entry.st_mode & bit)
