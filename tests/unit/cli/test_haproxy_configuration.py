"""The generated configuration, each of which HAProxy itself must accept."""

import subprocess
from pathlib import Path

import pytest

from junctor.cli.accounts import Account
from junctor.cli.embedded import programs
from junctor.cli.embedded.haproxy_configuration import Resources, render
from junctor.cli.embedded.routing import routing
from junctor.cli.environment_file import LoadBalancerAddress, ServerAddress, default_servers
from junctor.sql.routing import ChannelRoute, Routes, ServerRoute


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return programs.haproxy_program("auto", tmp_path_factory.mktemp("haproxy"))


@pytest.fixture
def accepted(program, tmp_path):
    """The lines of a configuration that HAProxy has accepted."""

    def check(*channels, servers=None, known=(), bind=None, resources=None):
        routes = Routes(1, tuple(known), tuple(ChannelRoute(f"c{n}", a) for n, a in enumerate(channels, 1)))
        found = routing(servers or default_servers(2), routes)
        text = render(found, bind or LoadBalancerAddress(), resources or Resources(4096))
        path = Path(tmp_path / "haproxy.cfg")
        path.write_text(text)
        (tmp_path / "run").mkdir(exist_ok=True)
        done = subprocess.run(
            [program, "-c", "-f", path], capture_output=True, text=True, cwd=tmp_path, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "[WARNING]" not in done.stderr
        return [line.strip() for line in text.splitlines()]

    return check


def section(lines, header):
    """The lines of a section, comments left out."""
    start = lines.index(header) + 1
    end = next((n for n in range(start, len(lines)) if not lines[n]), len(lines))
    return [line for line in lines[start:end] if not line.startswith("#")]


def test_every_server_is_in_it_under_the_name_of_the_contract(accepted):
    lines = accepted()

    assert "server http_plain--server1 127.0.0.1:17010" in lines
    assert "server http_plain--server2 127.0.0.1:17011" in lines


def test_it_listens_where_it_is_told_to(accepted):
    assert "bind 0.0.0.0:11223" in accepted()
    assert "bind [::1]:80" in accepted(bind=LoadBalancerAddress(80, "::1"))
    assert "bind *:80" in accepted(bind=LoadBalancerAddress(80, ""))


def test_servers_are_reached_where_they_listen(accepted):
    assert "server http_plain--far 10.1.2.3:9" in accepted(servers=[ServerAddress("far", 9, "10.1.2.3")])


def test_a_host_that_has_no_address_now_is_no_error(accepted):
    known = [ServerRoute("far", "server.invalid", 17010)]

    assert "server http_plain--far server.invalid:17010" in accepted("ws://0.0.0.0:48902/ws", known=known)


def test_connections_are_bounded_by_file_descriptors_and_by_memory(accepted):
    assert "maxconn 1948" in accepted()
    assert "maxconn 10000" in accepted(resources=Resources(1_073_741_816))
    assert "maxconn 100" in accepted(resources=Resources(64))


def test_workers_give_roots_privileges_up_only_if_there_are_any(accepted):
    nobody = Resources(4096, Account("nobody", 65534, 65533))

    assert {"uid 65534", "gid 65533"} <= set(accepted(resources=nobody))
    assert not [line for line in accepted() if line.startswith(("uid", "gid"))]


def test_nothing_of_the_template_is_left(accepted):
    assert not [line for line in accepted("ws://0.0.0.0:48902/ws") if "${" in line or "$$" in line]


def test_clients_cannot_say_what_only_load_balancers_may(accepted):
    frontend = section(accepted(), "frontend front_http_plain")

    assert "http-request del-header X-Zato-Forwarded-For" in frontend
    assert "http-request del-header Forwarded" in frontend


def test_without_websocket_channels_there_is_nothing_about_them(accepted):
    assert not [line for line in accepted() if "websocket" in line.lower() and not line.startswith("#")]


def test_a_channel_has_the_stanzas_that_were_written_by_hand_for_zato(accepted):
    lines = accepted("ws://0.0.0.0:48902/ws")

    assert section(lines, "frontend front_http_plain")[-5:] == [
        "default_backend bck_http_plain",
        "acl is_upgrade hdr(Upgrade) -i websocket",
        "acl is_websocket_1 path,url_dec -m str '/ws'",
        "acl is_websocket_1 path,url_dec -m beg '/ws/'",
        "use_backend websockets if is_upgrade is_websocket_1",
    ]
    assert section(lines, "backend websockets") == [
        "balance leastconn",
        "option http-server-close",
        "retry-on conn-failure empty-response",
        "http-request disable-l7-retry if !{ method GET HEAD OPTIONS }",
        "default-server init-addr last,libc,none",
        "server http_plain--server1 127.0.0.1:48902 track bck_http_plain/http_plain--server1",
        "server http_plain--server2 127.0.0.1:48902 track bck_http_plain/http_plain--server2",
    ]


def test_channels_of_one_port_share_a_backend_and_others_have_their_own(accepted):
    lines = accepted("ws://0.0.0.0:48902/ws", "ws://0.0.0.0:48903/crm", "ws://0.0.0.0:48902/shop")

    assert [line for line in lines if line.startswith("use_backend")] == [
        "use_backend websockets if is_upgrade is_websocket_1",
        "use_backend websockets--48903 if is_upgrade is_websocket_2",
        "use_backend websockets if is_upgrade is_websocket_3",
    ]
    assert section(lines, "backend websockets--48903")[-2:] == [
        "server http_plain--server1 127.0.0.1:48903 track bck_http_plain/http_plain--server1",
        "server http_plain--server2 127.0.0.1:48903 track bck_http_plain/http_plain--server2",
    ]


def test_a_channel_that_speaks_tls_is_spoken_to_in_tls(accepted):
    backend = section(accepted("wss://0.0.0.0:48902/ws"), "backend websockets")

    assert "default-server init-addr last,libc,none ssl verify none" in backend


@pytest.mark.parametrize(
    "path",
    ["/it's", '/say "hello"', "/$HOME/${x}", "/back\\slash", "/a#b", "/käse", "/%E4%BD%A0", "/" + "x" * 290],
)
def test_whatever_is_in_a_path_is_only_a_path(accepted, path):
    lines = accepted(f"ws://0.0.0.0:48902{path}".replace("#", "%23").replace(" ", "%20"))

    assert len([line for line in lines if line.startswith("use_backend")]) == 1


def test_many_channels_are_no_problem(accepted):
    channels = [f"ws://0.0.0.0:{48000 + n % 50}/channel/{n}" for n in range(500)]

    assert len([line for line in accepted(*channels) if line.startswith("backend websockets")]) == 50
