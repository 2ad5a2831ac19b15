"""Outgoing REST connections, against a real server."""

import gzip
import json
import pickle
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from junctor.server.outgoing.rest import (
    ApiKey,
    BasicAuth,
    Bearer,
    RestConfig,
    RestConnection,
    RestConnections,
)
from junctor.sql.errors import (
    ConnectionFailed,
    ConnectionInactive,
    ConnectionNotFound,
    ConnectionTimeout,
    InvalidInput,
)


@pytest.fixture
def connect(server):
    made = []

    def make(security=None, **options):
        options = {"name": "crm", "host": server.address, "timeout": 5} | options
        made.append(RestConnection(RestConfig(**options), lambda: security))
        return made[-1]

    yield make
    for connection in made:
        connection.close()


def refused_port():
    """A port that nobody listens on and nobody gets meanwhile."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    return taken


# What is sent


@pytest.mark.parametrize("method", ["get", "delete", "options"])
def test_a_call_without_a_body_has_its_parameters_in_the_query(connect, server, method):
    getattr(connect(url_path="/orders/{id}").conn, method)(
        "cid1", {"id": 7, "q": "a b", "n": [1, 2], "no": None}
    )
    [asked] = server.asked
    assert (asked.method, asked.path, asked.body) == (method.upper(), "/orders/7?q=a+b&n=1&n=2", b"")


@pytest.mark.parametrize(
    ("call", "method"), [("post", "POST"), ("put", "PUT"), ("patch", "PATCH"), ("send", "POST")]
)
def test_a_call_with_a_body_has_it_as_json(connect, server, call, method):
    data = {"a": [1, None], "when": datetime(2026, 1, 2, tzinfo=UTC), "sum": Decimal("1.10")}
    getattr(connect(url_path="/orders/{id}"), call)("cid1", data, {"id": 7, "q": 1})
    [asked] = server.asked
    assert (asked.method, asked.path) == (method, "/orders/7?q=1")
    assert json.loads(asked.body) == {"a": [1, None], "when": "2026-01-02T00:00:00Z", "sum": "1.10"}
    assert asked.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("data_format", "data", "body"),
    [
        ("json", '{"a":1}', b'{"a":1}'),
        ("json", b"\xff", b"\xff"),
        ("json", [1], b"[1]"),
        ("json", "", b""),
        ("json", None, b""),
        ("form", {"a": [1, 2], "b": "x y"}, b"a=1&a=2&b=x+y"),
        ("", {"a": 1}, b"a=1"),
        ("", "żółw", "żółw".encode()),
    ],
)
def test_data_is_written_in_the_data_format(connect, server, data_format, data, body):
    connect(data_format=data_format).post("cid1", data)
    assert server.asked[0].body == body


@pytest.mark.parametrize(
    ("data_format", "content_type", "expected"),
    [
        ("json", "", "application/json"),
        ("form", "", "application/x-www-form-urlencoded"),
        ("json", "application/hal+json", "application/hal+json"),
        ("", "", None),
    ],
)
def test_the_content_type_follows_the_data_format_or_replaces_it(
    connect, server, data_format, content_type, expected
):
    connect(data_format=data_format, content_type=content_type).post("cid1", "x")
    assert server.asked[0].headers["Content-Type"] == expected


def test_the_usual_headers_are_there(connect, server):
    connect().get("cid1")
    headers = server.asked[0].headers
    assert headers["X-Zato-CID"] == "cid1"
    assert headers["X-Zato-Component"].startswith("parallel/")
    assert datetime.fromisoformat(headers["X-Zato-Msg-TS"]).tzinfo
    assert headers["User-Agent"].startswith("Junctor/")
    assert "Authorization" not in headers


def test_headers_of_the_service_replace_the_usual_ones(connect, server):
    connect().get("cid1", headers={"user-agent": "Me", "X-Number": 1, "X-Nothing": None})
    headers = server.asked[0].headers
    assert (headers.get_all("User-Agent"), headers["X-Number"]) == (["Me"], "1")
    assert "X-Nothing" not in headers


def test_a_header_with_a_line_break_is_not_sent_nor_repeated(connect, server):
    with pytest.raises(ValueError, match="line break") as error:
        connect().get("cid1", headers={"X-A": "hunter2\r\nX-B: c"})
    assert "hunter2" not in str(error.value)
    assert not server.asked


def test_missing_parameters_are_named_before_anything_is_sent(connect, server):
    with pytest.raises(ValueError, match="missing: id"):
        connect(url_path="/orders/{id}").get("cid1")
    assert not server.asked


def test_data_that_json_cannot_express_is_refused(connect):
    with pytest.raises(TypeError):
        connect().post("cid1", {"a": object()})


# Security


def test_basic_auth_is_sent(connect, server):
    connect(BasicAuth("joe", "pässword")).get("cid1", headers={"Authorization": "mine"})
    assert server.asked[0].headers.get_all("Authorization") == ["Basic am9lOnDDpHNzd29yZA=="]


def test_an_api_key_is_sent(connect, server):
    connect(ApiKey("X-API-Key", "k1")).get("cid1")
    assert server.asked[0].headers["X-API-Key"] == "k1"


def test_a_token_is_sent(connect, server):
    connect(Bearer("a.b.c")).get("cid1", headers={"Authorization": "mine"})
    assert server.asked[0].headers.get_all("Authorization") == ["Bearer a.b.c"]


def test_a_changed_password_is_used_by_the_next_call(server):
    keys = iter("ab")
    connection = RestConnection(RestConfig("crm", server.address), lambda: ApiKey("X-Key", next(keys)))
    with closing(connection):
        connection.get()
        connection.get()
    assert [asked.headers["X-Key"] for asked in server.asked] == ["a", "b"]


def test_secrets_are_not_in_the_text_of_objects(connect):
    for thing in (
        BasicAuth("joe", "hunter2"),
        ApiKey("X-Key", "hunter2"),
        Bearer("hunter2"),
        connect(ApiKey("X", "hunter2")),
    ):
        assert "hunter2" not in repr(thing)


def test_a_netrc_file_is_not_read(connect, server, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login joe password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    connect().get("cid1")
    assert "Authorization" not in server.asked[0].headers


def test_cookies_are_not_carried_from_one_call_to_the_next(connect, server, reply):
    server.reply = lambda asked, handler: reply(headers={"Set-Cookie": "session=1"})
    connection = connect()
    assert connection.get().cookies["session"] == "1"
    connection.get()
    assert "Cookie" not in server.asked[1].headers


# What comes back


@pytest.mark.parametrize(
    ("data_format", "body", "data"),
    [
        ("json", b'{"a": 1}', {"a": 1}),
        ("json", b"12345678901234567890123", 12345678901234567890123),
        ("json", b"", None),
        ("json", b" \n", None),
        ("", b"text", "text"),
        ("form", b"a=1", "a=1"),
    ],
)
def test_data_is_what_the_data_format_says(connect, server, reply, data_format, body, data):
    server.reply = lambda asked, handler: reply(body=body)
    response = connect(data_format=data_format).get("cid1")
    assert (response.data, response.content, response.ok) == (data, body, True)


def test_a_body_that_is_not_json_is_an_error_only_when_it_is_asked_for(connect, server, reply):
    server.reply = lambda asked, handler: reply(502, b"<html>Bad Gateway")
    response = connect().get("cid1")
    assert (response.status_code, response.text) == (502, "<html>Bad Gateway")
    with pytest.raises(ValueError, match="malformed"):
        _ = response.data


def test_any_status_is_returned(connect, server, reply):
    server.reply = lambda asked, handler: reply(500, b'{"error": 1}', {"X-A": "b"})
    response = connect().post("cid1", {})
    assert (response.status_code, response.data, response.headers["x-a"]) == (500, {"error": 1}, "b")


def test_a_response_has_all_that_requests_has(connect, server, reply):
    server.reply = lambda asked, handler: reply(body=b'{"a": 1}')
    response = connect().get("cid1", {"q": 1})
    assert response.json() == {"a": 1}
    assert list(response.iter_lines()) == [b'{"a": 1}']
    assert response.url == server.address + "/?q=1"
    assert pickle.loads(pickle.dumps(response)).status_code == 200


def test_compressed_and_chunked_responses_are_read(connect, server):
    def chunked(asked, handler):
        packed = gzip.compress(b'{"a": "' + 100_000 * b"x" + b'"}')
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        for start in range(0, len(packed), 50):
            part = packed[start : start + 50]
            handler.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")

    server.reply = chunked
    connection = connect()
    assert connection.get("cid1").data == {"a": 100_000 * "x"}
    assert connection.get("cid1").data == {"a": 100_000 * "x"}
    assert len({asked.connection for asked in server.asked}) == 1


@pytest.mark.parametrize("packed", [False, True])
def test_a_response_that_is_too_large_is_not_read(connect, server, reply, packed):
    body = 200_000 * b"x"
    headers = {"Content-Encoding": "gzip"} if packed else {}
    server.reply = lambda asked, handler: reply(200, gzip.compress(body) if packed else body, headers)
    with pytest.raises(ConnectionFailed, match="more than 100000 bytes"):
        connect(max_response_size=100_000).get("cid1")


def test_a_head_ping_reports_status_time_and_headers(connect, server, reply):
    server.reply = lambda asked, handler: reply(404, b"", {"X-A": "b", "Set-Cookie": "session=hunter2"})
    report = connect(url_path="/orders/{id}?key=hunter2").ping("cid1")
    assert [server.asked[0].method, server.asked[0].path] == ["HEAD", "/orders/"]
    lines = report.splitlines()
    assert lines[:2] == [f"HEAD {server.address}/orders/", "404 Not Found"]
    assert lines[2].endswith(" s")
    assert "X-A: b" in lines
    assert "hunter2" not in report


def test_the_method_of_a_ping_is_configured(connect, server):
    connect(ping_method="GET").ping("cid1")
    assert server.asked[0].method == "GET"


# Redirects


@pytest.mark.parametrize("method", ["get", "options"])
def test_a_redirect_is_followed_where_repeating_does_no_harm(connect, server, reply, method):
    server.reply = lambda asked, handler: (
        reply(302, b"", {"Location": "/b"}) if asked.path == "/a" else reply()
    )
    response = getattr(connect(ApiKey("X-Key", "k"), url_path="/a"), method)("cid1")
    assert [asked.path for asked in server.asked] == ["/a", "/b"]
    assert [asked.headers["X-Key"] for asked in server.asked] == ["k", "k"]
    assert (response.status_code, [old.status_code for old in response.history]) == (200, [302])


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_a_redirect_of_a_change_is_the_response(connect, server, reply, method):
    server.reply = lambda asked, handler: reply(307, b"", {"Location": "/b"})
    assert getattr(connect(), method)("cid1").headers["Location"] == "/b"
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "security", [ApiKey("X-Key", "hunter2"), BasicAuth("joe", "hunter2"), Bearer("hunter2")]
)
def test_another_origin_gets_no_credentials(connect, server, reply, security):
    other = server.address.replace("127.0.0.1", "localhost") + "/b"
    server.reply = lambda asked, handler: (
        reply(302, b"", {"Location": other}) if asked.path == "/" else reply()
    )
    connect(security).get("cid1", headers={"Cookie": "a=b", "X-Other": "c"})
    sent = dict(server.asked[1].headers)
    assert server.asked[1].path == "/b"
    assert sent["X-Other"] == "c"
    assert not {"X-Key", "Authorization", "Cookie"} & set(sent)


def test_redirects_come_to_an_end(connect, server, reply):
    server.reply = lambda asked, handler: reply(302, b"", {"Location": "/again"})
    with pytest.raises(ConnectionFailed, match="more than 5 redirects"):
        connect().get("cid1")
    assert len(server.asked) == 6


def test_a_redirect_to_another_protocol_is_an_error(connect, server, reply):
    server.reply = lambda asked, handler: reply(302, b"", {"Location": "file:///etc/passwd"})
    with pytest.raises(ConnectionFailed):
        connect().get("cid1")


# Connections


def test_calls_share_a_connection(connect, server):
    connection = connect()
    for _ in range(3):
        connection.get("cid1")
    assert len({asked.connection for asked in server.asked}) == 1


def hang_up(handler):
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("method", ["get", "put", "delete", "options"])
def test_a_call_that_can_be_repeated_is_when_the_remote_end_had_hung_up(connect, server, reply, method):
    server.reply = lambda asked, handler: hang_up(handler) if len(server.asked) == 1 else reply()
    assert getattr(connect(), method)("cid1").ok
    assert len(server.asked) == 2


@pytest.mark.parametrize("method", ["post", "patch"])
def test_a_call_that_may_have_had_an_effect_is_not_repeated(connect, server, method):
    server.reply = lambda asked, handler: hang_up(handler)
    with pytest.raises(ConnectionFailed, match="the remote end closed the connection"):
        getattr(connect(), method)("cid1", "x")
    assert len(server.asked) == 1


def test_a_call_is_repeated_only_once(connect, server):
    server.reply = lambda asked, handler: hang_up(handler)
    with pytest.raises(ConnectionFailed):
        connect().get("cid1")
    assert len(server.asked) == 2


def test_an_idle_connection_that_was_closed_is_not_used_again(connect, server, reply):
    closed = threading.Event()

    def answer_and_close(asked, handler):
        if asked.path == "/?n=1":
            handler.send_response(200)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            hang_up(handler)
            closed.set()
            return None
        return reply()

    server.reply = answer_and_close
    connection = connect()
    connection.post("cid1", "x", {"n": 1})
    assert closed.wait(5)
    assert connection.post("cid1", "x", {"n": 2}).ok
    assert len(server.asked) == 2


def test_an_inactive_connection_says_so(connect, server):
    with pytest.raises(ConnectionInactive, match="'crm' is not active") as error:
        connect(is_active=False).get("cid1")
    assert error.value.cid == "cid1"
    assert not server.asked


def test_a_refused_connection_says_which_and_why_but_not_what_was_sent(connect):
    with refused_port() as taken:
        host = f"http://127.0.0.1:{taken.getsockname()[1]}"
        connection = connect(host=host, url_path="/orders/{id}?key=hunter2")
        with pytest.raises(ConnectionFailed) as error:
            connection.post("cid1", "hunter2", {"id": "hunter2", "q": "hunter2"})
    start, end = (
        f"Outgoing REST connection 'crm': POST {host}/orders/{{id}} failed after ",
        "connection refused.",
    )
    assert str(error.value).startswith(start)
    assert str(error.value).endswith(end)
    assert error.value.cid == "cid1"
    assert error.value.__suppress_context__  # the errors underneath have the whole address


def test_a_host_that_does_not_exist_says_so(connect):
    with pytest.raises(ConnectionFailed, match="host name cannot be resolved"):
        connect(host="http://nowhere.invalid").get("cid1")


def test_a_remote_end_that_does_not_answer_is_given_up(connect, server):
    done = threading.Event()
    server.reply = lambda asked, handler: (done.wait(10), hang_up(handler))[1]
    with pytest.raises(ConnectionTimeout, match=r"GET .* no complete response within 0\.2 s"):
        connect(timeout=0.2).get("cid1")
    with pytest.raises(ConnectionTimeout, match=r"within 0\.1 s"):
        connect().get("cid1", timeout=0.1)
    done.set()
    assert len(server.asked) == 2


def test_a_remote_end_that_takes_no_connection_is_given_up(connect):
    with socket.socket() as listening, ExitStack() as queued:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):  # until its queue is full
            waiting = queued.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        connection = connect(host=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=0.1)
        with pytest.raises(ConnectionTimeout, match=r"no connection within 0\.1 s"):
            connection.get("cid1")


def drip(asked, handler):
    """A response that is never complete, a byte now and then: no single wait is long."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    stop = threading.Event()
    try:
        while not stop.wait(0.02):
            handler.wfile.write(b"x")
    except OSError:
        handler.close_connection = True


def test_a_response_that_comes_too_slowly_is_given_up(connect, server):
    server.reply = drip
    with pytest.raises(ConnectionTimeout):
        connect(timeout=0.3).get("cid1")


def test_a_response_that_breaks_off_is_an_error(connect, server):
    def break_off(asked, handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x")
        hang_up(handler)

    server.reply = break_off
    with pytest.raises(ConnectionFailed, match="closed the connection"):
        connect().get("cid1")


def test_calls_beyond_the_size_of_the_pool_wait_and_then_fail(connect, server, reply):
    busy, done = threading.Event(), threading.Event()

    def wait(asked, handler):
        busy.set()
        done.wait(10)
        return reply()

    server.reply = wait
    connection = connect(pool_size=1)
    first = threading.Thread(target=connection.get)
    first.start()
    assert busy.wait(5)
    with pytest.raises(ConnectionTimeout, match="all 1 connections were in use"):
        connection.get("cid1", timeout=0.1)
    done.set()
    first.join(5)
    assert connection.get("cid1").ok


def test_a_closed_connection_still_serves_who_has_it(connect, server):
    connection = connect()
    connection.close()
    assert connection.get("cid1").ok


# TLS


@pytest.fixture
def certificate(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    file = tmp_path / "server.pem"
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(private + certificate.public_bytes(pem))
    return file


@pytest.fixture
def tls_server(server, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server


def test_a_certificate_that_is_not_trusted_is_an_error(connect, tls_server):
    with pytest.raises(ConnectionFailed, match="the certificate is not valid: self-signed"):
        connect(host=tls_server.address.replace("http:", "https:")).get("cid1")
    assert not tls_server.asked


def test_certificates_are_not_checked_if_so_configured(connect, tls_server):
    assert connect(host=tls_server.address.replace("http:", "https:"), tls_verify=False).get("cid1").ok


# As in a server, where all of this runs in greenlets

IN_GREENLETS = """
import gevent.monkey
gevent.monkey.patch_all()
import gevent, sys
from junctor.server.outgoing.rest import RestConfig, RestConnection
from junctor.sql.errors import ConnectionTimeout
connection = RestConnection(RestConfig("crm", sys.argv[1], timeout=float(sys.argv[2]), pool_size=2))
def call(_):
    try:
        return str(connection.get("cid1").status_code)
    except ConnectionTimeout:
        return "timeout"
print(*gevent.pool.Pool(4).imap(call, range(int(sys.argv[3]))))
"""


def in_greenlets(server, timeout, calls):
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import gevent.pool\n" + IN_GREENLETS,
            server.address,
            str(timeout),
            str(calls),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_greenlets_share_the_pool(server):
    assert in_greenlets(server, 10, 20) == 20 * ["200"]
    assert len({asked.connection for asked in server.asked}) <= 2


def test_a_slow_head_of_a_response_is_given_up_in_greenlets(server):
    def slow_head(asked, handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        drip(asked, handler)

    server.reply = slow_head
    assert in_greenlets(server, 0.3, 2) == 2 * ["timeout"]


# By name


def test_connections_are_found_by_name(connect):
    connection = connect()
    connections = RestConnections({"crm": connection, "My CRM": connection})
    assert connections["My CRM"].conn is connections.crm.conn is connections.get("crm")
    assert (connections.crm.name, connections.crm.is_active, connections.crm.config.timeout) == (
        "crm",
        True,
        5,
    )
    assert (list(connections), len(connections), "x" in connections) == (["crm", "My CRM"], 2, False)
    assert connections.get("x") is None


def test_a_view_is_always_current(connect):
    known = {}
    connections = RestConnections(known)
    known["crm"] = connect()
    assert connections.crm


def test_an_unknown_name_suggests_those_that_are_close(connect):
    connections = RestConnections({"billing": connect(), "crm": connect()})
    expected = r"^There is no outgoing REST connection 'biling'\. Did you mean 'billing'\?$"
    with pytest.raises(ConnectionNotFound, match=expected):
        _ = connections["biling"]
    with pytest.raises(KeyError):
        _ = connections["biling"]
    with pytest.raises(AttributeError, match=expected):
        _ = connections.biling
    assert not hasattr(connections, "other")
    assert not hasattr(connections, "_other")


def test_a_host_without_a_scheme_is_refused_at_once():
    with pytest.raises(InvalidInput):
        RestConnection(RestConfig("crm", "example.com"))
