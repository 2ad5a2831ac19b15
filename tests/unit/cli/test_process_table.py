import os
import subprocess
import sys

from junctor.cli import process_table


def test_a_process_has_one_identity_for_its_life():
    first = process_table.identity(os.getpid())

    assert first
    assert process_table.is_alive(os.getpid(), first)
    assert not process_table.is_alive(os.getpid(), first + "0")


def test_a_zombie_is_dead_and_collected():
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {})

    assert process_table.wait_until(lambda: process_table.identity(pid) is None, 10.0)
    assert process_table.wait_until(lambda: not os.path.exists(f"/proc/{pid}"), 10.0)


def test_a_process_that_does_not_exist_is_nothing():
    gone = 2**22 + 1  # beyond the largest process id of Linux

    assert process_table.identity(gone) is None
    assert process_table.session_of(gone) == 0
    assert process_table.program_of(gone) == ""
    assert process_table.started_at(gone) == 0.0
    assert process_table.memory_of([gone]) == 0
    process_table.send([gone], process_table.signal.SIGTERM)


def test_a_name_with_parentheses_and_spaces_confuses_nobody(tmp_path):
    program = tmp_path / "a) Z 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"], cwd=tmp_path) as process:
        try:
            assert process_table.identity(process.pid)
            assert process_table.processes_in(tmp_path) == [process.pid]
            assert process.pid in process_table.children_of(os.getpid())
        finally:
            process.kill()


def test_memory_is_counted_in_bytes():
    assert process_table.memory_of([os.getpid()]) > 1_000_000
