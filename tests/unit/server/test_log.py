"""Log files: batches, rotation by several processes, a full disk; and what a line says."""

from __future__ import annotations

import logging
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from junctor.server.log import MAX_BATCH, Batch, BatchHandler, JsonFormatter, LogFile, Logs, current_cid

WRITER = """
import sys
from pathlib import Path
from junctor.server.log import Batch, LogFile

batch = Batch(LogFile(Path(sys.argv[1]), size=20_000, count=100))
for number in range(3_000):
    batch.add(f"{sys.argv[2]} {number}\\n".encode())
    if number % 10 == 0:
        batch.flush()
batch.flush()
"""


def lines(path: Path) -> list[bytes]:
    """The lines of a file and of those that it was before, oldest first."""
    older = sorted(path.parent.glob(f"{path.name}.[0-9]*"), key=lambda one: -int(one.suffix[1:]))
    return [line for one in (*older, path) if one.exists() for line in one.read_bytes().splitlines()]


class TestBatches:
    def test_lines_are_written_together_when_they_are_flushed(self, tmp_path: Path) -> None:
        batch = Batch(LogFile(tmp_path / "log", size=10**6, count=2))
        batch.flush()
        assert not (tmp_path / "log").exists()
        for number in range(10):
            batch.add(b"%d\n" % number)
        assert not (tmp_path / "log").exists()
        batch.flush()
        assert lines(tmp_path / "log") == [b"%d" % number for number in range(10)]

    def test_a_batch_that_is_large_enough_is_written_by_itself(self, tmp_path: Path) -> None:
        batch = Batch(LogFile(tmp_path / "log", size=10**9, count=2))
        line = b"x" * 999 + b"\n"
        for _ in range(MAX_BATCH // 1000 + 1):
            batch.add(line)
        assert len(lines(tmp_path / "log")) == MAX_BATCH // 1000 + 1

    def test_an_immediate_one_writes_each_line(self, tmp_path: Path) -> None:
        batch = Batch(LogFile(tmp_path / "log", size=10**6, count=2))
        batch.is_immediate = True
        batch.add(b"now\n")
        assert lines(tmp_path / "log") == [b"now"]


class TestRotation:
    def test_a_full_file_gets_a_number_and_the_oldest_is_dropped(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        file = LogFile(path, size=10, count=3)
        for number in range(6):
            file.append(b"line %04d\n" % number)
        file.close()
        assert [one.name for one in sorted(tmp_path.glob("log.[0-9]"))] == ["log.1", "log.2", "log.3"]
        assert lines(path) == [b"line 0003", b"line 0004", b"line 0005"]

    def test_a_file_that_somebody_took_away_is_made_again(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        file = LogFile(path, size=1000, count=3)
        file.append(b"before\n")
        path.rename(tmp_path / "elsewhere")
        file.append(b"between\n")
        path.unlink()
        file.append(b"after\n")
        assert path.read_bytes() == b"after\n"
        assert path.stat().st_mode & 0o007 == 0

    def test_processes_that_share_a_file_lose_nothing_and_mix_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(path), name])
            for name in ("one", "two", "three")
        ]
        assert [writer.wait(30) for writer in writers] == [0, 0, 0]
        written = lines(path)
        assert len(list(tmp_path.glob("log.[0-9]*"))) > 3
        for name in (b"one", b"two", b"three"):
            mine = [line for line in written if line.startswith(name + b" ")]
            assert sorted(mine) == sorted(name + b" %d" % number for number in range(3000))


class TestAFullDisk:
    @pytest.fixture
    def limited(self) -> Iterator[None]:
        """No file may grow beyond 1,000 bytes: a disk that becomes full, and may be emptied again."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    def test_lines_wait_until_there_is_room_and_none_is_written_twice(
        self, tmp_path: Path, limited: None, capfd: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "log"
        batch = Batch(LogFile(path, size=10**6, count=2))
        expected = [b"line %04d" % number for number in range(300)]
        for line in expected[:200]:
            batch.add(line + b"\n")
        batch.flush()
        assert path.stat().st_size == 1000
        for line in expected[200:]:
            batch.add(line + b"\n")
            batch.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, resource.getrlimit(resource.RLIMIT_FSIZE)[1:] * 2)
        batch.flush()
        assert lines(path) == expected
        assert batch.dropped == 0
        told = capfd.readouterr().err
        assert (
            told.count(f"{path} cannot be written: ") <= 1
        )  # it may be that this could not be written either
        assert f"{path} can be written again; 0 lines have been dropped so far." in told

    def test_what_nobody_could_keep_is_dropped_and_counted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("junctor.server.log.MAX_PENDING", 100)
        batch = Batch(LogFile(tmp_path / "no-such-directory" / "log", size=1000, count=2))
        for number in range(30):
            batch.add(b"line %04d\n" % number)
        batch.flush()
        assert batch.dropped == 30
        batch.add(b"kept\n")
        batch.flush()
        (tmp_path / "no-such-directory").mkdir()
        batch.flush()
        assert lines(tmp_path / "no-such-directory" / "log") == [b"kept"]

    def test_it_is_not_tried_again_for_every_line_and_told_once(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        tried = []

        class Counting(LogFile):
            def append(self, lines: bytes) -> bytes:
                tried.append(len(lines))
                return super().append(lines)

        batch = Batch(Counting(tmp_path / "no-such-directory" / "log", size=1000, count=2))
        for _ in range(500):
            batch.add(b"x" * 1000)
        assert len(tried) == 500_000 // (MAX_BATCH + 1000)
        assert capfd.readouterr().err.count("cannot be written") == 1


class TestLines:
    def record(self, message: str, *args: object, **extra: object) -> logging.LogRecord:
        record = logging.LogRecord("a.logger", logging.WARNING, "file.py", 1, message, args, None)
        for name, value in extra.items():
            setattr(record, name, value)
        return record

    def test_a_line_is_a_json_object(self) -> None:
        line = orjson.loads(JsonFormatter().format(self.record("%s of %d", "one", 2)))
        assert line.pop("time").endswith("Z")
        assert line.pop("pid") > 0
        assert line == {"level": "WARNING", "logger": "a.logger", "message": "one of 2"}

    def test_the_cid_is_the_calls_own_or_that_of_the_record(self) -> None:
        token = current_cid.set("of-the-call")
        try:
            assert orjson.loads(JsonFormatter().format(self.record("x")))["cid"] == "of-the-call"
            own = JsonFormatter().format(self.record("x", cid="of-the-record"))
            assert orjson.loads(own)["cid"] == "of-the-record"
        finally:
            current_cid.reset(token)
        assert "cid" not in orjson.loads(JsonFormatter().format(self.record("x")))

    def test_text_that_is_no_unicode_and_newlines_make_one_line(self) -> None:
        text = JsonFormatter().format(self.record("half \ud800 and\nnew"))
        assert "\n" not in text
        assert "half \\ud800 and\\nnew" in text

    def test_a_traceback_is_part_of_the_line(self) -> None:
        try:
            raise KeyError("reason")
        except KeyError as error:
            record = self.record("failed", exc_info=(type(error), error, error.__traceback__))
        line = orjson.loads(JsonFormatter().format(record))
        assert "KeyError: 'reason'" in line["traceback"]

    def test_warnings_are_written_at_once_and_other_lines_with_them(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        handler = BatchHandler(Batch(LogFile(path, size=10**6, count=1)))
        logger = logging.Logger("own")
        logger.addHandler(handler)
        logger.info("first")
        assert not path.exists()
        logger.warning("second")
        assert [orjson.loads(line)["message"] for line in lines(path)] == ["first", "second"]

    def test_a_record_that_cannot_be_formatted_harms_nobody(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        handler = BatchHandler(Batch(LogFile(tmp_path / "log", size=10**6, count=1)))
        handler.emit(self.record("%d", "text"))
        handler.batch.flush()
        assert not (tmp_path / "log").exists()
        assert "Logging error" in capfd.readouterr().err


def test_logging_goes_to_the_server_log_and_chatty_libraries_are_quiet(tmp_path: Path) -> None:
    program = (
        "import logging, sys; from pathlib import Path; from junctor.server.log import Logs\n"
        "logs = Logs(Path(sys.argv[1]), size=10**6, count=1); logs.install('INFO')\n"
        "logging.getLogger('a').info('mine'); logging.getLogger('a').debug('too fine')\n"
        "logging.getLogger('urllib3.x').info('theirs'); logs.access.add(b'{}\\n'); logs.flush()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, check=True, timeout=30
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    assert [orjson.loads(line)["message"] for line in lines(tmp_path / "server.log")] == ["mine"]
    assert lines(tmp_path / "access.log") == [b"{}"]


def test_logs_of_a_server_are_two_files(tmp_path: Path) -> None:
    logs = Logs(tmp_path, size=10**6, count=1)
    logs.server.add(b"s\n")
    logs.access.add(b"a\n")
    logs.flush()
    assert (tmp_path / "server.log").read_bytes() + (tmp_path / "access.log").read_bytes() == b"s\na\n"
