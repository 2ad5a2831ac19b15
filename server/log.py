"""Log files: JSON lines, written in batches, rotated by size, shared by the processes of a server.

``server.log`` has what happened; ``access.log`` has a line per request; ``audit-pii.log`` has a line per event of the audit trail.
Every line names the CID that the caller was given.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec
import orjson

MAX_BATCH = 64 * 1024  # bytes; what a process keeps to itself before it writes
RECORDS = 32  # lines that are made JSON of at a time
MAX_PENDING = 16 * 1024 * 1024  # bytes; what it keeps when the disk is full, before lines are dropped

AUDIT_LOGGER = "zato_audit_pii"  # facts sheet, section 6

_ENCODER = msgspec.json.Encoder()
current_cid: ContextVar[str] = ContextVar("junctor_cid", default="")


class LogFile:
    """A file that several processes append whole lines to, and that is rotated by whoever finds it full.

    ``FILE.1`` is the newest of ``count`` rotated files.
    """

    def __init__(self, path: Path, *, size: int, count: int) -> None:
        self.path = path
        self._size = size
        self._count = count
        self._descriptor = -1
        self._inode = -1

    def append(self, lines: bytes) -> bytes:
        """Writes ``lines`` in one go; what is left of them when the disk took only a part.  Raises ``OSError`` when it took nothing."""
        if not self._is_current():
            self._open()
        written = os.write(self._descriptor, lines)
        if os.fstat(self._descriptor).st_size >= self._size:
            self._rotate()
        return lines[written:]

    def close(self) -> None:
        """Closes the file; the next ``append`` opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = self._inode = -1

    def _is_current(self) -> bool:
        try:
            return self._descriptor >= 0 and os.stat(self.path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def _open(self) -> None:
        self.close()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o640)
        self._inode = os.fstat(self._descriptor).st_ino

    def _rotate(self) -> None:
        with self._locked():
            if self._is_current() and os.fstat(self._descriptor).st_size >= self._size:
                for number in range(self._count - 1, 0, -1):
                    older = Path(f"{self.path}.{number}")
                    if older.exists():
                        older.rename(f"{self.path}.{number + 1}")
                self.path.rename(f"{self.path}.1")
        self._open()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(f"{self.path}.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


class Batch:
    """Lines that wait to be written: a line costs an append to a list, not a system call.

    Whoever owns a batch calls ``flush`` now and then, and at the end.  An immediate one writes each line by itself.
    """

    def __init__(self, file: LogFile) -> None:
        self._file = file
        self._records: list[msgspec.Struct] = []
        self._lines: list[bytes] = []
        self._size = 0
        self._enough = MAX_BATCH
        self._is_failing = False
        self.dropped = 0
        self.is_immediate = False

    def add(self, line: bytes) -> None:
        """Adds a line, its newline included."""
        self._lines.append(line)
        self._size = size = self._size + len(line)
        if size >= self._enough or self.is_immediate:
            self.flush()

    def note(self, record: msgspec.Struct) -> None:
        """Adds a line that is written as JSON together with others, which takes a fraction of the time."""
        self._records.append(record)
        if len(self._records) >= RECORDS:
            self._encode()

    def _encode(self) -> None:
        records, self._records = self._records, []
        self.add(_ENCODER.encode_lines(records))

    def flush(self) -> None:
        """Writes what waits.  While the file cannot be written, lines are kept, and dropped and counted when there are too many."""
        if self._records:
            self._encode()
        if not self._lines:
            return
        lines, self._lines, self._size = self._lines, [], 0
        text = b"".join(lines)
        try:
            while text:
                text = self._file.append(text)
            self._tell("")
        except OSError as error:
            self._tell(str(error))
            if len(text) < MAX_PENDING:
                self._lines, self._size = [text], len(text)
            else:
                self.dropped += text.count(b"\n")
        self._enough = self._size + MAX_BATCH  # a full disk is not tried again for every line

    def _tell(self, failure: str) -> None:
        """Says on standard error when the file cannot be written any more, and when it can again; each once."""
        if failure and not self._is_failing:
            message = f"{self._file.path} cannot be written: {failure}"
        elif self._is_failing and not failure:
            message = (
                f"{self._file.path} can be written again; {self.dropped} lines have been dropped so far."
            )
        else:
            return
        self._is_failing = bool(failure)
        with suppress(OSError):  # standard error may be a file on the same full disk
            print(message, file=sys.stderr, flush=True)


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, message, cid, process, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, without its newline."""
        line: dict[str, Any] = {
            "time": _iso(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        if cid := getattr(record, "cid", "") or current_cid.get():
            line["cid"] = cid
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str).decode()
        except orjson.JSONEncodeError:  # half a surrogate pair, say, which is no UTF-8
            return json.dumps(line, default=str)


class BatchHandler(logging.Handler):
    """Sends records to a ``Batch``; warnings and worse are written at once."""

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self.batch = batch
        self.setFormatter(JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Adds the record's line."""
        try:
            self.batch.add(self.format(record).encode() + b"\n")
            if record.levelno >= logging.WARNING:
                self.batch.flush()
        except (TypeError, ValueError, UnicodeError):
            self.handleError(record)


def _iso(moment: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
    return f"{whole}.{int(moment % 1 * 1000):03d}Z"


class LineHandler(logging.Handler):
    """Sends records that are lines of JSON already to a ``Batch``; there may be many of them, so none is written at once."""

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self.batch = batch

    def emit(self, record: logging.LogRecord) -> None:
        """Adds the record's message as a line."""
        try:
            self.batch.add(record.getMessage().encode() + b"\n")
        except (TypeError, ValueError, UnicodeError):
            self.handleError(record)


class Logs:
    """The log files of a server's process.

    ``server`` is where ``logging`` goes, ``access`` where requests go, and ``audit`` where the logger ``zato_audit_pii`` goes.
    """

    def __init__(self, directory: Path, *, size: int, count: int) -> None:
        self.server = Batch(LogFile(directory / "server.log", size=size, count=count))
        self.access = Batch(LogFile(directory / "access.log", size=size, count=count))
        self.audit = Batch(LogFile(directory / "audit-pii.log", size=size, count=count))

    def install(self, level: str) -> None:
        """Makes ``logging`` write to ``server.log``, and standard error only what comes before or besides."""
        root = logging.getLogger()
        root.handlers[:] = [BatchHandler(self.server)]
        root.setLevel(level)
        audit = logging.getLogger(AUDIT_LOGGER)
        audit.handlers[:] = [LineHandler(self.audit)]
        audit.setLevel(logging.INFO)  # whatever the others' level is
        audit.propagate = False
        for noisy in ("urllib3", "requests", "alembic", "sqlalchemy", "watchfiles"):
            logging.getLogger(noisy).setLevel(logging.WARNING)

    def flush(self) -> None:
        """Writes what waits."""
        self.server.flush()
        self.access.flush()
        self.audit.flush()
