"""HTTP and WebSockets on the port of the load balancer, whose agent keeps it at what the object database says."""

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
from dataclasses import replace

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from junctor.cli import cluster, process_table
from junctor.cli.embedded import haproxy
from junctor.cli.embedded.haproxy import HAProxy
from junctor.cli.environment import Environment, Plan
from junctor.cli.environment_file import LoadBalancerAddress, ServerAddress, StoreAddress
from junctor.sql.errors import EnvironmentProblem, ProcessFailed
from junctor.sql.secrets import new_key_line
from junctor.sql.store import Store
from tests.helpers import objects
from tests.helpers.backend import Backend, Echo, call
from tests.helpers.certificate import certificate
from tests.helpers.load import Request, load
from tests.helpers.ports import LOOPBACK, free_port
from tests.helpers.waiting import wait_until

KNOWN_ROUTES = "load-balancer/run/routes.json"
HOSTS = {"server1": LOOPBACK, "server2": "127.0.0.2"}  # so that both can have the port of one channel


@pytest.fixture
def backends():
    made = {name: Backend(name, host=host) for name, host in HOSTS.items()}
    yield made
    for one in made.values():
        with contextlib.suppress(OSError):
            one.close()


@pytest.fixture
def echoes():
    port = free_port()
    made = {name: Echo(name, port, host) for name, host in HOSTS.items()}
    yield made
    for one in made.values():
        one.close()


@pytest.fixture
def store(engine, keyring):
    """The cluster of the environment, with the service that channels have."""
    made = Store.create(engine, "quickstart", keyring)
    objects.add(made, "service", "orders.get")
    return made


@pytest.fixture
def environment(path, backends, database, store):
    plan = Plan(
        servers=tuple(ServerAddress(name, one.port, HOSTS[name]) for name, one in backends.items()),
        load_balancer=LoadBalancerAddress(free_port(), LOOPBACK),
        odb_url=database,
        redis_url="redis://127.0.0.1:1/0",
    )
    environment = Environment.create(path, plan, new_key_line)
    environment.complete()
    yield environment
    environment.remove()


@pytest.fixture
def balancer(environment):
    return HAProxy(environment)


@pytest.fixture
def add_channel(store, echoes):
    """Adds a WebSocket channel, by default one that both echo servers serve."""

    def add(name="orders", path="/ws", port=echoes["server1"].port, **fields):
        fields = {"address": f"ws://0.0.0.0:{port}{path}", "service": "orders.get", "security": ""} | fields
        return objects.add(store, "channel_websocket", name, **fields)

    return add


@pytest.fixture
def local_file(environment):
    """Writes the administrator's own stanzas, as an editor does."""

    def write(text):
        path = environment.path / "load-balancer/haproxy.local.cfg"
        path.with_suffix(".tmp").write_text(text)
        path.with_suffix(".tmp").replace(path)

    return write


def client(balancer, path="/ws"):
    return connect(f"ws://{LOOPBACK}:{balancer.port}{path}", proxy=None, ping_interval=None)


def echoed(connection, text="hello"):
    connection.send(text)
    return connection.recv(timeout=10)


def answers(balancer, path="/ws"):
    """Whose WebSocket server answers; '' if none does."""
    try:
        with client(balancer, path) as connection:
            return echoed(connection).partition(":")[0]
    except (InvalidStatus, ConnectionClosed):
        return ""


def agent_log(environment):
    return (environment.path / "load-balancer/logs/agent.log").read_text()


def eventually(environment, condition):
    """As ``wait_until``, with what the agent has logged when it is in vain."""
    try:
        return wait_until(condition)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{agent_log(environment)}") from error


def configuration(environment):
    return (environment.path / "load-balancer/haproxy.cfg").read_text()


def test_websockets_and_http_share_one_port(balancer, add_channel, backends):
    add_channel()
    balancer.start()

    with client(balancer) as connection:
        assert echoed(connection) in ("server1: hello", "server2: hello")
        assert call(balancer.port)[2] in HOSTS
        assert echoed(connection, "again").endswith(": again")


def test_only_websockets_to_the_path_of_a_channel_go_there(balancer, add_channel, echoes):
    add_channel()
    balancer.start()

    assert call(balancer.port, "/ws")[2] in HOSTS
    assert [answers(balancer, path) for path in ("/wsx", "/w", "/", "/orders/ws")] == [""] * 4
    assert all(answers(balancer, path) in HOSTS for path in ("/ws", "/ws/", "/ws/a", "/ws?x=1", "/%77s"))
    seen = [path for echo in echoes.values() for path, _ in echo.handshakes]
    assert sorted(seen) == ["/%77s", "/ws", "/ws/", "/ws/a", "/ws?x=1"]


def test_a_channel_learns_who_its_client_is(balancer, add_channel, echoes):
    add_channel()
    balancer.start()

    answers(balancer)

    [(_, headers)] = echoes["server1"].handshakes + echoes["server2"].handshakes
    assert headers["x-forwarded-for"] == LOOPBACK


def test_a_channel_that_speaks_tls_is_reached_without_it(balancer, add_channel, tmp_path):
    public, private = certificate()
    (tmp_path / "pem").write_text(public + private)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "pem")
    echo = Echo("secure", tls=tls)
    address = f"wss://{LOOPBACK}:{echo.port}/secure"
    add_channel(address=address, tls_certificate=public, tls_key=private)
    try:
        balancer.start()

        assert answers(balancer, "/secure") == "secure"
    finally:
        echo.close()


def test_clients_are_shared_out_between_the_servers(balancer, add_channel):
    add_channel()
    balancer.start()

    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(client(balancer)) for _ in range(6)]
        names = [echoed(connection).partition(":")[0] for connection in connections]

    assert sorted(names) == ["server1"] * 3 + ["server2"] * 3


def test_a_server_that_is_stopping_keeps_its_clients_and_gets_no_more(balancer, add_channel, backends):
    add_channel()
    balancer.start()
    with contextlib.ExitStack() as stack:
        early = [stack.enter_context(client(balancer)) for _ in range(2)]
        backends["server1"].is_stopping = True
        wait_until(lambda: {answers(balancer) for _ in range(4)} == {"server2"}, 15)

        assert {echoed(connection) for connection in early} == {"server1: hello", "server2: hello"}


def test_a_channel_that_a_server_does_not_have_is_reached_at_another(balancer, add_channel, echoes):
    add_channel()
    balancer.start()
    echoes["server1"].close()

    assert {answers(balancer) for _ in range(6)} == {"server2"}


def test_a_reload_breaks_no_websocket_and_fails_no_request(balancer, add_channel):
    add_channel()
    balancer.start()
    [worker] = balancer.workers()

    with (
        client(balancer) as connection,
        load(f"http://{LOOPBACK}:{balancer.port}", [Request("/")] * 3) as calls,
    ):
        for text in ("one", "two"):
            balancer.reload()
            assert echoed(connection, text).endswith(f": {text}")
        calls.wait_for_more()
        assert worker in balancer.workers()
        assert echoed(connection, "after").endswith(": after")

    assert calls.failures == []
    wait_until(lambda: worker not in balancer.workers(), message="Its last client is gone, and it stays.")


def test_channels_come_and_go_without_anybody_doing_anything(environment, balancer, add_channel, store):
    balancer.start()
    with load(f"http://{LOOPBACK}:{balancer.port}", [Request("/")] * 2) as calls:
        made = add_channel()
        eventually(environment, lambda: answers(balancer))

        with client(balancer) as connection:
            objects.edit(store, "channel_websocket", made.id, is_active=False)
            eventually(environment, lambda: not answers(balancer))
            assert echoed(connection).endswith(": hello")

    assert calls.failures == []
    assert "The load balancer works by version" in agent_log(environment)
    assert balancer.agent.problem() == ""


def test_servers_elsewhere_join_without_anybody_doing_anything(balancer, backends, store):
    balancer.start()
    third = Backend("server3", host="127.0.0.3")
    try:
        objects.add(store, "server", "server3", host="127.0.0.3", port=third.port)
        wait_until(lambda: call(balancer.port)[2] == "server3")
    finally:
        third.close()


def test_what_concerns_no_route_reloads_nothing(environment, balancer, add_channel, store):
    balancer.start()
    made = add_channel()
    eventually(environment, lambda: "by version 3 of" in agent_log(environment))
    workers = balancer.workers()

    objects.edit(store, "channel_websocket", made.id, token_ttl=77)
    objects.edit(store, "channel_websocket", made.id, name="renamed")
    eventually(environment, lambda: '"renamed"' in (environment.path / KNOWN_ROUTES).read_text())

    assert balancer.workers() == workers
    assert agent_log(environment).count("works by version") == 1


def test_a_channel_that_is_not_reached_is_told(environment, balancer, add_channel):
    add_channel()
    add_channel("other", port=free_port())

    notes = balancer.start().notes

    assert notes == (
        "WebSocket channel 'other' is not reached through the load balancer: 'orders' has its path, /ws.",
    )
    eventually(environment, lambda: notes[0] in agent_log(environment))
    assert balancer.agent.problem() == ""


def test_own_stanzas_take_effect_by_themselves_and_stay(environment, balancer, add_channel, local_file):
    balancer.start()
    local_file(
        "frontend front_http_plain\n    http-request return status 418 if { path /tea }\n"
        "backend websockets\n    http-request set-header X-Mine yes\n"
        "listen mine\n    bind unix@run/mine.sock\n"
    )
    eventually(environment, lambda: call(balancer.port, "/tea")[0] == 418)

    add_channel()

    eventually(environment, lambda: answers(balancer))
    assert call(balancer.port, "/tea")[0] == 418
    assert "\nlisten mine\n" in configuration(environment)


def test_own_stanzas_that_haproxy_refuses_are_told_with_their_line_and_change_nothing(
    environment, balancer, add_channel, local_file
):
    add_channel()
    balancer.start()
    good = configuration(environment)

    local_file("# mine\nfrontend front_http_plain\n    http-requests deny\n")

    problem = wait_until(balancer.agent.problem)
    assert "haproxy.local.cfg, line 3 (http-requests deny) : unknown keyword 'http-requests'" in problem
    with pytest.raises(EnvironmentProblem, match=r"haproxy\.local\.cfg, line 3"):
        balancer.reload()
    assert configuration(environment) == good
    assert answers(balancer)
    [status] = [part for part in cluster.status_of(environment).components if part.kind == "load-balancer"]
    assert (status.state, status.problem) == ("running", problem)

    local_file("# mine\n")
    eventually(environment, lambda: not balancer.agent.problem())


def test_with_own_stanzas_that_haproxy_refuses_it_starts_by_its_last_configuration(
    balancer, add_channel, local_file
):
    add_channel()
    balancer.start()
    balancer.stop()
    local_file("global\n    nonsense\n")

    [note] = balancer.start().notes

    assert note.startswith("It works by its last configuration.")
    assert "haproxy.local.cfg, line 2 (nonsense)" in note
    assert answers(balancer)


def test_what_fails_only_when_it_is_applied_is_taken_back(environment, balancer, local_file, monkeypatch):
    monkeypatch.setattr(haproxy, "RELOAD_TIMEOUT", 3.0)
    balancer.start()
    balancer.agent.stop()
    good = configuration(environment)
    with socket.socket() as thief:
        thief.bind((LOOPBACK, 0))
        thief.listen()
        local_file(f"listen mine\n    bind {LOOPBACK}:{thief.getsockname()[1]}\n")

        with pytest.raises(ProcessFailed, match="did not reload"):
            balancer.reload()

    assert configuration(environment) == good
    assert call(balancer.port)[0] == 200
    (environment.path / "load-balancer/haproxy.local.cfg").unlink()
    balancer.reload()
    assert call(balancer.port)[0] == 200


def test_what_was_changed_by_hand_is_set_aside(environment, balancer):
    balancer.start()
    balancer.agent.stop()  # it would be as good at it, and tell its log
    file = environment.path / "load-balancer/haproxy.cfg"
    edited = file.read_text() + "\nlisten mine\n    bind unix@run/mine.sock\n"
    file.write_text(edited)

    notes = balancer.reload().notes

    [kept] = file.parent.glob("haproxy.cfg.2*")
    assert kept.read_text() == edited
    assert any(str(kept) in note for note in notes)
    assert "listen mine" not in file.read_text()
    assert balancer.reload().notes == ()


def test_without_the_object_database_the_last_routes_hold(environment, balancer, add_channel):
    add_channel()
    balancer.start()
    balancer.stop()
    (environment.path / "load-balancer/haproxy.cfg").unlink()
    environment.save(
        replace(environment.settings, odb=StoreAddress(url="postgresql+psycopg2://a@127.0.0.1:1/x"))
    )

    [note] = balancer.start().notes

    assert "as they were last known: The object database cannot be used" in note
    assert answers(balancer)
    assert "cannot be used" in wait_until(balancer.agent.problem)


def test_a_configuration_that_was_written_but_not_applied_is_applied_later(
    environment, balancer, add_channel
):
    balancer.start()
    balancer.agent.stop()
    add_channel()
    assert balancer.configure().changed  # as if whoever did this was killed before the next step
    assert not answers(balancer)

    balancer.agent.start()

    eventually(environment, lambda: answers(balancer))


def test_the_agent_comes_and_goes_with_the_load_balancer(environment, balancer):
    balancer.start()
    agent = balancer.agent.daemon()
    assert agent.status().running
    processes = agent.processes()
    assert len(processes) == 2

    balancer.stop()

    assert not agent.status().running
    assert not [pid for pid in processes if process_table.identity(pid)]


def test_a_killed_agent_is_missed_and_started_again(environment, balancer):
    balancer.start()
    for pid in balancer.agent.daemon().processes():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: "Its agent does not run: 'junctor start'" in balancer.agent.problem())

    started = balancer.start()

    assert not started.fresh
    assert "Its agent was started." in started.notes
    assert balancer.agent.problem() == ""


def test_a_watcher_that_dies_is_replaced(environment, balancer, add_channel):
    balancer.start()
    _, watcher = balancer.agent.daemon().processes()
    os.kill(watcher, signal.SIGKILL)
    add_channel()

    eventually(environment, lambda: answers(balancer))
    assert "The watcher ended with status 9" in agent_log(environment)


def test_a_watcher_whose_agent_is_killed_ends(balancer):
    balancer.start()
    agent, watcher = balancer.agent.daemon().processes()

    os.kill(agent, signal.SIGKILL)

    wait_until(lambda: process_table.identity(watcher) is None)


def test_an_agent_whose_environment_was_removed_ends(environment, balancer):
    balancer.start()
    processes = balancer.agent.daemon().processes()
    balancer.daemon().stop()

    shutil.rmtree(environment.path / "load-balancer/run")

    wait_until(lambda: not [pid for pid in processes if process_table.identity(pid)])


def test_no_password_of_the_database_is_told_anywhere(environment, balancer, add_channel):
    environment.write_secret("odb-password", "hunter2-not-it")
    add_channel()
    balancer.start()
    wait_until(balancer.agent.problem)

    directory = environment.path / "load-balancer"
    told = "".join(path.read_text(errors="replace") for path in directory.rglob("*") if path.is_file())
    lines = [" ".join(command_line(pid)) for pid in balancer.agent.daemon().processes()]
    assert "hunter2" not in told + "".join(lines)
    assert json.loads((directory / "run/agent.json").read_text()).keys() == {"problem"}


def command_line(pid):
    with open(f"/proc/{pid}/cmdline") as file:
        return file.read().split("\0")
