"""When the agent acts; that what it does works is shown in integration/embedded/test_one_port.py."""

import os
from dataclasses import dataclass, field
from functools import partial

import pytest

from junctor.cli.embedded import balancer_agent
from junctor.cli.embedded.balancer_agent import RETRY, Watcher
from junctor.cli.embedded.balancer_agent_process import AgentState
from junctor.cli.embedded.haproxy import Configured
from junctor.cli.environment import Environment, Plan
from junctor.cli.process import ProcessStatus
from junctor.sql.errors import EnvironmentProblem, StoreUnavailable
from junctor.sql.routing import ChannelRoute, Routes


@dataclass
class Stand:
    """An object database and a HAProxy that a test makes what it likes of, and a clock."""

    routes: Routes = Routes(1)  # noqa: RUF009 - it is frozen
    old_workers: int = 0
    now: float = 1000.0
    runs: bool = True
    database_error: str = ""
    refusal: str = ""
    applied: list[int] = field(default_factory=list)
    readings: int = 0

    def change(self, *channels):
        self.routes = Routes(self.routes.version + 1, (), tuple(ChannelRoute(c, f"/{c}") for c in channels))


class Reader:
    def __init__(self, stand, url, cluster):
        self._stand = stand

    def version(self):
        if self._stand.database_error:
            raise StoreUnavailable(self._stand.database_error)
        return self._stand.routes.version

    def read(self):
        self.version()
        self._stand.readings += 1
        return self._stand.routes

    def close(self):
        pass


class Balancer:
    def __init__(self, stand, environment):
        self._stand = stand

    def status(self):
        return ProcessStatus("running" if self._stand.runs else "stopped")

    def refresh(self, routes):
        if self._stand.refusal:
            raise EnvironmentProblem(self._stand.refusal)
        self._stand.applied.append(routes.version)
        return Configured(changed=True)

    def workers(self):
        return list(range(1 + self._stand.old_workers))


@pytest.fixture
def stand(monkeypatch):
    made = Stand()
    monkeypatch.setattr(balancer_agent, "RouteReader", partial(Reader, made))
    monkeypatch.setattr(balancer_agent, "HAProxy", partial(Balancer, made))
    return made


@pytest.fixture
def environment(tmp_path):
    made = Environment.create(tmp_path / "env", Plan(odb_url="postgresql://a:b@h/x", redis_url="redis://h"))
    made.complete()
    return made


@pytest.fixture
def watcher(environment, stand):
    return Watcher(environment.path, clock=lambda: stand.now)


@pytest.fixture
def local(environment):
    """Writes the administrator's file, some time ago."""

    def write(text, age=10.0):
        path = environment.path / "load-balancer/haproxy.local.cfg"
        path.write_text(text)
        then = path.stat().st_mtime - age
        os.utime(path, (then, then))

    return write


def problems(watcher):
    return [problem for problem in watcher._problems.values() if problem]


def test_what_is_new_is_applied_once(watcher, stand):
    watcher.look()
    stand.now += 5
    watcher.look()
    stand.change("a")
    watcher.look()
    watcher.look()

    assert stand.applied == [1, 2]


def test_a_version_without_other_routes_is_not_applied(watcher, stand):
    watcher.look()
    stand.now += 5
    stand.change()
    watcher.look()

    assert (stand.applied, stand.readings) == ([1], 2)


def test_reloads_are_the_rarer_the_more_old_processes_there_are(watcher, stand):
    stand.old_workers = 12
    watcher.look()
    stand.change("a")
    stand.now += 11.9
    watcher.look()
    assert stand.applied == [1]

    stand.now += 0.1
    watcher.look()
    assert stand.applied == [1, 2]


def test_what_was_refused_is_tried_again_after_a_while_or_when_it_is_something_else(watcher, stand):
    stand.refusal = "no"
    watcher.look()
    stand.refusal = ""
    stand.now += RETRY - 1
    watcher.look()
    assert (stand.applied, problems(watcher)) == ([], ["no"])

    stand.now += 1
    watcher.look()
    assert (stand.applied, problems(watcher)) == ([1], [])

    stand.now += 5
    stand.change("a")
    stand.refusal = "no again"
    watcher.look()
    stand.refusal = ""
    stand.change("a", "b")
    watcher.look()
    assert (stand.applied, problems(watcher)) == ([1, 3], [])


def test_what_was_refused_and_is_taken_back_is_no_problem_any_more(watcher, stand):
    watcher.look()
    stand.now += 5
    stand.change("a")
    stand.refusal = "no"
    watcher.look()
    stand.change()
    watcher.look()

    assert (stand.applied, problems(watcher)) == ([1], [])


def test_a_file_is_left_alone_while_somebody_writes_it(watcher, stand, local):
    watcher.look()
    stand.now += 5
    local("# half", age=0.0)
    watcher.look()
    assert stand.applied == [1]

    local("# whole")
    watcher.look()
    assert stand.applied == [1, 1]


def test_a_load_balancer_that_does_not_run_is_left_to_who_starts_it(watcher, stand):
    stand.runs = False
    watcher.look()
    assert (stand.applied, problems(watcher)) == ([], [])

    stand.runs = True
    watcher.look()
    assert stand.applied == [1]


def test_without_the_database_files_are_watched_on_and_it_is_a_problem(watcher, stand, local):
    watcher.look()
    stand.now += 5
    stand.database_error = "It is away."
    local("# mine")
    watcher.look()
    assert (stand.applied, problems(watcher)) == ([1, 1], ["It is away."])

    stand.now += 5
    stand.database_error = ""
    stand.change("a")
    watcher.look()
    assert (stand.applied, problems(watcher)) == ([1, 1, 2], [])


def test_before_anything_is_known_nothing_is_taken_away(watcher, stand):
    stand.database_error = "It is away."
    watcher.look()

    assert stand.applied == []


def test_another_database_of_the_same_version_is_noticed_after_it_was_away(watcher, stand):
    watcher.look()
    stand.now += 5
    stand.database_error = "It is away."
    watcher.look()
    stand.database_error = ""
    stand.routes = Routes(1, (), (ChannelRoute("restored", "/restored"),))
    watcher.look()

    assert stand.applied == [1, 1]


def test_an_unreadable_environment_is_a_problem_and_not_the_end(environment, watcher, stand):
    watcher.look()
    (environment.path / "environment.toml").write_text("= nonsense")
    os.utime(environment.path / "environment.toml", (1, 1))
    stand.now += 5
    watcher.look()

    assert "not valid TOML" in problems(watcher)[0]


def test_a_sign_of_life_says_what_does_not_work(tmp_path):
    state = AgentState(tmp_path / "agent.json")
    assert not state.is_fresh()

    state.report("")
    assert (state.is_fresh(), state.problem()) == (True, "")
    state.report("It is away.")
    assert state.problem() == "It is away."


def test_an_old_sign_of_life_does_not_count_and_another_renews_it(tmp_path):
    state = AgentState(tmp_path / "agent.json")
    state.report("")
    os.utime(state.path, (1, 1))
    assert not state.is_fresh()

    state.report("")
    assert state.is_fresh()


def test_a_damaged_sign_of_life_is_a_problem(tmp_path):
    state = AgentState(tmp_path / "agent.json")
    state.path.write_text("{")

    assert "cannot be read" in state.problem()
