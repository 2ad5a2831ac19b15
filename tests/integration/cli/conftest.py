import itertools
import os

import pytest

from junctor.cli.cluster import Cluster, kill_environment
from junctor.cli.environment import Environment
from junctor.cli.environment_layout import State, state_of
from tests.helpers.command import run
from tests.helpers.ports import free_port

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def path(public_directory):
    """Where a test's environment may be; whatever it leaves running is killed."""
    found = public_directory / f"quickstart{next(_numbers)}"
    yield found
    if state_of(found) is State.COMPLETE:
        kill_environment(Environment.open(found))
    elif state_of(found) is State.HALF_CREATED:
        Environment(found, None).remove()


@pytest.fixture(scope="module", autouse=True)
def own_home(public_directory):
    """No variable of the developer's shell reaches a test, and no test writes to the developer's home."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("JUNCTOR_", "XDG_"))]:
            patch.delenv(name)
        patch.setenv("XDG_CACHE_HOME", str(public_directory / "cache"))
        patch.setenv("XDG_STATE_HOME", str(public_directory / "state"))
        yield


@pytest.fixture(scope="module")
def options():
    """Ports for ``quickstart create``."""
    return ("--servers", "1", "--port-base", str(free_port()), "--lb-port", str(free_port()))


@pytest.fixture(scope="module")
def environment(path, options):
    """A cluster that was made and started by the command line."""
    run("quickstart", "create", str(path), *options)
    run("quickstart", "start", str(path))
    yield Environment.open(path)
    run("quickstart", "stop", str(path))
    assert not any(daemon.status().running for daemon in Cluster(Environment.open(path)).daemons())


@pytest.fixture(scope="module")
def junctor(environment):
    """The command line, working on ``environment``."""

    def runs(*arguments, **more):
        return run("--path", str(environment.path), *arguments, **more)

    return runs
