import contextlib
import http.client
import json
import os
import re
import signal
import socket
from dataclasses import replace

import pytest

from junctor.cli import process_table
from junctor.cli.embedded import programs
from junctor.cli.embedded.haproxy import HAProxy
from junctor.cli.environment import Environment, Plan
from junctor.cli.environment_file import LoadBalancerAddress, ServerAddress
from junctor.sql.errors import EnvironmentProblem, ProcessFailed
from tests.helpers import backend
from tests.helpers.backend import Backend
from tests.helpers.ports import free_port
from tests.helpers.waiting import wait_until


@pytest.fixture
def backends():
    made = [Backend("one"), Backend("two")]
    yield made
    for one in made:
        with contextlib.suppress(OSError):
            one.close()


@pytest.fixture
def environment(path, backends):
    plan = Plan(
        servers=tuple(ServerAddress(f"server{n}", b.port, "0.0.0.0") for n, b in enumerate(backends, 1)),
        load_balancer=LoadBalancerAddress(free_port(), "127.0.0.1"),
        odb_url="postgresql://a:b@127.0.0.1/x",
    )
    environment = Environment.create(path, plan)
    environment.complete()
    yield environment
    environment.remove()


@pytest.fixture
def balancer(environment):
    return HAProxy(environment)


def call(balancer, *arguments, **more):
    return backend.call(balancer.port, *arguments, **more)


def states(environment):
    """The state of each server as HAProxy itself tells it on its socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(environment.path / "load-balancer/run/stats.sock"))
        client.sendall(b"show stat\n")
        text = b"".join(iter(lambda: client.recv(65536), b"")).decode()
    rows = [line.split(",") for line in text.splitlines() if line.startswith("bck_http_plain,http_plain--")]
    return {row[1].removeprefix("http_plain--"): row[17] for row in rows}


def test_requests_are_shared_out_between_the_servers(balancer, backends):
    balancer.start()

    assert {call(balancer)[2] for _ in range(10)} == {"one", "two"}


def test_the_server_learns_who_asked(balancer, backends):
    balancer.start()

    call(balancer)

    [(method, path, headers)] = backends[0].seen + backends[1].seen
    assert (method, path, headers["x-forwarded-for"]) == ("GET", "/orders", ["127.0.0.1"])


def test_what_another_load_balancer_says_is_kept_and_what_only_a_client_would_say_is_not(balancer, backends):
    balancer.start()

    said = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"}
    call(balancer, headers=said | {"X-Zato-Forwarded-For": "1.2.3.4", "Forwarded": "for=1.2.3.4"})

    [(_, _, headers)] = backends[0].seen + backends[1].seen
    assert headers["x-forwarded-for"] == ["203.0.113.7", "127.0.0.1"]
    assert headers["x-forwarded-proto"] == ["https"]
    assert headers["x-forwarded-port"] == ["443"]
    assert not {"x-zato-forwarded-for", "forwarded"} & headers.keys()


def test_the_load_balancer_says_that_it_is_alive_whatever_its_servers_do(balancer, backends):
    for one in backends:
        one.close()

    balancer.start()

    assert balancer.ping()
    assert call(balancer, "/zato-lb-alive")[0] == 200


def test_a_dead_server_costs_no_request(environment, balancer, backends):
    balancer.start()
    backends[0].close()

    assert {call(balancer)[::2] for _ in range(20)} == {(200, "two")}
    assert wait_until(lambda: states(environment)["server1"].startswith("DOWN"))


def test_a_server_that_comes_back_is_used_again(environment, balancer, backends):
    balancer.start()
    backends[0].close()
    wait_until(lambda: states(environment)["server1"] == "DOWN")

    backends.append(Backend("one", backends[0].port))

    wait_until(lambda: states(environment)["server1"] == "UP")
    assert {call(balancer)[2] for _ in range(10)} == {"one", "two"}


def test_without_any_server_the_answer_is_503_in_the_form_of_every_error(balancer, backends):
    balancer.start()
    for one in backends:
        one.close()

    status, headers, body = call(balancer)

    assert status == 503
    assert headers["Content-Type"] == "application/json"
    assert re.fullmatch("[0-9a-f]{24}", headers["X-Zato-CID"])
    assert json.loads(body) == {
        "result": "Error",
        "cid": headers["X-Zato-CID"],
        "details": "No server is available",
    }


def test_what_servers_ask_each_other_cannot_be_asked_from_outside(balancer):
    balancer.start()

    status, headers, body = call(balancer, "/zato/internal/relay/1/1")

    assert status == 404
    assert json.loads(body) == {
        "result": "Error",
        "cid": headers["X-Zato-CID"],
        "details": "Not Found",
    }
    assert call(balancer, "/zato/international")[0] == 200


def test_correlation_ids_differ(balancer, backends):
    balancer.start()
    for one in backends:
        one.close()

    assert len({call(balancer)[1]["X-Zato-CID"] for _ in range(5)}) == 5


def test_a_malformed_request_reaches_no_server(balancer, backends):
    balancer.start()
    with socket.create_connection(("127.0.0.1", balancer.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n")
        answer = client.recv(4096)

    assert answer.startswith(b"HTTP/1.1 400")
    assert backends[0].seen == backends[1].seen == []


def test_what_may_have_been_done_is_never_done_twice(balancer, backends):
    balancer.start()
    for one in backends:
        one.hang_up = True

    assert call(balancer, method="POST", body="{}")[0] == 502
    assert len(backends[0].seen + backends[1].seen) == 1


def test_what_is_safe_to_repeat_is_repeated(balancer, backends):
    balancer.start()
    for one in backends:
        one.hang_up = True

    assert call(balancer)[0] == 502
    assert len(backends[0].seen + backends[1].seen) == 4


def test_a_reload_takes_servers_in_and_out_and_breaks_no_connection(environment, balancer, backends):
    balancer.start()
    pid = balancer.status().pid
    before = http.client.HTTPConnection("127.0.0.1", balancer.port, timeout=10)
    before.request("GET", "/before")
    assert before.getresponse().read()
    settings = environment.settings
    environment.settings = replace(settings, servers=settings.servers[1:])

    balancer.reload()

    assert balancer.status().pid == pid
    assert {call(balancer)[2] for _ in range(6)} == {"two"}
    before.request("GET", "/after")
    assert before.getresponse().status == 200
    before.close()


def test_a_configuration_that_haproxy_refuses_never_replaces_the_one_in_force(environment, balancer):
    balancer.start()
    good = (environment.path / "load-balancer/haproxy.cfg").read_text()
    environment.settings = replace(
        environment.settings, load_balancer=LoadBalancerAddress(balancer.port, "no such host")
    )

    with pytest.raises(EnvironmentProblem, match=r"HAProxy does not accept"):
        balancer.reload()

    assert (environment.path / "load-balancer/haproxy.cfg").read_text() == good
    assert call(balancer)[0] == 200


def test_what_does_not_run_cannot_be_reloaded(balancer):
    with pytest.raises(ProcessFailed, match="does not run"):
        balancer.reload()


def test_a_taken_port_is_reported_with_who_has_it(balancer):
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", balancer.port))
        thief.listen()

        with pytest.raises(ProcessFailed, match=rf":{balancer.port} is taken by process {os.getpid()} \("):
            balancer.start()


def test_a_worker_does_not_outlive_its_master(balancer):
    balancer.start()
    master, worker = balancer.daemon().processes()
    os.kill(master, signal.SIGKILL)
    assert process_table.wait_until(lambda: process_table.identity(master) is None, 5.0)

    assert balancer.start().fresh

    assert process_table.identity(worker) is None
    assert call(balancer)[0] == 200


def test_only_its_owner_can_talk_to_its_socket(environment, balancer):
    balancer.start()

    socket_file = environment.path / "load-balancer/run/stats.sock"
    assert socket_file.is_socket()
    assert socket_file.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives up privileges")
def test_its_worker_does_not_run_as_root(balancer):
    balancer.start()
    _, worker = balancer.daemon().processes()

    assert os.stat(f"/proc/{worker}").st_uid != 0


def test_a_program_without_the_bit_to_be_run_is_given_it(tmp_path):
    program = tmp_path / "haproxy"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o644)

    assert programs._executable(program, tmp_path / "scratch") == program
    assert os.access(program, os.X_OK)


def test_a_program_that_we_may_not_change_is_copied_with_its_libraries(tmp_path, monkeypatch):
    package = tmp_path / "package"
    (package / "lib").mkdir(parents=True)
    (package / "haproxy").write_text("#!/bin/sh\n")
    (package / "lib/libssl.so.3").touch()
    (package / "haproxy").chmod(0o644)
    chmod = programs.Path.chmod

    def refuse(path, mode):
        if path.parent == package:
            raise PermissionError(1, "Operation not permitted", str(path))
        chmod(path, mode)

    monkeypatch.setattr(programs.Path, "chmod", refuse)

    copy = programs._executable(package / "haproxy", tmp_path / "scratch")

    assert copy == tmp_path / "scratch/haproxy"
    assert os.access(copy, os.X_OK)
    assert (tmp_path / "scratch/lib/libssl.so.3").exists()


def test_the_systems_haproxy_is_preferred_if_it_is_new_enough(tmp_path, monkeypatch):
    for name, number in (("old", "2.4.9"), ("new", "2.6.12")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "haproxy").write_text(
            f"#!/bin/sh\necho HAProxy version {number} - https://haproxy.org/\n"
        )
        (tmp_path / name / "haproxy").chmod(0o755)
    wheel = programs.haproxy_program("auto", tmp_path)

    monkeypatch.setenv("PATH", f"{tmp_path}/new:{os.environ['PATH']}")
    assert programs.haproxy_program("auto", tmp_path) == tmp_path / "new/haproxy"
    monkeypatch.setenv("PATH", f"{tmp_path}/old:{os.environ['PATH']}")
    assert programs.haproxy_program("auto", tmp_path) == wheel
    assert programs.haproxy_program(str(tmp_path / "old/haproxy"), tmp_path) == tmp_path / "old/haproxy"
    with pytest.raises(EnvironmentProblem, match="There is no program /none"):
        programs.haproxy_program("/none", tmp_path)
