"""Files that are replaced as a whole and belong to one account."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from junctor.cli.accounts import Account
from junctor.sql.errors import EnvironmentProblem

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700


def replace_file(path: Path, text: str, *, mode: int = PRIVATE_FILE, account: Account | None = None) -> None:
    """``path`` has ``text`` now, durably, and ``mode``; a reader sees the old or the new file, never a part.

    It belongs to ``account`` if one is given.  Nothing that is at ``path``, or put there meanwhile, is followed or changed.

    Raises ``EnvironmentProblem`` when the file cannot be written (no space, no permission, read-only).
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            os.fchmod(descriptor, mode)  # the umask may have taken bits away
            if account:
                os.fchown(descriptor, account.uid, account.gid)
            with os.fdopen(descriptor, "w", encoding="utf-8", closefd=False) as file:
                file.write(text)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        scratch.replace(path)
        _sync_directory(path.parent)
    except OSError as e:
        scratch.unlink(missing_ok=True)
        raise EnvironmentProblem(f"{path} cannot be written: {e.strerror}.") from e


def make_directory(path: Path, *, mode: int = PRIVATE_DIRECTORY) -> None:
    """``path`` is a directory with ``mode``; its parents must exist.  Raises ``EnvironmentProblem``."""
    try:
        path.mkdir(exist_ok=True)
        path.chmod(mode)
    except OSError as e:
        raise EnvironmentProblem(f"{path} cannot be made a directory: {e.strerror}.") from e


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
