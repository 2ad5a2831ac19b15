"""WebSocket channels on real sockets: who may connect and who stays connected, whatever becomes of the configuration."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterator

import pytest
from gevent import socket
from gevent.event import Event

from junctor.server.app import App
from junctor.server.http_server import HTTPServer
from junctor.server.http_settings import HTTPSettings
from junctor.server.service.base import Service
from junctor.server.websocket import tls
from junctor.server.websocket.endpoints import Endpoints
from junctor.sql.errors import ConnectionFailed
from tests.helpers.certificate import certificate
from tests.helpers.one_worker import OneWorker
from tests.helpers.ports import LOOPBACK, free_port
from tests.helpers.waiting import eventually
from tests.helpers.websocket_client import ChannelClient, is_refusal

CHANNEL, BASIC = "channel_websocket", "security_basic_auth"
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
Connect = Callable[..., ChannelClient]


@pytest.fixture
def channel(worker: OneWorker, address: str) -> str:
    """The address of a channel ``ws`` to a service that echoes, for anybody."""
    worker.create(CHANNEL, "ws", address=address, service="t.echo")
    return address


def port_of(address: str) -> int:
    return int(address.split(":")[2].partition("/")[0])


def listens(address: str) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection((LOOPBACK, port_of(address)), timeout=1).close()
    except OSError:
        return False
    return True


def http(address: str, head: str = "", target: str = "") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer to a request for a WebSocket, or whatever else ``head`` has."""
    host, _, path = address.removeprefix("ws://").partition("/")
    name, _, port = host.partition(":")
    lines = head or UPGRADE
    with socket.create_connection((name, int(port)), timeout=5) as opened:
        opened.sendall(f"GET {target or '/' + path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
        opened.shutdown(socket.SHUT_WR)
        received = b""
        while data := opened.recv(65_536):
            received += data
    before, _, body = received.partition(b"\r\n\r\n")
    first, *rest = before.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in rest)
    return int(first.split()[1]), headers, body


class TestConnecting:
    def test_another_path_is_not_found(self, channel: str) -> None:
        status, headers, body = http(channel, target="/other")
        assert (status, body) == (404, b'{"error":"Not found"}')
        assert headers["content-type"] == "application/json"

    def test_a_path_must_be_the_same_to_the_last_character(self, channel: str) -> None:
        assert http(channel, target="/ws/")[0] == 404
        assert http(channel, target="/WS")[0] == 404

    def test_a_path_may_be_written_with_percent_signs(self, channel: str) -> None:
        assert http(channel, target="/%77s")[0] == 101

    def test_a_path_may_have_any_letters(self, worker: OneWorker, connect: Connect, address: str) -> None:
        worker.create(CHANNEL, "ws", address=f"{address}/zażółć", service="t.echo")
        connect(f"{address}/za%C5%BC%C3%B3%C5%82%C4%87").log_in()

    def test_a_page_is_told_that_this_is_a_websocket(self, channel: str) -> None:
        status, headers, body = http(channel, head="Accept: text/html\r\n")
        assert status == 426
        assert headers["sec-websocket-version"] == "13"
        assert b"WebSocket" in body
        assert len(headers["x-zato-cid"]) == 24

    def test_another_version_of_the_protocol_is_refused(self, channel: str) -> None:
        assert http(channel, head=UPGRADE.replace(": 13", ": 8"))[0] == 426

    def test_a_request_with_a_body_is_refused(self, channel: str) -> None:
        assert http(channel, head=f"{UPGRADE}Content-Length: 3\r\n")[0] == 400

    def test_what_is_no_http_is_refused(self, channel: str) -> None:
        assert http(channel, target="/ws\x7f")[0] == 400

    def test_pages_of_other_origins_are_refused(
        self, worker: OneWorker, connect: Connect, address: str
    ) -> None:
        worker.create(
            CHANNEL, "ws", address=address, service="t.echo", allowed_origins=["https://shop.example.com"]
        )
        with pytest.raises(ConnectionFailed, match="403"):
            connect(address, headers={"Origin": "https://evil.example.com"})
        connect(address, headers={"Origin": "https://SHOP.example.com"}).log_in()
        connect(address).log_in()  # no page at all
        assert worker.metric("junctor_websocket_refused_total", channel="ws", reason="Forbidden") == 1

    @pytest.mark.parametrize("is_allowed", [True, False])
    def test_messages_are_compressed_if_the_channel_lets_them_be(
        self, worker: OneWorker, address: str, is_allowed: bool
    ) -> None:
        worker.create(CHANNEL, "ws", address=address, service="t.echo", compression=is_allowed)
        head = f"{UPGRADE}Sec-WebSocket-Extensions: permessage-deflate\r\n"
        assert ("sec-websocket-extensions" in http(address, head=head)[1]) is is_allowed

    def test_a_worker_that_cannot_serve_says_why(self, worker: OneWorker, channel: str) -> None:
        worker.context.not_ready = "The database is away."
        status, headers, body = http(channel)
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"The database is away." in body

    def test_there_are_no_more_connections_than_allowed(
        self, worker: OneWorker, connect: Connect, address: str
    ) -> None:
        worker.create(CHANNEL, "ws", address=address, service="t.echo", max_connections=2)
        first, _ = connect(address), connect(address)
        status, headers, _ = http(address)
        assert (status, headers["retry-after"]) == (503, "1")
        first.end()
        eventually(lambda: http(address)[0] == 101)

    def test_a_channel_that_is_off_does_not_listen(self, worker: OneWorker, address: str) -> None:
        worker.create(CHANNEL, "ws", address=address, service="t.echo", is_active=False)
        with pytest.raises(ConnectionRefusedError):
            http(address)

    def test_channels_of_one_port_are_told_apart_by_their_paths(
        self, worker: OneWorker, connect: Connect, address: str
    ) -> None:
        worker.create(CHANNEL, "one", address=f"{address}/one", service="t.seen")
        worker.create(CHANNEL, "two", address=f"{address}/two", service="t.seen")
        for name in ("one", "two"):
            client = connect(f"{address}/{name}")
            client.log_in()
            assert client.ask()["data"]["channel"] == name
        worker.delete(CHANNEL, "one")
        assert http(f"{address}/one")[0] == 404
        connect(f"{address}/two").log_in()

    def test_a_port_that_is_taken_is_a_problem_that_says_what_to_do(
        self, worker: OneWorker, address: str
    ) -> None:
        with socket.socket() as other:
            other.bind((LOOPBACK, 0))
            other.listen(1)
            port = other.getsockname()[1]
            worker.create(CHANNEL, "ws", address=f"ws://{LOOPBACK}:{port}/ws", service="t.echo")
            (problem,) = worker.problems()
        assert f"ws://{LOOPBACK}:{port}/ws cannot be listened on: another program" in problem
        assert "only the path /ws" in problem

    def test_a_channel_whose_new_port_is_taken_stays_where_it_was(
        self, worker: OneWorker, connect: Connect, channel: str
    ) -> None:
        client = connect(channel)
        client.log_in()
        with socket.socket() as other:
            other.bind((LOOPBACK, 0))
            other.listen(1)
            taken = f"ws://{LOOPBACK}:{other.getsockname()[1]}/ws"
            worker.edit(CHANNEL, "ws", address=taken)
            assert len(list(worker.problems())) == 1
            assert client.ask(1)["data"] == 1
            connect(channel).log_in()
        # Tried again with the next change, whatever it is.
        worker.create("service", "another")
        assert not list(worker.problems())
        connect(taken).log_in()
        assert client.closed() == 1012


class TestBooting:
    @pytest.fixture
    def endpoints(self, worker: OneWorker) -> Endpoints:
        """Those of a worker that has not loaded yet."""
        worker.context.websockets = Endpoints(worker.context)
        return worker.context.websockets

    def test_a_worker_listens_once_it_has_loaded(
        self, endpoints: Endpoints, connect: Connect, channel: str
    ) -> None:
        assert not listens(channel)  # clients go to the workers that are there already
        endpoints.open()
        connect(channel).log_in()

    def test_what_was_loaded_in_vain_is_given_back(
        self, worker: OneWorker, endpoints: Endpoints, connect: Connect, channel: str
    ) -> None:
        worker.create(CHANNEL, "on-http", address="/ws", service="t.echo")
        endpoints.abandon()
        endpoints.open()
        assert not listens(channel)
        with socket.socket() as other:
            other.bind((LOOPBACK, port_of(channel)))
        assert endpoints.find({"PATH_INFO": "/ws"}) is None


class TestOnTheServersPort:
    @pytest.fixture
    def port(self, worker: OneWorker) -> Iterator[int]:
        """The port of the server's own application."""
        listener = socket.socket()
        listener.bind((LOOPBACK, 0))
        listener.listen(50)
        app = App(worker.context, worker.context.websockets.drain, Event())
        server = HTTPServer(app, [listener], log=logging.getLogger("tests"))
        server.start()
        yield listener.getsockname()[1]
        server.kill()

    def test_a_path_alone_is_served_there(self, worker: OneWorker, connect: Connect, port: int) -> None:
        worker.create(CHANNEL, "ws", address="/ws", service="t.echo")
        client = connect(f"ws://{LOOPBACK}:{port}/ws")
        client.log_in()
        assert client.ask({"a": 1})["data"] == {"a": 1}
        worker.edit(CHANNEL, "ws", address="/other")
        assert client.closed() == 1012
        connect(f"ws://{LOOPBACK}:{port}/other").log_in()

    def test_a_rest_channel_may_have_the_same_path(
        self, worker: OneWorker, connect: Connect, port: int
    ) -> None:
        worker.create("channel_rest", "rest", url_path="/both", service="t.echo", data_format="json")
        worker.create(CHANNEL, "ws", address="/both", service="t.echo")
        plain = http(f"ws://{LOOPBACK}:{port}/both", head="Connection: close\r\n")
        assert plain[0] == 200
        connect(f"ws://{LOOPBACK}:{port}/both").log_in()

    def test_a_request_for_a_websocket_that_there_is_not_is_a_request_like_any_other(
        self, worker: OneWorker, port: int
    ) -> None:
        worker.create("channel_rest", "rest", url_path="/rest", service="t.echo", data_format="json")
        assert http(f"ws://{LOOPBACK}:{port}/rest")[0] == 200
        assert http(f"ws://{LOOPBACK}:{port}/nothing")[0] == 404

    def test_a_refusal_is_an_answer_of_http(self, worker: OneWorker, port: int) -> None:
        worker.create(CHANNEL, "ws", address="/ws", service="t.echo", allowed_origins=["https://a.example"])
        head = f"{UPGRADE}Origin: https://b.example\r\n"
        status, headers, body = http(f"ws://{LOOPBACK}:{port}/ws", head=head)
        assert status == 403
        assert headers["x-zato-cid"].encode() in body
        assert b'"details":"Pages of this origin may not connect."' in body

    def test_websockets_take_no_places_of_requests(self, worker: OneWorker, connect: Connect) -> None:
        worker.create(CHANNEL, "ws", address="/ws", service="t.echo")
        listener = socket.socket()
        listener.bind((LOOPBACK, 0))
        listener.listen(50)
        app = App(worker.context, worker.context.websockets.drain, Event())
        server = HTTPServer(app, [listener], HTTPSettings(max_connections=2), log=logging.getLogger("tests"))
        server.start()
        address = f"ws://{LOOPBACK}:{listener.getsockname()[1]}/ws"
        for _ in range(5):
            connect(address).log_in()
        assert server.connections == 5
        server.kill()

    def test_a_stopping_worker_refuses_new_ones(self, worker: OneWorker, port: int) -> None:
        worker.create(CHANNEL, "ws", address="/ws", service="t.echo")
        worker.stop()
        status, headers, _ = http(f"ws://{LOOPBACK}:{port}/ws")
        assert (status, headers["retry-after"]) == (503, "1")


class TestTls:
    @pytest.fixture
    def secure(self, address: str) -> str:
        return address.replace("ws:", "wss:")

    def create(self, worker: OneWorker, address: str, **fields: str) -> None:
        given, key = certificate()
        values = {"tls_certificate": given, "tls_key": key, "service": "t.echo"} | fields
        worker.create(CHANNEL, "ws", address=address, **values)

    def test_a_channel_may_speak_tls(self, worker: OneWorker, connect: Connect, secure: str) -> None:
        self.create(worker, secure)
        client = connect(secure, tls_verify=False)
        client.log_in()
        large = "x" * 500_000
        assert client.ask(large)["data"] == large
        worker.edit(CHANNEL, "ws", is_active=False)
        assert client.closed() == 1001

    def test_who_speaks_no_tls_is_disconnected_and_nothing_is_left_of_it(
        self, worker: OneWorker, connect: Connect, secure: str
    ) -> None:
        self.create(worker, secure)
        with pytest.raises(ConnectionFailed):
            connect(secure.replace("wss:", "ws:"))
        connect(secure, tls_verify=False).log_in()

    def test_versions_before_1_2_are_refused(self) -> None:
        assert tls.server_context(*certificate()).minimum_version is ssl.TLSVersion.TLSv1_2

    def test_a_certificate_that_is_none_is_a_problem_without_the_key_in_it(
        self, worker: OneWorker, secure: str
    ) -> None:
        _, key = certificate()
        self.create(worker, secure, tls_key=key)
        (problem,) = worker.problems()
        assert "tls_certificate: and tls_key must be a certificate in PEM and its private key" in problem
        assert "PRIVATE" not in problem

    def test_a_new_certificate_holds_for_new_connections(
        self, worker: OneWorker, connect: Connect, secure: str
    ) -> None:
        self.create(worker, secure)
        client = connect(secure, tls_verify=False)
        client.log_in()
        given, key = certificate(name="renewed")
        worker.edit(CHANNEL, "ws", tls_certificate=given, tls_key=key)
        assert client.ask(1)["data"] == 1
        opened = socket.create_connection((LOOPBACK, port_of(secure)), timeout=5)
        with tls.client_context(verify=False).wrap_socket(opened) as secured:
            shown = ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True))
        assert shown.strip() == given.strip()

    def test_one_port_is_with_tls_or_without(self, worker: OneWorker, address: str, secure: str) -> None:
        worker.create(CHANNEL, "plain", address=f"{address}/plain", service="t.echo")
        self.create(worker, f"{secure}/tls")
        (problem,) = worker.problems()
        assert "WebSocket channel 'plain' has this port without TLS" in problem

    def test_a_channel_may_change_to_tls_where_it_is(
        self, worker: OneWorker, connect: Connect, address: str, secure: str
    ) -> None:
        given, key = certificate()
        worker.create(CHANNEL, "ws", address=address, service="t.echo")
        client = connect(address)
        worker.edit(CHANNEL, "ws", address=secure, tls_certificate=given, tls_key=key)
        assert client.closed() == 1012
        assert not list(worker.problems())
        connect(secure, tls_verify=False).log_in()


class TestChanges:
    def test_an_unrelated_change_drops_nobody_and_holds_at_once(
        self, worker: OneWorker, connect: Connect, channel: str
    ) -> None:
        client = connect(channel)
        client.log_in()
        worker.edit(CHANNEL, "ws", name="renamed", ping_interval=5, token_ttl=60, service="t.seen")
        assert client.ask()["data"]["channel"] == "renamed"
        assert worker.metric("junctor_websocket_connections", channel="renamed") == 1
        assert worker.metric("junctor_websocket_connections", channel="ws") == 0

    def test_another_address_has_the_clients_come_back_there(
        self, worker: OneWorker, connect: Connect, channel: str
    ) -> None:
        client = connect(channel)
        client.log_in()
        moved = f"ws://{LOOPBACK}:{free_port()}/moved"
        worker.edit(CHANNEL, "ws", address=moved)
        connect(moved).log_in()
        assert client.closed() == 1012
        eventually(lambda: not listens(channel))

    def test_another_path_is_another_address(self, worker: OneWorker, connect: Connect, channel: str) -> None:
        client = connect(channel)
        worker.edit(CHANNEL, "ws", address=f"{channel}/moved")
        assert client.closed() == 1012
        assert http(channel)[0] == 404
        connect(f"{channel}/moved").log_in()

    def test_two_channels_may_change_places(self, worker: OneWorker, connect: Connect, address: str) -> None:
        worker.create(CHANNEL, "a", address=f"{address}/1", service="t.seen")
        worker.create(CHANNEL, "b", address=f"{address}/2", service="t.seen")
        worker.edit(CHANNEL, "a", address=f"{address}/2")
        worker.edit(CHANNEL, "b", address=f"{address}/1")
        client = connect(f"{address}/1")
        client.log_in()
        assert client.ask()["data"]["channel"] == "b"

    @pytest.mark.parametrize("how", ["off", "gone"])
    def test_a_channel_that_is_switched_off_or_deleted_has_no_clients(
        self, worker: OneWorker, connect: Connect, channel: str, how: str
    ) -> None:
        clients = [connect(channel) for _ in range(3)]
        clients[0].log_in()
        if how == "off":
            worker.edit(CHANNEL, "ws", is_active=False)
        else:
            worker.delete(CHANNEL, "ws")
        assert [client.closed() for client in clients] == [1001, 1001, 1001]
        eventually(lambda: not listens(channel))
        assert not worker.context.clients.sessions()

    def test_a_channel_may_be_switched_on_again(
        self, worker: OneWorker, connect: Connect, channel: str
    ) -> None:
        worker.edit(CHANNEL, "ws", is_active=False)
        worker.edit(CHANNEL, "ws", is_active=True)
        connect(channel).log_in()


class TestCredentials:
    @pytest.fixture
    def client(self, worker: OneWorker, connect: Connect, address: str) -> ChannelClient:
        """Somebody who has logged in with a user name and a password."""
        worker.create(BASIC, "crm", username="crm", password="right")
        worker.create(CHANNEL, "ws", address=address, service="t.echo", security="crm")
        client = connect(address)
        assert client.log_in("crm", "right")["data"]["token"]
        return client

    def test_a_changed_password_ends_sessions(self, worker: OneWorker, client: ChannelClient) -> None:
        worker.edit(BASIC, "crm", password="new")
        assert is_refusal(client.receive())
        assert client.closed() == 1008

    def test_a_change_that_is_no_other_password_ends_none(
        self, worker: OneWorker, client: ChannelClient
    ) -> None:
        worker.edit(BASIC, "crm", realm="Another", name="renamed")
        judged(worker)
        assert client.ask(1)["data"] == 1

    def test_a_definition_that_is_switched_off_ends_sessions(
        self, worker: OneWorker, client: ChannelClient
    ) -> None:
        worker.edit(BASIC, "crm", is_active=False)
        assert is_refusal(client.receive())

    def test_a_definition_that_is_deleted_ends_sessions(
        self, worker: OneWorker, client: ChannelClient
    ) -> None:
        worker.delete(BASIC, "crm")
        assert is_refusal(client.receive())

    def test_another_definition_ends_sessions_whose_credentials_it_does_not_know(
        self, worker: OneWorker, client: ChannelClient
    ) -> None:
        worker.create(BASIC, "same", username="crm", password="right")
        worker.create(BASIC, "other", username="other", password="right")
        worker.edit(CHANNEL, "ws", security="same")
        judged(worker)
        assert client.ask(1)["data"] == 1
        worker.edit(CHANNEL, "ws", security="other")
        assert is_refusal(client.receive())

    def test_a_channel_that_is_open_to_all_from_now_on_ends_none(
        self, worker: OneWorker, client: ChannelClient
    ) -> None:
        worker.edit(CHANNEL, "ws", security=None)
        judged(worker)
        assert client.ask(1)["data"] == 1

    def test_a_channel_that_was_open_to_all_ends_sessions_without_credentials(
        self, worker: OneWorker, connect: Connect, channel: str
    ) -> None:
        worker.create(BASIC, "crm", username="crm", password="right")
        client = connect(channel)
        client.log_in("crm", "right")
        worker.edit(CHANNEL, "ws", security="crm")
        assert is_refusal(client.receive())


class TestStopping:
    def test_idle_clients_are_told_to_come_back(
        self, worker: OneWorker, connect: Connect, channel: str
    ) -> None:
        clients = [connect(channel) for _ in range(5)]
        for client in clients[1:]:
            client.log_in()
        worker.context.websockets.drain()
        assert {client.closed() for client in clients} == {1012}
        worker.stop()
        assert not listens(channel)

    def test_requests_that_run_are_answered_first_and_new_ones_are_refused(
        self, worker: OneWorker, connect: Connect, address: str
    ) -> None:
        go_on = Event()

        class Slow(Service):
            name = "t.slow"

            def handle(self) -> None:
                go_on.wait()
                self.response.payload = "done"

        client = busy_client(worker, connect, address, Slow)
        worker.context.websockets.drain()
        (group,) = worker.context.websockets.groups
        eventually(lambda: all(session._is_draining for session in group.all()))
        assert client.ask()["meta"]["status"] == 503
        go_on.set()
        assert client.receive()["data"] == "done"
        assert client.closed() == 1012

    def test_what_does_not_end_is_cut_off_in_time(
        self, worker: OneWorker, connect: Connect, address: str
    ) -> None:
        class Endless(Service):
            name = "t.endless"

            def handle(self) -> None:
                Event().wait()

        client = busy_client(worker, connect, address, Endless)
        (group,) = worker.context.websockets.groups
        worker.stop()
        assert client.closed() == 1006
        assert not len(group)


def busy_client(worker: OneWorker, connect: Connect, address: str, service: type[Service]) -> ChannelClient:
    """A client whose request to a service is under way."""
    worker.deploy(service)
    worker.create(CHANNEL, "ws", address=address, service=service.name)
    client = connect(address)
    client.log_in()
    client.message("invoke-service", {})
    (group,) = worker.context.websockets.groups
    eventually(lambda: group.busy.count)
    return client


def judged(worker: OneWorker) -> None:
    """Returns once every session has been looked at under the configuration as it is now."""
    (group,) = worker.context.websockets.groups
    eventually(lambda: group._judged_by == group._judges())
