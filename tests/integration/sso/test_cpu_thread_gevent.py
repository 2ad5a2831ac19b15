"""The thread that hashes passwords in a process that gevent has patched, as a worker is: there is one, whoever asks."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
from gevent import monkey
monkey.patch_all()
import os, threading
import gevent
from junctor.server.sso.cpu_thread import CpuThread

thread, running, seen, most = CpuThread(19), [], set(), []

def work():
    running.append(1)
    seen.add((threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
    most.append(len(running))
    for _ in range(20_000):
        pass
    running.pop()
    return True

greenlets = [gevent.spawn(thread.run, work) for _ in range(20)]
gevent.joinall(greenlets, raise_error=True)
assert all(greenlet.value for greenlet in greenlets)
assert max(most) == 1, most
assert len(seen) == 1, seen
((native, niceness),) = seen
assert native != threading.get_native_id() and niceness == 19, seen
thread.stop()
print("done")
"""


def test_greenlets_share_one_thread_which_does_one_thing_at_a_time() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stdout + done.stderr
