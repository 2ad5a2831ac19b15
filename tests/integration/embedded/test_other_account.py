"""An environment of a user who is not root: the whole life of its stores, in a process of that user."""

import os
import shutil
import subprocess
import sys
import sysconfig

import pytest

NOBODY = 65534
PACKAGES = "import site, ssl, sys; site.addsitedir(sys.argv[1]); import junctor.cli.cluster"
RUNNER = """#!{python}
import runpy, site, sys
site.addsitedir({packages!r})
sys.argv = sys.argv[2:]  # what follows -m: the module, and its arguments
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
LIFE = """
import site, sys
site.addsitedir(sys.argv[1])
sys.executable = sys.argv[3]  # this Python does not know our packages by itself, and the load balancer's agent is in them
from pathlib import Path
from junctor.cli import cluster
from junctor.cli.cluster import Cluster
from junctor.cli.environment import Environment, Plan
from junctor.cli.environment_file import LoadBalancerAddress, ServerAddress
from junctor.cli.ports import free_port

plan = Plan(servers=(ServerAddress("server1", free_port()),), load_balancer=LoadBalancerAddress(free_port(), "127.0.0.1"))
environment = Environment.create(Path(sys.argv[2]), plan, lambda: "k:1")
cluster.create_stores(environment)
environment.complete()
parts = Cluster(Environment.open(Path(sys.argv[2])))
everything = [*parts.stores, parts.haproxy]
try:
    for _ in range(2):
        assert all(part.start().fresh and part.ping() for part in everything)
        cluster.kill_environment(environment)
    assert all(part.start().fresh for part in everything)
    assert all(part.stop().was_running for part in everything)
finally:
    environment.remove()
print("everything came back")
"""


def interpreter():
    """A Python that nobody in particular may run, and our packages with it: they may lie in root's home."""
    ours = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, shutil.which(ours, path="/usr/bin:/usr/local/bin")):
        command = [candidate, "-B", "-c", PACKAGES, sysconfig.get_paths()["purelib"]]
        if candidate and _succeeds(command):
            return candidate
    return None


def _succeeds(command):
    try:
        subprocess.run(
            command, user=NOBODY, group=NOBODY, extra_groups=[], check=True, capture_output=True, cwd="/"
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@pytest.mark.skipif(
    os.geteuid() != 0, reason="the other tests of this folder are run by another account than root"
)
def test_an_account_that_is_not_root_needs_nothing_from_root(public_directory):
    python = interpreter()
    if python is None:
        pytest.skip("the account nobody may not run this Python or not read our packages")
    home = public_directory / "nobody"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)

    packages = sysconfig.get_paths()["purelib"]
    runner = home / "python"
    runner.write_text(RUNNER.format(python=python, packages=packages))
    runner.chmod(0o755)

    result = subprocess.run(
        [python, "-B", "-c", LIFE, packages, home / "env", runner],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert result.stdout.strip() == "everything came back", result.stderr
