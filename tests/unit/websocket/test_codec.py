"""The WebSocket protocol: what the peer may send, and what it is told when it sends something else."""

from __future__ import annotations

import gevent
import pytest
from gevent import socket

from junctor.server.websocket.codec import Connection
from junctor.sql.errors import ConnectionFailed, ConnectionTimeout, SlowConsumer, WebSocketClosed

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MAX_SIZE = 65_536


def close(code: int, reason: bytes = b"") -> bytes:
    return code.to_bytes(2, "big") + reason


def send_for_ever(connection: Connection) -> None:
    while True:
        connection.send(b"x" * 1_000_000)


def test_text_and_binary_messages_of_all_lengths_come_back(echo):
    client = echo.connect()
    for size in (0, 1, 125, 126, 127, 65_535, 65_536):
        for message in ("ż" * (size // 2) + "a" * (size % 2), b"\xff" * size):
            client.send(message)
            assert client.receive() == message


def test_a_frame_that_arrives_byte_by_byte_is_a_message(echo):
    client = echo.raw()
    client.frame(PING, b"sync")
    assert client.read() == (PONG, b"sync")
    for byte in b"\x81\x85\x01\x02\x03\x04" + bytes(
        c ^ k for c, k in zip(b"hello", b"\1\2\3\4\1", strict=True)
    ):
        client.socket.sendall(bytes([byte]))
        gevent.sleep(0)
    assert client.read() == (TEXT, b"hello")


def test_fragments_are_joined_and_control_frames_may_come_between_them(echo):
    client = echo.raw()
    client.frame(TEXT, b"one ", fin=0)
    client.frame(PING, b"between")
    client.frame(CONTINUATION, b"", fin=0)
    client.frame(CONTINUATION, "tż".encode()[:2], fin=0)
    client.frame(CONTINUATION, "tż".encode()[2:])
    assert client.read() == (PONG, b"between")
    assert client.read() == (TEXT, "one tż".encode())


def test_thousands_of_fragments_cost_no_more_than_their_bytes(echo):
    client = echo.raw()
    client.frame(BINARY, b"x", fin=0)
    for _ in range(20_000):
        client.frame(CONTINUATION, b"y", fin=0)
    client.frame(CONTINUATION, b"z")
    assert client.read() == (BINARY, b"x" + b"y" * 20_000 + b"z")


@pytest.mark.parametrize(
    "frames",
    [
        [(TEXT, b"a", {"mask": False})],
        [(TEXT, b"", {"mask": False})],
        [(PING, b"", {"mask": False})],
        [(TEXT, b"a", {"rsv1": 1})],
        [(3, b"a", {})],
        [(11, b"a", {})],
        [(PING, b"a", {"fin": 0})],
        [(PING, b"a" * 126, {})],
        [(CONTINUATION, b"a", {})],
        [(TEXT, b"a", {}), (CONTINUATION, b"b", {})],
        [(TEXT, b"a", {"fin": 0}), (TEXT, b"b", {})],
        [(CLOSE, b"\3", {})],
        [(CLOSE, close(999), {})],
        [(CLOSE, close(1004), {})],
        [(CLOSE, close(1005), {})],
        [(CLOSE, close(1006), {})],
        [(CLOSE, close(1015), {})],
        [(CLOSE, close(2999), {})],
        [(CLOSE, close(5000), {})],
    ],
)
def test_what_the_protocol_forbids_is_closed_with_1002(echo, frames):
    client = echo.raw()
    for opcode, payload, options in frames:
        client.frame(opcode, payload, **options)
    code = client.read()
    while code[0] != CLOSE:
        code = client.read()
    assert int.from_bytes(code[1][:2], "big") == 1002


@pytest.mark.parametrize(
    "head", [b"\x81\xfe\x00\x05", b"\x81\xff" + bytes(6) + b"\x01\x00", b"\x81\xff\x80" + bytes(7)]
)
def test_a_length_that_is_not_in_its_shortest_form_is_closed_with_1002(echo, head):
    client = echo.raw()
    client.socket.sendall(head + b"\1\2\3\4")
    assert client.close_code() == 1002


@pytest.mark.parametrize(
    "payload", [b"\xff", b"a\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", "ż".encode()[:1]]
)
def test_text_that_is_not_utf8_is_closed_with_1007(echo, payload):
    client = echo.raw()
    client.frame(TEXT, payload)
    assert client.close_code() == 1007


def test_a_close_reason_that_is_not_utf8_is_closed_with_1007(echo):
    client = echo.raw()
    client.frame(CLOSE, close(1000, b"\xff"))
    assert client.close_code() == 1007


@pytest.mark.parametrize("fragmented", [False, True])
def test_a_message_that_is_too_large_is_closed_with_1009_before_it_has_arrived(echo, fragmented):
    client = echo.raw()
    if fragmented:
        client.frame(BINARY, b"x" * MAX_SIZE, fin=0)
        client.frame(CONTINUATION, b"x")
    else:
        client.socket.sendall(b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"\1\2\3\4")
    assert client.close_code() == 1009


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1012, 1013, 3000, 4999])
def test_a_close_is_answered_with_its_own_code(echo, code):
    client = echo.raw()
    client.frame(CLOSE, close(code, b"why"))
    assert client.close_code() == code
    assert echo.how_it_ended() == (code, "why")


def test_a_close_without_a_code_is_answered_and_known_as_1005(echo):
    client = echo.raw()
    client.frame(CLOSE)
    assert client.close_code() == 1000
    assert echo.how_it_ended() == (1005, "")


def test_a_message_that_comes_with_the_close_is_answered_first(echo):
    client = echo.raw()
    first = b"\x81\x81\0\0\0\0a"
    client.socket.sendall(first + b"\x88\x82\0\0\0\0" + close(1000))
    assert client.read() == (TEXT, b"a")
    assert client.close_code() == 1000
    assert echo.how_it_ended() == (1000, "")
    assert echo.messages == ["a"]


def test_a_connection_that_is_lost_is_known_as_1006(echo):
    client = echo.connect()
    client.send("a")
    client.receive()
    client.abort()
    assert client.receive() is None
    assert echo.how_it_ended()[0] == 1006
    with pytest.raises(WebSocketClosed):
        client.send("b")


def test_who_does_not_take_messages_is_disconnected(echo):
    client = echo.raw()
    client.frame(PING, b"ready")
    assert client.read() == (PONG, b"ready")
    (connection,) = echo.connections
    with pytest.raises(SlowConsumer):
        send_for_ever(connection)
    assert not connection.is_open
    assert connection.pending == 0


def test_pongs_are_told_to_who_wants_to_know(echo):
    client = echo.connect()
    seen = []
    client.on_pong = seen.append
    client.ping(b"p" * 125)
    client.send("after")
    assert client.receive() == "after"
    assert seen == [b"p" * 125]
    with pytest.raises(ValueError, match="125"):
        client.ping(b"p" * 126)


def test_connecting_fails_with_a_sentence(echo):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        port = silent.getsockname()[1]
        with pytest.raises(ConnectionTimeout, match="did not answer within"):
            Connection.connect(f"ws://127.0.0.1:{port}/", timeout=0.2)
    with pytest.raises(ConnectionFailed, match="cannot be connected to"):
        Connection.connect(f"ws://127.0.0.1:{port}/", timeout=5)
    for wrong in ("http://127.0.0.1/", "ws://", "ws://host:0x/", "ws://[::1"):
        with pytest.raises(ConnectionFailed, match="is not the address"):
            Connection.connect(wrong, timeout=5)
    with pytest.raises(ConnectionFailed, match="line break"):
        Connection.connect(echo.address, timeout=5, headers={"X": "a\r\nb"})
