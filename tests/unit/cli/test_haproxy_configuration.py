from junctor.cli.accounts import Account
from junctor.cli.embedded.haproxy import Resources, render_haproxy
from junctor.cli.environment_file import LoadBalancerAddress, ServerAddress, default_servers


def lines(servers=None, bind=None, resources=None):
    text = render_haproxy(
        servers or default_servers(2), bind or LoadBalancerAddress(), resources or Resources(4096)
    )
    return [line.strip() for line in text.splitlines()]


def test_every_server_is_in_it_under_the_name_of_the_contract():
    assert "server http_plain--server1 127.0.0.1:17010" in lines()
    assert "server http_plain--server2 127.0.0.1:17011" in lines()


def test_it_listens_where_it_is_told_to():
    assert "bind 0.0.0.0:11223" in lines()
    assert "bind [::1]:80" in lines(bind=LoadBalancerAddress(80, "::1"))
    assert "bind *:80" in lines(bind=LoadBalancerAddress(80, ""))


def test_servers_are_reached_where_they_listen():
    assert "server http_plain--far 10.1.2.3:9" in lines(servers=[ServerAddress("far", 9, "10.1.2.3")])


def test_connections_are_bounded_by_file_descriptors_and_by_memory():
    assert "maxconn 1948" in lines()
    assert "maxconn 10000" in lines(resources=Resources(1_073_741_816))
    assert "maxconn 100" in lines(resources=Resources(64))


def test_workers_give_roots_privileges_up_only_if_there_are_any():
    assert "uid 65534" in lines(resources=Resources(4096, Account("nobody", 65534, 65533)))
    assert "gid 65533" in lines(resources=Resources(4096, Account("nobody", 65534, 65533)))
    assert not [line for line in lines() if line.startswith(("uid", "gid"))]


def test_nothing_of_the_template_is_left():
    assert not [line for line in lines() if "${" in line or "$$" in line]
