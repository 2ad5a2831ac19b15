import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from junctor.cli import ports, process_table
from junctor.cli.accounts import unprivileged_account
from junctor.cli.process import Daemon, Launch, stop_all
from junctor.sql.errors import ProcessFailed

SLEEP = "import time, pathlib; pathlib.Path('up').touch(); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEP
FAMILY = (
    "import subprocess, sys, pathlib, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "pathlib.Path('child').write_text(str(child.pid)); pathlib.Path('up').touch(); time.sleep(60)"
)
LISTEN = (
    "import socket, sys, pathlib, time; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1);"
    "s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(); pathlib.Path('up').touch(); time.sleep(60)"
)


@pytest.fixture
def make(tmp_path):
    """Makes daemons that run Python code; none survives the test."""
    made = []

    def daemon(code, *arguments, name="demo", **options):
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        launch = Launch(
            name=name,
            command=[sys.executable, "-c", code, *arguments],
            directory=directory,
            pidfile=directory / "pidfile",
            log=directory / "output.log",
            **{"stop_signals": ((signal.SIGTERM, 5.0),), **options},
        )
        made.append(Daemon(launch))
        return made[-1]

    yield daemon
    for one in made:
        one.kill()


def is_up(daemon):
    return (daemon.launch.directory / "up").exists


def start(daemon):
    if not daemon.status().running:
        (daemon.launch.directory / "up").unlink(missing_ok=True)
    return daemon.start(is_up(daemon), 10.0)


def dead(pid):
    return process_table.wait_until(lambda: process_table.identity(pid) is None, 5.0)


def test_a_started_process_runs_apart_from_us(make):
    daemon = make(SLEEP)

    assert start(daemon)

    status = daemon.status()
    assert status.state == "running"
    assert process_table.session_of(status.pid) == status.pid
    assert abs(status.started - time.time()) < 30
    assert daemon.launch.pidfile.read_text().startswith(f"{status.pid}\n")


def test_starting_what_runs_is_no_error_and_starts_nothing(make):
    daemon = make(SLEEP)
    start(daemon)
    pid = daemon.status().pid

    assert not start(daemon)

    assert daemon.status().pid == pid


def test_stopping_ends_it_and_removes_the_pidfile(make):
    daemon = make(SLEEP)
    start(daemon)
    pid = daemon.status().pid

    stopped = daemon.stop()

    assert (stopped.was_running, stopped.forced) == (True, False)
    assert dead(pid)
    assert not daemon.launch.pidfile.exists()
    assert daemon.status().state == "stopped"


def test_stopping_what_does_not_run_is_no_error(make):
    assert not make(SLEEP).stop().was_running


def test_what_ignores_the_request_to_stop_is_killed(make):
    daemon = make(STUBBORN, stop_signals=((signal.SIGTERM, 0.1),))
    start(daemon)

    assert daemon.stop().forced

    assert daemon.status().state == "stopped"


def test_a_stopped_process_can_be_killed(make):
    daemon = make(SLEEP, stop_signals=((signal.SIGTERM, 0.1),))
    start(daemon)
    daemon.signal(signal.SIGSTOP)

    assert daemon.stop().forced


def test_several_signals_are_tried_in_order(make):
    daemon = make(
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN);" + SLEEP,
        stop_signals=((signal.SIGINT, 0.1), (signal.SIGTERM, 5.0)),
    )
    start(daemon)

    assert not daemon.stop().forced


def test_children_are_ended_too(make):
    daemon = make(FAMILY)
    start(daemon)
    child = int((daemon.launch.directory / "child").read_text())
    assert daemon.processes() == [daemon.status().pid, child]

    daemon.stop()

    assert dead(child)


def test_after_kill_9_the_process_counts_as_crashed_and_starts_again(make):
    daemon = make(SLEEP)
    start(daemon)
    first = daemon.status().pid
    os.kill(first, signal.SIGKILL)
    assert dead(first)
    assert daemon.status().state == "crashed"

    assert start(daemon)

    assert daemon.status().pid != first


def test_children_that_survive_kill_9_of_their_parent_are_ended_before_the_next_start(make):
    daemon = make(FAMILY)
    start(daemon)
    child = int((daemon.launch.directory / "child").read_text())
    parent = daemon.status().pid
    os.kill(parent, signal.SIGKILL)
    assert dead(parent)
    assert process_table.identity(child)

    start(daemon)

    assert dead(child)


def test_a_pidfile_with_the_number_of_another_process_is_stale(make):
    daemon = make(SLEEP)
    daemon.launch.pidfile.write_text(f"{os.getpid()}\nanother-boot:123\n")

    assert daemon.status().state == "crashed"
    assert not daemon.stop().was_running
    assert start(daemon)


@pytest.mark.parametrize("content", ["", "x", "1", "1 2 3\n", "\xff"])
def test_a_damaged_pidfile_is_stale(make, content):
    daemon = make(SLEEP)
    daemon.launch.pidfile.write_text(content, encoding="latin-1")

    assert daemon.status().state == "crashed"
    assert start(daemon)


def test_a_process_of_ours_in_the_same_directory_is_left_alone(make):
    """An administrator's shell in the directory of a component is no orphan."""
    daemon = make(SLEEP)
    other = make(SLEEP, name="demo")
    other.launch = Launch(
        "shell",
        other.launch.command,
        daemon.launch.directory,
        daemon.launch.directory / "p2",
        other.launch.log,
    )
    start(other)
    shell = other.status().pid

    start(daemon)
    daemon.stop()

    assert process_table.identity(shell)
    other.kill()


def test_processes_of_its_own_program_in_its_directory_are_found_without_a_pidfile(make):
    daemon = make(SLEEP, program=Path(sys.executable).resolve())
    start(daemon)
    pid = daemon.status().pid
    daemon.launch.pidfile.unlink()

    daemon.end_orphans()

    assert dead(pid)


def test_what_ends_at_once_is_reported_with_the_end_of_its_output(make):
    daemon = make("print('old')")
    with pytest.raises(ProcessFailed):
        daemon.start(lambda: False, 10.0)
    daemon = make("import sys; print('a'); sys.exit('the disk is full')")

    with pytest.raises(ProcessFailed) as caught:
        daemon.start(lambda: False, 10.0)

    assert "demo stopped right after its start" in str(caught.value)
    assert "the disk is full" in str(caught.value)
    assert "old" not in str(caught.value)
    assert daemon.status().state == "stopped"


def test_the_log_that_it_writes_itself_is_shown_too(make):
    daemon = make("open('own.log', 'w').write('no licence')")
    launch = daemon.launch
    daemon = make("open('own.log', 'w').write('no licence')", more_logs=launch.directory)

    with pytest.raises(ProcessFailed, match="no licence"):
        daemon.start(lambda: False, 10.0)


def test_what_is_not_ready_in_time_is_ended_and_reported(make):
    daemon = make(SLEEP)

    with pytest.raises(ProcessFailed, match=r"was not ready within 0.1 s"):
        daemon.start(lambda: False, 0.1)

    assert daemon.status().state == "stopped"


def test_what_ran_already_is_not_ended_because_it_is_busy(make):
    daemon = make(SLEEP)
    start(daemon)
    again = Daemon(daemon.launch)

    with pytest.raises(ProcessFailed, match="was not ready"):
        again.start(lambda: False, 0.1)

    assert daemon.status().running


def test_a_program_that_is_not_there_is_reported(make, tmp_path):
    launch = Launch("ghost", ["/no/such/program"], tmp_path, tmp_path / "pidfile", tmp_path / "log")

    with pytest.raises(ProcessFailed, match=r"ghost cannot be run: .*/no/such/program: No such file"):
        Daemon(launch).spawn()


def test_a_taken_port_is_reported_with_who_has_it(make):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        daemon = make(LISTEN, str(port), address=("127.0.0.1", port))

        with pytest.raises(ProcessFailed, match=rf"127.0.0.1:{port} is taken by process {os.getpid()} \("):
            daemon.spawn()


def test_the_port_is_free_when_the_process_has_stopped(make):
    port = ports.free_port()
    daemon = make(LISTEN, str(port), address=("127.0.0.1", port))

    for _ in range(3):
        start(daemon)
        assert not ports.is_free("127.0.0.1", port)
        daemon.stop()
        assert ports.is_free("127.0.0.1", port)


def test_a_large_log_is_set_aside_at_the_next_start(make, monkeypatch):
    monkeypatch.setattr("junctor.cli.process.MAX_LOG_SIZE", 10)
    for _ in range(6):
        daemon = make("print('x' * 50, flush=True);" + SLEEP)
        start(daemon)
        daemon.stop()

    logs = sorted(path.name for path in daemon.launch.log.parent.glob("output.log*"))
    assert logs == ["output.log", "output.log.1", "output.log.2", "output.log.3"]


def test_nothing_of_our_environment_is_inherited(make, monkeypatch):
    monkeypatch.setenv("JUNCTOR_SECRET_KEYS", "top-secret")
    daemon = make(
        "import os, pathlib; pathlib.Path('env').write_text(repr(dict(os.environ)));" + SLEEP,
        environment={"A": "b"},
    )
    start(daemon)

    seen = (daemon.launch.directory / "env").read_text()
    assert "'A': 'b'" in seen
    assert "top-secret" not in seen


def test_many_are_stopped_as_fast_as_the_slowest(make):
    daemons = [make(SLEEP, name=f"d{n}") for n in range(3)]
    for daemon in daemons:
        start(daemon)

    assert all(stopped.was_running for stopped in stop_all(daemons[:2]))
    assert daemons[2].status().running


def test_the_output_is_only_for_us_to_read(make):
    daemon = make(SLEEP)
    start(daemon)

    assert oct(daemon.launch.log.stat().st_mode & 0o777) == "0o600"
    with contextlib.suppress(PermissionError):
        assert oct(daemon.launch.pidfile.stat().st_mode & 0o777) == "0o600"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
def test_it_runs_as_another_account_when_told_to(public_directory):
    account = unprivileged_account()
    assert account is not None
    directory = public_directory / "other-account"
    directory.mkdir()
    launch = Launch(
        "sleep", ["/bin/sleep", "60"], directory, directory / "pidfile", directory / "log", account=account
    )
    daemon = Daemon(launch)

    daemon.spawn()

    status = Path(f"/proc/{daemon.status().pid}/status").read_text()
    daemon.kill()
    assert f"Uid:\t{account.uid}\t{account.uid}\t{account.uid}\t{account.uid}" in status
    assert "Groups:\t \n" in status
