"""The WebSocket client, against a real server."""

from __future__ import annotations

import json
import logging
import ssl
import subprocess
import sys
import threading
from datetime import date
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from junctor_client import (
    BadRequest,
    ClientError,
    ConnectionFailed,
    Forbidden,
    HTTPError,
    NotFound,
    ServerError,
    ServiceUnavailable,
    Timeout,
    websocket_link,
)
from junctor_client.websocket import Message, WebSocketClient

from tests.helpers.ports import free_port
from tests.helpers.waiting import wait_until
from tests.helpers.websocket_channel import CID, PASSWORD, Channel, failure, refusal, running_channel


@pytest.fixture
def channel():
    with running_channel() as made:
        yield made


@pytest.fixture
def client_of(channel):
    made = []

    def make(**options):
        options = {"username": "shop", "password": PASSWORD, "timeout": 5} | options
        made.append(WebSocketClient(options.pop("address", "") or channel.address, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """Waits between attempts to connect are as short as can be."""
    monkeypatch.setattr(websocket_link, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(websocket_link, "LAST_WAIT", 0.05)


# What is sent and what comes back


def test_a_service_is_called_and_its_response_returned(client_of, channel):
    with client_of(client_id="crm.1", client_name="CRM", attributes={"branch": "7"}) as client:
        assert client.invoke({"a": [1, "ż"]}) == {"a": [1, "ż"]}
    [log_in], [invocation] = channel.log_ins, channel.invocations
    assert (
        log_in["meta"].items()
        >= {
            "action": "create-session",
            "client_id": "crm.1",
            "client_name": "CRM",
            "username": "shop",
            "secret": PASSWORD,
            "token": None,
            "attrs": {"branch": "7"},
        }.items()
    )
    assert (
        invocation["meta"].items()
        >= {
            "action": "invoke-service",
            "client_id": "crm.1",
            "token": f"ws.token.{CID}",
        }.items()
    )
    assert invocation["data"] == {"a": [1, "ż"]}
    assert invocation["meta"]["id"] != log_in["meta"]["id"]
    assert len(invocation["meta"]["timestamp"]) == len("2018-11-16T15:53:25.717215")
    assert PASSWORD not in json.dumps(channel.invocations)


def test_a_service_is_called_by_its_name_through_a_gateway(client_of, channel):
    client = client_of()
    client.invoke_service("orders.get", {"order_id": 7, "day": date(2026, 11, 24)})
    client.invoke_service("zato.ping")
    assert [message["data"] for message in channel.invocations] == [
        {"service": "orders.get", "request": {"order_id": 7, "day": "2026-11-24"}},
        {"service": "zato.ping", "request": {}},
    ]


@pytest.mark.parametrize("data", ["text", [1], 5, True, None])
def test_responses_are_what_json_says_and_none_when_empty(client_of, channel, data):
    channel.answer = lambda message: {"meta": ok_head(message), "data": data}
    assert client_of().invoke() == data


def ok_head(message):
    return {"id": CID, "msg_type": "zwsx.rspok", "status": 200, "in_reply_to": message["meta"]["id"]}


def test_data_that_json_cannot_express_is_an_error_before_anything_is_sent(client_of, channel):
    client = client_of()
    client.connect()
    for wrong in (object(), float("nan"), {"a": {1, 2}}):
        with pytest.raises((TypeError, ValueError)):
            client.invoke(wrong)
    assert channel.invocations == []


def test_threads_share_a_client_and_answers_may_come_in_any_order(client_of, channel):
    waiting, lock = [], threading.Lock()

    def answer(message):
        with lock:
            waiting.append(message)
            if len(waiting) < 10:
                return
            for late in reversed(waiting):
                channel.connections[-1].send(json.dumps({"meta": ok_head(late), "data": late["data"]}))
        return

    channel.answer = answer
    client, back = client_of(), {}
    threads = [
        threading.Thread(target=lambda n=n: back.update({n: client.invoke({"n": n})})) for n in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert back == {n: {"n": n} for n in range(10)}
    assert len(channel.log_ins) == 1


def test_pings_of_the_server_are_answered(client_of, channel):
    client = client_of()
    client.connect()
    assert channel.connections[0].ping().wait(10)


# Errors


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, BadRequest), (403, Forbidden), (404, NotFound), (500, ServerError), (503, ServiceUnavailable)],
)
def test_a_status_is_an_error_of_its_own(client_of, channel, status, kind):
    channel.answer = lambda message: failure(message, status, "Why")
    with pytest.raises(HTTPError) as error:
        client_of().invoke()
    assert type(error.value) is kind
    assert (error.value.status, error.value.details, error.value.cid) == (status, "Why", CID)
    assert str(error.value) == f"{status} from {channel.address}: Why (cid {CID})"


def test_wrong_credentials_are_forbidden_and_not_tried_again(client_of, channel):
    client = client_of(password="wrong")
    for _ in range(2):
        with pytest.raises(Forbidden, match="not authorized") as error:
            client.connect()
        assert error.value.status == 403
        assert "wrong" not in f"{error.value}{client!r}"
    assert not client.is_connected
    assert len(channel.log_ins) == 2


def test_a_call_with_wrong_credentials_fails_at_once(client_of):
    with pytest.raises(Forbidden, match="not authorized"):
        client_of(password="wrong", timeout=30).invoke()


def test_a_server_that_is_not_there_is_an_error():
    address = f"ws://127.0.0.1:{free_port()}/ws"
    client = WebSocketClient(address, timeout=5)
    with pytest.raises(ConnectionFailed) as error:
        client.connect()
    assert str(error.value) == f"{address}: connection refused"
    assert (error.value.status, error.value.cid) == (0, "")
    with pytest.raises(ConnectionFailed, match="host name cannot be resolved"):
        WebSocketClient("ws://nowhere.invalid/").connect()


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (403, Forbidden), (503, ServiceUnavailable)])
def test_a_server_that_refuses_the_handshake_says_why(client_of, channel, status, kind):
    def refuse(connection, request):
        answer = connection.respond(status, json.dumps({"result": "Error", "cid": CID, "details": "Why"}))
        answer.headers["X-Zato-CID"] = CID
        return answer

    channel.process_request = refuse
    with pytest.raises(HTTPError) as error:
        client_of().connect()
    assert (type(error.value), error.value.details, error.value.cid) == (kind, "Why", CID)


def test_credentials_are_not_sent_where_the_server_redirects_to(client_of, channel):
    def redirect(connection, request):
        answer = connection.respond(302, "")
        answer.headers["Location"] = elsewhere.address
        return answer

    with running_channel() as elsewhere:
        channel.process_request = redirect
        with pytest.raises(ConnectionFailed, match=f"the server sends us to 127.0.0.1:{elsewhere.port}"):
            client_of().connect()
        assert elsewhere.log_ins == []


def test_a_server_that_does_not_answer_is_a_time_out(client_of, channel):
    channel.answer = lambda message: None
    client = client_of()
    with pytest.raises(Timeout, match=r"no answer within 0\.05 s"):
        client.invoke(timeout=0.05)
    channel.log_in = lambda message, connection: None
    with pytest.raises(Timeout, match=r"no session within 0\.1 s"):
        client_of(timeout=0.1).connect()


def test_a_late_answer_is_nobodys(client_of, channel):
    channel.answer = lambda message: None
    client = client_of()
    with pytest.raises(Timeout):
        client.invoke(timeout=0.05)
    late = channel.invocations[0]
    channel.connections[-1].send(json.dumps({"meta": ok_head(late), "data": "late"}))
    channel.answer = lambda message: "in time"
    assert client.invoke() == "in time"


def test_a_connection_that_is_lost_before_the_answer_is_an_error(client_of, channel):
    channel.answer = lambda message: channel.connections[-1].close(1012, "The server is stopping")
    with pytest.raises(ConnectionFailed, match=r"lost before there was an answer: The server is stopping"):
        client_of().invoke()


@pytest.mark.parametrize(
    "wrong", ["http://host/", "host", "ws://", "ws://user:password@host/", "ws://host/#part"]
)
def test_an_address_is_that_of_a_websocket_without_credentials(wrong):
    with pytest.raises(ValueError, match="address"):
        WebSocketClient(wrong)


# Connecting again


def test_a_lost_connection_is_made_again_as_the_same_client(client_of, channel):
    happened = []
    client = client_of(
        on_connect=lambda client: happened.append(client.invoke("hello")),
        on_close=lambda code, reason: happened.append((code, reason)),
    )
    client.connect()
    wait_until(lambda: happened, 10, "on_connect was not called")
    channel.connections[-1].close(1012, "restart")
    wait_until(lambda: len(happened) == 3, 10, "The connection was not made again")
    assert happened == ["hello", (1012, "restart"), "hello"]
    first, second = channel.log_ins
    assert first["meta"]["client_id"] == second["meta"]["client_id"] == client.client_id
    assert client.invoke("again") == "again"


def test_calls_wait_while_the_connection_is_made_again(client_of, channel):
    client = client_of()
    client.connect()
    port = channel.port
    channel.stop()
    wait_until(lambda: not client.is_connected, 10, "The client has not noticed")
    called = []
    caller = threading.Thread(target=lambda: called.append(client.invoke("waits")))
    caller.start()
    channel.start(port)
    caller.join(10)
    assert called == ["waits"]


def test_a_call_while_the_server_is_gone_says_so(client_of, channel):
    client = client_of()
    client.connect()
    channel.stop()
    wait_until(lambda: not client.is_connected, 10, "The client has not noticed")
    with pytest.raises(Timeout, match=r"not connected within 0\.3 s: "):
        client.invoke(timeout=0.3)


def test_a_client_can_start_before_its_server(client_of):
    channel, port = Channel(), free_port()
    client = client_of(address=f"ws://127.0.0.1:{port}/ws")
    client.start()
    with pytest.raises(ConnectionFailed, match="connection refused"):
        client.invoke()
    channel.start(port)
    wait_until(lambda: client.is_connected, 10, "The client did not connect")
    assert client.invoke(1) == 1
    client.close()
    channel.stop()


def test_a_session_that_the_server_ends_is_made_again(client_of, channel):
    closed = []
    client = client_of(on_close=lambda code, reason: closed.append((code, reason)))
    client.connect()
    channel.connections[-1].send(json.dumps(refusal()))
    channel.connections[-1].close(1008)
    wait_until(lambda: len(channel.log_ins) == 2, 10, "There is no second session")
    assert closed == [(1008, "You are not authorized to access this resource")]
    assert client.invoke(1) == 1


@pytest.mark.parametrize(
    "garbage", ["x", "[]", "{}", '{"meta": []}', '{"meta": {}}', '{"meta": {"status": "x"}}']
)
def test_what_no_channel_sends_ends_the_connection(client_of, channel, caplog, garbage):
    client = client_of()
    client.connect()
    channel.connections[-1].send(garbage)
    wait_until(lambda: len(channel.log_ins) == 2, 10, "The connection was not made again")
    assert client.invoke(1) == 1
    assert "A message is not what WebSocket channels send" in caplog.text


def test_a_message_that_is_too_large_ends_the_connection(client_of, channel):
    client = client_of(max_message_size=1000)
    client.connect()
    channel.push("x" * 1001)
    wait_until(lambda: len(channel.log_ins) == 2, 10, "The connection was not made again")


def test_without_reconnecting_a_lost_connection_remains_so_until_connect(client_of, channel):
    client = client_of(reconnect=False)
    client.connect()
    channel.connections[-1].close(1012, "restart")
    wait_until(lambda: not client.is_connected, 10, "The client has not noticed")
    with pytest.raises(ConnectionFailed, match="the connection is closed: restart"):
        client.invoke()
    client.connect()
    assert client.invoke(1) == 1


def test_waits_grow_and_are_bounded(monkeypatch):
    monkeypatch.undo()
    assert 0.125 <= websocket_link.wait_before(0) <= 0.25
    assert 1 <= websocket_link.wait_before(3) <= 2
    assert 15 <= websocket_link.wait_before(10_000) <= 30


def test_what_keeps_a_client_from_connecting_is_logged_once(client_of, caplog):
    client = client_of(address=f"ws://127.0.0.1:{free_port()}/ws")
    with caplog.at_level(logging.DEBUG, "junctor_client.websocket"):
        client.start()
        wait_until(lambda: len(caplog.records) > 2, 10, "It is not tried again")
    assert [record.levelname for record in caplog.records][:3] == ["WARNING", "DEBUG", "DEBUG"]


# Messages of the server


def test_what_on_message_returns_is_the_answer(client_of, channel):
    seen = []

    def on_message(message):
        seen.append(message)
        return {"got": message.data}

    client_of(on_message=on_message, client_name="CRM", client_id="crm.1").connect()
    channel.push({"a": 1}, "r7", ctx={"reply_to_sk": ["zpsk.1"]})
    [response] = channel.wait_for_responses(1)
    assert response["data"] == {"response": {"got": {"a": 1}}}
    expected = {"in_reply_to": "r7", "token": f"ws.token.{CID}", "client_id": "crm.1", "client_name": "CRM"}
    assert response["meta"].items() >= expected.items()
    assert seen == [Message("r7", "2026-11-24T10:00:00.000000", {"a": 1}, {"reply_to_sk": ["zpsk.1"]})]


def test_messages_are_handled_in_their_order_and_may_call_the_server(client_of, channel):
    client = client_of(on_message=lambda message: client.invoke(message.data))
    client.connect()
    for number in range(20):
        channel.push(number, f"r{number}")
    responses = channel.wait_for_responses(20)
    assert [response["meta"]["in_reply_to"] for response in responses] == [f"r{n}" for n in range(20)]
    assert [response["data"]["response"] for response in responses][1:] == list(range(1, 20))


def test_a_message_whose_callback_fails_has_no_answer_and_the_next_one_has(client_of, channel, caplog):
    def on_message(message):
        return {"raises": 1 / 0} if message.data == "fails" else object() if message.data == "no JSON" else 1

    client_of(on_message=on_message).connect()
    for data in ("fails", "no JSON", "fine"):
        channel.push(data, data)
    [response] = channel.wait_for_responses(1)
    assert response["meta"]["in_reply_to"] == "fine"
    assert "division by zero" in caplog.text
    assert "JSON has no form for object" in caplog.text


def test_a_message_that_nobody_waits_for_is_logged(client_of, channel, caplog):
    client = client_of()
    client.connect()
    channel.push("x", "r9")
    wait_until(lambda: "Message r9 was not answered" in caplog.text, 10, "It was not logged")
    assert client.invoke(1) == 1


def test_messages_that_are_not_handled_yet_keep_the_server_waiting(client_of, channel, monkeypatch):
    monkeypatch.setattr(websocket_link, "MAX_WAITING", 5)
    go_on = threading.Event()
    client_of(on_message=lambda message: go_on.wait(20)).connect()
    for number in range(50):
        channel.push(number, f"r{number}")
    assert channel.responses == []
    go_on.set()
    assert len(channel.wait_for_responses(50)) == 50


# Closing


def test_a_closed_client_can_be_used_again(client_of, channel):
    client = client_of()
    client.invoke(1)
    client.close()
    client.close()
    assert not client.is_connected
    assert client.invoke(2) == 2
    assert len(channel.log_ins) == 2


def test_a_callback_may_close_its_client(client_of, channel):
    client = client_of(on_message=lambda message: client.close())
    client.connect()
    channel.push(1)
    wait_until(lambda: not client.is_connected, 10, "The client was not closed")
    names = {thread.name for thread in threading.enumerate()}
    wait_until(
        lambda: not any(thread.name.startswith("junctor-websocket") for thread in threading.enumerate()),
        10,
        f"Threads are left: {names}",
    )


def test_run_returns_when_the_client_is_closed(client_of, channel):
    client = client_of()
    running = threading.Thread(target=client.run)
    running.start()
    wait_until(lambda: client.is_connected, 10, "The client did not connect")
    client.close()
    running.join(10)
    assert not running.is_alive()


def test_closing_does_not_wait_for_an_attempt_to_connect_to_come(client_of, monkeypatch):
    monkeypatch.setattr(websocket_link, "FIRST_WAIT", 1000)
    monkeypatch.setattr(websocket_link, "LAST_WAIT", 1000)
    client = client_of(address=f"ws://127.0.0.1:{free_port()}/ws")
    client.start()
    with pytest.raises(ConnectionFailed):
        client.invoke()
    client.close()
    assert not any(thread.name.startswith("junctor-websocket") for thread in threading.enumerate())


# TLS


@pytest.fixture
def tls_channel(tmp_path):
    """A channel with a certificate of its own, and the file that it is in."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(date_of(2020))
        .not_valid_after(date_of(2100))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    file = tmp_path / "server.pem"
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(private + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    channel = Channel()
    channel.start(tls=context)
    yield channel.address.replace("ws:", "wss:"), str(file)
    channel.stop()


def date_of(year):
    from datetime import UTC, datetime

    return datetime(year, 1, 1, tzinfo=UTC)


def test_a_certificate_that_is_not_trusted_is_an_error_unless_it_is_given(client_of, tls_channel):
    address, file = tls_channel
    with pytest.raises(ConnectionFailed, match="certificate is not valid: self-signed"):
        client_of(address=address).connect()
    assert client_of(address=address, verify=file).invoke(1) == 1
    assert client_of(address=address, verify=False).invoke(1) == 1
    with pytest.raises(ConnectionFailed, match="no such file"):
        client_of(address=address, verify="/nowhere.pem").connect()


# Other processes

FORKED = """
import os, sys
from junctor_client.websocket import WebSocketClient
client = WebSocketClient(sys.argv[1], password="hunter2", timeout=10)
assert client.invoke("parent") == "parent"
if (child := os.fork()) == 0:
    assert client.invoke("child") == "child"
    os._exit(0)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert client.invoke("parent again") == "parent again"
client.close()
sys.exit(status)
"""

GREENLETS = """
from gevent import monkey
monkey.patch_all()
import sys
import gevent
from junctor_client.websocket import WebSocketClient
answered = []
def on_message(message):
    answered.append(message.data)
    return client.invoke(message.data)
with WebSocketClient(sys.argv[1], password="hunter2", timeout=10, on_message=on_message) as client:
    calls = [gevent.spawn(client.invoke, number) for number in range(100)]
    gevent.joinall(calls, raise_error=True)
    assert [call.value or 0 for call in calls] == list(range(100))
    assert client.invoke("push me") == "push me"
    with gevent.Timeout(10):
        while not answered:
            gevent.sleep(0.01)
    assert client.invoke("once more") == "once more"
assert answered == ["pushed"]
"""


def run_alone(program: str, channel: Channel) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, channel.address],
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_a_forked_process_has_a_connection_of_its_own(channel):
    run_alone(FORKED, channel)
    assert [message["data"] for message in channel.invocations] == ["parent", "child", "parent again"]
    assert len(channel.log_ins) == 2


def test_greenlets_share_a_client_in_a_patched_process(channel):
    def answer(message):
        if message["data"] == "push me":
            channel.push("pushed")
        return message["data"]

    channel.answer = answer
    run_alone(GREENLETS, channel)
    assert [response["data"] for response in channel.wait_for_responses(1)] == [{"response": "pushed"}]


WITHOUT = """
import sys
sys.modules["websockets"] = None
try:
    import junctor_client.websocket
except ImportError as error:
    assert "pip install 'junctor-client[websocket]'" in str(error), error
else:
    raise AssertionError("It can be imported")
import junctor_client
"""


def test_without_the_library_importing_says_what_to_install(channel):
    run_alone(WITHOUT, channel)


def test_every_error_of_the_client_is_a_client_error():
    assert issubclass(Timeout, ConnectionFailed)
    assert issubclass(ConnectionFailed, ClientError)
