"""The client, against a real server."""

import json
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import ExitStack
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from email.utils import format_datetime
from ipaddress import ip_address
from uuid import UUID

import junctor_client
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from junctor_client import (
    BadRequest,
    Client,
    ClientError,
    Conflict,
    ConnectionFailed,
    Forbidden,
    GatewayTimeout,
    HTTPError,
    InvalidResponse,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    ServerError,
    ServiceUnavailable,
    Timeout,
    TooManyRequests,
    Unauthorized,
    retry,
    transport,
)

CID = "c1d0c1d0c1d0c1d0c1d0c1d0"


# What is sent


def test_a_channel_is_called(connect, server, reply):
    server.reply = lambda asked, handler: reply(201, {"a": 1}, {"X-A": "b"})
    response = connect().call("/orders", {"id": 7}, params={"q": "a b", "n": [1, 2]}, headers={"X-B": "c"})
    [asked] = server.asked
    assert (asked.method, asked.path, json.loads(asked.body)) == ("POST", "/orders?q=a+b&n=1&n=2", {"id": 7})
    assert (asked.headers["Content-Type"], asked.headers["X-B"]) == ("application/json", "c")
    assert (response.status, response.data, response.cid, response.headers["x-a"]) == (
        201,
        {"a": 1},
        CID,
        "b",
    )


@pytest.mark.parametrize("method", ["GET", "put", "PATCH", "delete"])
def test_the_method_is_free(connect, server, method):
    connect().call("/orders/7", method=method)
    assert (server.asked[0].method, server.asked[0].body) == (method.upper(), b"")


@pytest.mark.parametrize(
    ("data", "body", "content_type"),
    [
        (None, b"", None),
        ("żółw", "żółw".encode(), None),
        (b"\xff", b"\xff", None),
        ([], b"[]", "application/json"),
        (False, b"false", "application/json"),
        (0, b"0", "application/json"),
        ({"é": None}, '{"é": null}'.encode(), "application/json"),
    ],
)
def test_text_and_bytes_are_sent_as_they_are_and_anything_else_as_json(
    connect, server, data, body, content_type
):
    connect().call("/x", data)
    assert (server.asked[0].body, server.asked[0].headers["Content-Type"]) == (body, content_type)


def test_a_content_type_of_the_caller_wins(connect, server):
    connect().call("/x", {}, headers={"Content-Type": "application/hal+json"})
    assert server.asked[0].headers["Content-Type"] == "application/hal+json"


def test_dates_decimals_and_ids_are_written_without_loss(connect, server):
    values = [datetime(2026, 1, 2, 3, tzinfo=UTC), date(2026, 1, 2), time(3, 4), Decimal("1.10"), UUID(int=1)]
    connect().invoke("x", values)
    expected = ["2026-01-02T03:00:00+00:00", "2026-01-02", "03:04:00", "1.10", str(UUID(int=1))]
    assert json.loads(server.asked[0].body) == expected


def test_a_service_is_invoked_by_its_name(connect, server, reply):
    server.reply = lambda asked, handler: reply(data=[1])
    response = connect().invoke("my service/v1.get", {"id": 7})
    [asked] = server.asked
    assert (asked.method, asked.path) == ("POST", "/zato/api/invoke/my%20service%2Fv1.get")
    assert (json.loads(asked.body), asked.headers["Content-Type"]) == ({"id": 7}, "application/json")
    assert response.data == [1]


def test_a_service_without_input_gets_an_empty_object(connect, server):
    connect().invoke("x")
    assert server.asked[0].body == b"{}"


@pytest.mark.parametrize("data", [{"a": object()}, {1, 2}, {"a": float("nan")}])
def test_what_json_cannot_express_is_not_sent(connect, server, data):
    with pytest.raises((TypeError, ValueError)):
        connect().call("/x", data)
    assert not server.asked


def test_a_path_needs_its_slash(connect):
    with pytest.raises(ValueError, match="starts with '/'"):
        connect().call("http://elsewhere.example/")


def test_a_header_with_a_line_break_is_not_sent_nor_repeated(connect, server):
    with pytest.raises(ValueError, match="cannot be sent") as error:
        connect().call("/x", headers={"X-A": "hunter2\r\nX-B: c"})
    assert "hunter2" not in str(error.value)
    assert not server.asked


@pytest.mark.parametrize("address", ["", "junctor", "ftp://a", "http://", "http://a/?b=c", "http://a/#b"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(ValueError, match="a URL such as"):
        Client(address)


def test_credentials_in_an_address_are_refused_without_repeating_them():
    with pytest.raises(ValueError, match="not in the address") as error:
        Client("http://joe:hunter2@a")
    assert "hunter2" not in str(error.value)


# Credentials


def test_basic_auth_is_sent(connect, server):
    connect(username="joe", password="pä:ss").call("/x")
    assert server.asked[0].credentials == ("joe", "pä:ss")


def test_an_api_key_is_sent(connect, server):
    connect(api_key="k1").call("/x")
    connect(api_key="k2", api_key_header="X-Other").call("/x")
    assert [server.asked[0].headers["X-API-Key"], server.asked[1].headers["X-Other"]] == ["k1", "k2"]


def test_both_kinds_of_credentials_are_one_too_many():
    with pytest.raises(ValueError, match="but not both"):
        Client("http://a", username="joe", api_key="k")


def test_secrets_are_not_in_the_text_of_a_client():
    assert repr(Client("http://a/", username="joe", password="hunter2")) == "<Client http://a as joe>"
    assert repr(Client("http://a", api_key="hunter2")) == "<Client http://a>"


def test_a_netrc_file_is_not_read(connect, server, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login joe password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    connect().call("/x")
    assert "Authorization" not in server.asked[0].headers


def test_cookies_are_not_carried_from_one_call_to_the_next(connect, server, reply):
    server.reply = lambda asked, handler: reply(headers={"Set-Cookie": "session=1"})
    client = connect()
    client.call("/x")
    client.call("/x")
    assert "Cookie" not in server.asked[1].headers


# What comes back


@pytest.mark.parametrize(
    ("body", "content_type", "data"),
    [
        (b'{"a": 1}', "application/json", {"a": 1}),
        (b'{"a": 1}', "application/hal+json; charset=utf-8", {"a": 1}),
        (b'{"a": 1}', "text/plain", '{"a": 1}'),
        ("żółw".encode(), "text/plain; charset=utf-8", "żółw"),
        (b"", "application/json", None),
        (b"null", "application/json", None),
    ],
)
def test_data_is_what_the_content_type_says(connect, server, reply, body, content_type, data):
    server.reply = lambda asked, handler: reply(200, body, {"Content-Type": content_type})
    assert connect().call("/x").data == data


def test_json_that_is_none_is_an_error(connect, server, reply):
    server.reply = lambda asked, handler: reply(200, b"<html>", {"Content-Type": "application/json"})
    with pytest.raises(InvalidResponse) as error:
        connect().call("/x")
    assert (error.value.status, error.value.cid) == (200, CID)


def test_a_response_that_is_too_large_is_not_read(connect, server, reply, monkeypatch):
    monkeypatch.setattr(transport, "MAX_RESPONSE_SIZE", 100_000)
    server.reply = lambda asked, handler: reply(200, 200_000 * b"x")
    with pytest.raises(InvalidResponse, match="more than 100000 bytes"):
        connect().call("/x")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, HTTPError),
        (400, BadRequest),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (405, MethodNotAllowed),
        (409, Conflict),
        (413, PayloadTooLarge),
        (418, HTTPError),
        (429, TooManyRequests),
        (500, ServerError),
        (503, ServiceUnavailable),
        (504, GatewayTimeout),
        (599, ServerError),
    ],
)
def test_a_status_is_an_error_of_its_own(connect, server, reply, status, kind):
    server.reply = lambda asked, handler: reply(status, {"result": "Error", "cid": "x", "details": "Why"})
    with pytest.raises(ClientError) as error:
        connect().call("/x")
    assert type(error.value) is kind
    assert (error.value.status, error.value.cid, error.value.details) == (status, CID, "Why")
    assert str(error.value).startswith(str(status))
    assert str(error.value).endswith(f": Why (cid {CID})")
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("data", "details"),
    [
        ({"result": "Error", "cid": "b", "details": "Why"}, "Why"),
        ({"result": "Error", "cid": "b"}, ""),
        ({"zato_env": {"result": "ZATO_ERROR", "cid": "b", "details": "Why"}}, "Why"),
        ({"zato_env": {"result": "ZATO_ERROR", "cid": "b", "details": ["a"]}}, ["a"]),
        (b"<html>Bad Gateway", "<html>Bad Gateway"),
        ({"message": "no"}, '{"message": "no"}'),
        ({"zato_env": 1}, '{"zato_env": 1}'),
        ([1], "[1]"),
        (5000 * b"x", 1000 * "x"),
        (b"", ""),
    ],
)
def test_details_are_what_the_body_says(connect, server, reply, data, details):
    server.reply = lambda asked, handler: reply(500, data)
    with pytest.raises(ServerError) as error:
        connect().call("/x")
    assert error.value.details == details


def test_the_cid_is_taken_from_the_body_without_its_header(connect, server, reply):
    answer = {"result": "Error", "cid": "b", "details": ""}
    server.reply = lambda asked, handler: reply(500, answer, {"X-Zato-CID": ""})
    with pytest.raises(ServerError) as error:
        connect().call("/x")
    assert error.value.cid == "b"


def test_errors_form_one_tree():
    errors = [getattr(junctor_client, name) for name in junctor_client.__all__]
    errors = [item for item in errors if isinstance(item, type) and issubclass(item, Exception)]
    assert len(errors) == 16
    assert all(issubclass(item, ClientError) for item in errors)


# No response, and repetitions


@pytest.fixture
def waits(monkeypatch):
    """The waits between repetitions, which are not made."""
    made = []
    monkeypatch.setattr("time.sleep", made.append)
    return made


def hang_up(handler):
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def test_a_refused_connection_is_tried_again_for_any_method(waits):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with Client(address) as client, pytest.raises(ConnectionFailed) as error:
            client.call("/x", "hunter2", params={"q": "hunter2"})
    assert str(error.value) == f"POST {address}/x: connection refused"
    assert (error.value.status, error.value.cid, error.value.details) == (0, "", "connection refused")
    assert error.value.__suppress_context__  # the errors underneath have the whole address
    assert [0.05 <= waits[0] <= 0.1, 0.1 <= waits[1] <= 0.2, len(waits)] == [True, True, 2]


def test_a_host_that_does_not_exist_says_so():
    with pytest.raises(ConnectionFailed, match="host name cannot be resolved"):
        Client("http://nowhere.invalid", retries=0).call("/x")


@pytest.mark.parametrize(
    ("method", "idempotent", "sent"),
    [
        ("GET", None, 3),
        ("PUT", None, 3),
        ("DELETE", None, 3),
        ("GET", False, 1),
        ("POST", None, 1),
        ("PATCH", None, 1),
        ("POST", True, 3),
    ],
)
def test_a_closed_connection_is_tried_again_only_if_that_does_no_harm(
    connect, server, waits, method, idempotent, sent
):
    server.reply = lambda asked, handler: hang_up(handler)
    with pytest.raises(ConnectionFailed, match="the server closed the connection"):
        connect().call("/x", method=method, idempotent=idempotent)
    assert len(server.asked) == sent


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("method", "retry_after", "sent"),
    [
        ("GET", "0", 3),
        ("GET", "3", 3),
        ("GET", None, 1),
        ("GET", "11", 1),
        ("GET", "soon", 1),
        ("GET", "-1", 1),
        ("POST", "0", 1),
    ],
)
def test_a_server_may_ask_for_a_repetition(connect, server, reply, waits, status, method, retry_after, sent):
    headers = {"Retry-After": retry_after} if retry_after is not None else {}
    server.reply = lambda asked, handler: reply(status, b"", headers)
    with pytest.raises(HTTPError):
        connect().call("/x", method=method)
    assert len(server.asked) == sent
    assert waits == (2 * [float(retry_after)] if sent == 3 else [])


def test_a_server_may_name_the_time_of_a_repetition(connect, server, reply, waits):
    headers = {"Retry-After": format_datetime(datetime.now(UTC) - timedelta(hours=1))}
    server.reply = lambda asked, handler: (
        reply(503, b"", headers) if len(server.asked) == 1 else reply(data=1)
    )
    assert connect().invoke("x", idempotent=True).data == 1
    assert waits == [0]


@pytest.fixture
def full():
    """The address of a server whose queue of new connections is full."""
    with socket.socket() as listening, ExitStack() as queued:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            waiting = queued.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_server_that_takes_no_connection_is_given_up(full, waits):
    with Client(full, timeout=0.1) as client, pytest.raises(Timeout, match=r"no connection within 0\.1 s"):
        client.call("/x")
    assert len(waits) == 2  # nothing was sent, so it was tried again


def test_a_time_out_is_not_repeated(connect, server):
    done = threading.Event()
    server.reply = lambda asked, handler: (done.wait(10), hang_up(handler))[1]
    with pytest.raises(Timeout, match=r"GET .*/x: no answer within 0\.2 s"):
        connect().call("/x", method="GET", timeout=0.2)
    done.set()
    assert len(server.asked) == 1


def test_a_response_that_stops_is_a_time_out(connect, server):
    done = threading.Event()

    def stop(asked, handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x")
        done.wait(10)
        handler.close_connection = True

    server.reply = stop
    with pytest.raises(Timeout):
        connect(timeout=0.2).call("/x")
    done.set()


def test_a_response_that_breaks_off_is_a_failure(connect, server):
    def break_off(asked, handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        hang_up(handler)

    server.reply = break_off
    with pytest.raises(ConnectionFailed, match="the server closed the connection"):
        connect().call("/x")


def test_waits_are_bounded():
    error = retry.urllib3.exceptions.NewConnectionError(None, "refused")
    assert retry.wait_after_failure(error, 1000, idempotent=False) == retry.MAX_WAIT


# TLS


@pytest.fixture
def tls(server, tmp_path):
    """The address of a server with a certificate of its own, and the file that it is in."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    file = tmp_path / "server.pem"
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(private + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server.address.replace("http:", "https:"), str(file)


def test_a_certificate_that_is_not_trusted_is_an_error(tls, server):
    with (
        Client(tls[0]) as client,
        pytest.raises(ConnectionFailed, match="certificate is not valid: self-signed"),
    ):
        client.call("/x")
    assert not server.asked


def test_a_certificate_can_be_trusted(tls):
    with Client(tls[0], verify=tls[1]) as client:
        assert client.call("/x").status == 200


# Sharing


def test_threads_share_a_client(connect, server, reply):
    server.reply = lambda asked, handler: reply(data=json.loads(asked.body))
    client, wrong = connect(), []

    def call(number):
        for turn in range(10):
            if client.invoke("x", [number, turn]).data != [number, turn]:
                wrong.append((number, turn))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(server.asked), wrong) == (50, [])


def test_calls_share_a_connection(connect, server):
    client = connect()
    for _ in range(3):
        client.call("/x")
    assert len({asked.connection for asked in server.asked}) == 1


def test_a_closed_client_can_be_used_again(connect, server):
    client = connect()
    client.call("/x")
    client.close()
    client.close()
    client.call("/x")
    assert len({asked.connection for asked in server.asked}) == 2


FORKED = """
import os, sys
from junctor_client import Client
client = Client(sys.argv[1])
client.call("/x")
if (child := os.fork()) == 0:
    client.call("/x")
    os._exit(0)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
client.call("/x")
sys.exit(status)
"""


def test_a_forked_process_does_not_use_the_sockets_of_its_parent(server):
    # In a process of its own, since this one has threads.
    done = subprocess.run([sys.executable, "-c", FORKED, server.address], timeout=30, check=False)
    first, forked, last = (asked.connection for asked in server.asked)
    assert done.returncode == 0
    assert first == last != forked
