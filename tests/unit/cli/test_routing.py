import pytest

from junctor.cli.embedded.routing import load, routing, save
from junctor.cli.environment_file import ServerAddress
from junctor.sql.routing import ChannelRoute, Routes, ServerRoute

LOCAL = (ServerAddress("server1", 17010), ServerAddress("server2", 17011))
EVERYWHERE = "ws://0.0.0.0:48902"


def routed(*addresses, known=(), local=LOCAL):
    channels = tuple(ChannelRoute(f"c{n}", address) for n, address in enumerate(addresses, 1))
    return routing(local, Routes(1, tuple(known), channels))


def rules(found):
    return [(rule.path, rule.backend) for rule in found.rules]


def servers(found):
    return [(server.name, server.host, server.port) for server in found.servers]


def test_servers_elsewhere_in_the_cluster_get_requests_too():
    found = routed(known=[ServerRoute("server3", "10.0.0.3", 17010)])

    assert servers(found)[2:] == [("server3", "10.0.0.3", 17010)]


def test_what_the_environment_says_of_its_own_servers_is_newer_than_the_database():
    found = routed(known=[ServerRoute("server1", "127.0.0.1", 9999)])

    assert servers(found) == [("server1", "127.0.0.1", 17010), ("server2", "127.0.0.1", 17011)]


def test_one_address_gets_requests_once_whatever_it_is_called():
    found = routed(known=[ServerRoute("old-name", "127.0.0.1", 17011)])

    assert len(found.servers) == 2


@pytest.mark.parametrize(
    ("name", "host"), [("a b", "10.0.0.3"), ("a", "10.0.0.3\n    bind :80"), ("a", ""), ("a\n", "h")]
)
def test_a_name_or_host_that_haproxy_does_not_take_never_gets_into_its_configuration(name, host):
    found = routed(known=[ServerRoute(name, host, 17010)])

    assert len(found.servers) == 2
    assert "gets no requests" in found.remarks[0]


def test_the_longest_path_is_tried_first():
    found = routed(f"{EVERYWHERE}/ws", "ws://0.0.0.0:48903/ws/orders", f"{EVERYWHERE}/ws/")

    assert rules(found) == [
        ("/ws/orders", "websockets--48903"),
        ("/ws/", "websockets"),
        ("/ws", "websockets"),
    ]


def test_a_channel_on_the_http_port_needs_a_rule_only_below_the_path_of_another():
    assert rules(routed("/chat", f"{EVERYWHERE}/ws")) == [("/ws", "websockets")]
    assert rules(routed("/ws/chat", "/wsx", f"{EVERYWHERE}/ws")) == [
        ("/ws/chat", "bck_http_plain"),
        ("/ws", "websockets"),
    ]
    assert rules(routed("/chat", f"{EVERYWHERE}/")) == [("/chat", "bck_http_plain"), ("/", "websockets")]


def test_of_two_channels_with_one_path_the_older_is_reached():
    found = routed(f"{EVERYWHERE}/ws", "ws://0.0.0.0:48903/ws", "/ws")

    assert rules(found) == [("/ws", "websockets")]
    assert found.remarks == (
        "WebSocket channel 'c2' is not reached through the load balancer: 'c1' has its path, /ws.",
        "WebSocket channel 'c3' is not reached through the load balancer: 'c1' has its path, /ws.",
    )


def test_paths_are_compared_as_the_server_compares_them():
    assert rules(routed(f"{EVERYWHERE}/k%C3%A4se")) == [("/käse", "websockets")]
    assert routed(f"{EVERYWHERE}/käse", "ws://0.0.0.0:48903/k%C3%A4se").remarks


@pytest.mark.parametrize("path", ["/a%0Ab", "/a%00", "/%FF"])
def test_a_path_that_is_no_text_is_not_routed(path):
    found = routed(f"{EVERYWHERE}{path}")

    assert rules(found) == []
    assert "its path has characters that are no text" in found.remarks[0]


def test_a_host_that_haproxy_does_not_take_is_not_routed():
    assert "as a host" in routed("ws://a'b:48902/ws").remarks[0]


def test_a_channel_that_listens_everywhere_is_reached_at_each_server():
    [backend] = routed(f"{EVERYWHERE}/ws", known=[ServerRoute("server3", "10.0.0.3", 17010)]).backends

    assert [(s.name, s.host, s.port) for s in backend.servers] == [
        ("server1", "127.0.0.1", 48902),
        ("server2", "127.0.0.1", 48902),
        ("server3", "10.0.0.3", 48902),
    ]


def test_a_channel_that_listens_to_its_own_machine_is_reached_at_the_servers_of_this_one():
    far = ServerRoute("server3", "10.0.0.3", 17010)
    for host in ("127.0.0.1", "localhost", "[::1]"):
        [backend] = routed(f"ws://{host}:48902/ws", known=[far]).backends
        assert [server.name for server in backend.servers] == ["server1", "server2"]


def test_a_channel_that_only_other_machines_reach_is_told():
    found = routed("ws://127.0.0.1:48902/ws", local=(ServerAddress("far", 17010, "10.0.0.3"),))

    assert "127.0.0.1 is an address of the servers' own machines" in found.remarks[0]


def test_a_channel_with_an_address_of_its_own_is_reached_there():
    [backend] = routed("ws://10.0.0.9:48902/ws").backends

    assert {server.host for server in backend.servers} == {"10.0.0.9"}


def test_one_port_of_two_addresses_is_two_backends():
    names = [
        backend.name
        for backend in routed("ws://a:1/1", "ws://b:2/2", "ws://c:2/3", "ws://d:2/4", "wss://a:1/5").backends
    ]

    assert names == ["websockets", "websockets--2", "websockets--2--2", "websockets--2--3", "websockets--1"]


def test_what_was_known_last_is_kept(tmp_path):
    routes = Routes(
        7, (ServerRoute("server1", "127.0.0.1", 17010),), (ChannelRoute("c1", f"{EVERYWHERE}/ws"),)
    )

    save(tmp_path / "routes.json", routes)

    assert load(tmp_path / "routes.json") == routes


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1, "servers": [1], "channels": []}', "\xff"])
def test_a_damaged_memory_is_none(tmp_path, text):
    (tmp_path / "routes.json").write_text(text)

    assert load(tmp_path / "routes.json") == Routes()
