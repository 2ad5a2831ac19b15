"""permessage-deflate: what is agreed on, what is compressed, and what a peer cannot do with it."""

from __future__ import annotations

import os
import zlib

import gevent
import pytest

from junctor.server.websocket import deflate, sender
from junctor.server.websocket.codec import Connection
from junctor.sql.errors import ConnectionFailed
from tests.helpers.websocket_peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MAX_SIZE,
    PING,
    PONG,
    TEXT,
    Frame,
    client_of,
    closing,
    server_of,
)

BOTH = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
TAIL = b"\0\0\xff\xff"
RSV1 = 4
# As the client of a side that compresses, and as its server.
SIDES = {
    "server": lambda *serve, **options: client_of(*serve, extensions=BOTH, compression=True, **options),
    "client": lambda *serve, **options: server_of(*serve, extensions=BOTH, compression=True, **options),
}


@pytest.fixture(params=SIDES)
def compressing(request):
    return SIDES[request.param]


@pytest.fixture(autouse=True)
def time_limit():
    with gevent.Timeout(20):
        yield


def deflated(data: bytes, *, bits: int = 15, last: bool = False) -> bytes:
    """As RFC 7692 has it; ``last`` ends the data for good, which is allowed as well."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -bits)
    if last:
        return compressor.compress(data) + compressor.flush() + b"\0"
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def inflated(data: bytes, bits: int = 15) -> bytes:
    return zlib.decompressobj(-bits).decompress(data + TAIL)


def code_of(frame: Frame) -> int:
    assert frame.opcode == CLOSE
    return int.from_bytes(frame.payload[:2], "big")


# What is agreed on


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        ("permessage-deflate", BOTH),
        ("permessage-deflate; client_max_window_bits", BOTH),
        ("permessage-deflate; client_max_window_bits=10; server_no_context_takeover", BOTH),
        ("Permessage-Deflate ; Client_No_Context_Takeover", BOTH),
        ("permessage-deflate; server_max_window_bits=10", f"{BOTH}; server_max_window_bits=10"),
        ('permessage-deflate; server_max_window_bits="9"', f"{BOTH}; server_max_window_bits=9"),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", BOTH),
        ("x-webkit-deflate-frame, permessage-deflate; client_max_window_bits", BOTH),
        ("permessage-deflate; unknown", ""),
        ("permessage-deflate; server_max_window_bits", ""),
        ("permessage-deflate; server_max_window_bits=16", ""),
        ("permessage-deflate; server_max_window_bits=09", ""),
        ("permessage-deflate; server_max_window_bits=-1", ""),
        ("permessage-deflate; server_max_window_bits=8", ""),
        ("permessage-deflate; client_max_window_bits=", ""),
        ("permessage-deflate; client_max_window_bits=7", ""),
        ("permessage-deflate; server_no_context_takeover=1", ""),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", ""),
        ("permessage-bzip2", ""),
        (",;,=", ""),
        ("", ""),
    ],
)
def test_a_server_agrees_to_what_it_can_do_of_what_is_offered(offers, answer):
    with client_of(extensions=offers, compression=True) as peer:
        assert peer.extensions == answer
        peer.send(closing(1000))
        assert code_of(peer.read()) == 1000


def test_a_server_that_is_not_to_compress_agrees_to_nothing_and_refuses_the_bit():
    with client_of(extensions="permessage-deflate", compression=False) as peer:
        assert peer.extensions == ""
        peer.send(Frame(TEXT, deflated(b"x"), rsv=RSV1))
        assert code_of(peer.read()) == 1002


@pytest.mark.parametrize(
    "answer",
    [
        "permessage-deflate",
        "permessage-deflate; client_no_context_takeover",
        f"{BOTH}; client_max_window_bits=10",
        f"{BOTH}; server_max_window_bits=20",
        f"{BOTH}, {BOTH}",
        "permessage-bzip2",
    ],
)
def test_a_client_refuses_an_answer_to_what_it_did_not_offer(answer):
    with (
        pytest.raises(ConnectionFailed, match="extension that it was not asked for"),
        server_of(extensions=answer, compression=True),
    ):
        pass


def test_a_client_that_did_not_ask_for_compression_refuses_it():
    with (
        pytest.raises(ConnectionFailed, match="extension that it was not asked for"),
        server_of(extensions=BOTH, compression=False),
    ):
        pass


def test_a_server_without_compression_is_spoken_to_without():
    with server_of(extensions="", compression=True) as peer:
        assert peer.extensions == BOTH
        peer.send(Frame(TEXT, b"x" * 5000))
        assert peer.read() == Frame(TEXT, b"x" * 5000)
        peer.send(closing(1000))


def test_a_smaller_window_of_the_server_is_all_the_same_to_the_client():
    with server_of(extensions=f"{BOTH}; server_max_window_bits=9", compression=True) as peer:
        peer.send(Frame(TEXT, deflated(b"ab" * 2000, bits=9), rsv=RSV1))
        assert inflated(peer.read().payload) == b"ab" * 2000
        peer.send(closing(1000))


def test_the_window_of_the_server_is_not_larger_than_the_client_wants_it():
    noise = os.urandom(600)
    offer = "permessage-deflate; server_max_window_bits=9"
    with client_of(extensions=offer, compression=True) as peer:
        peer.send(Frame(BINARY, (noise + b"-" * 1000) * 3))
        frame = peer.read()
        assert frame.rsv == RSV1
        assert inflated(frame.payload, bits=9) == (noise + b"-" * 1000) * 3
        peer.send(closing(1000))


# Messages


@pytest.mark.parametrize("size", [0, 1, 125, 1024, 1025, 65_535, 65_536, 65_537, 262_144, MAX_SIZE])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_messages_of_all_sizes_come_back_compressed_if_they_are_large(compressing, opcode, size):
    message = (b"abc\xc5\xbc" * (size // 5 + 1))[:size] if opcode == BINARY else b"abcd" * (size // 4)
    with compressing() as peer:
        peer.send(Frame(opcode, deflated(message), rsv=RSV1))
        back = peer.read()
        is_large = len(message) > deflate.MIN_SIZE
        assert (back.opcode, back.rsv) == (opcode, RSV1 if is_large else 0)
        assert (inflated(back.payload) if is_large else back.payload) == message
        peer.send(closing(1000))
        assert code_of(peer.read()) == 1000


def test_messages_need_not_be_compressed_and_may_have_fragments_and_control_frames_between(compressing):
    data = deflated("żółw".encode() * 100)
    with compressing() as peer:
        peer.send(
            Frame(TEXT, b"plain"),
            Frame(TEXT, data[:5], fin=0, rsv=RSV1),
            Frame(PING, b"between"),
            Frame(CONTINUATION, b"", fin=0),
            Frame(CONTINUATION, data[5:]),
            Frame(BINARY, b"\xff"),
        )
        frames = [peer.read() for _ in range(4)]
        assert Frame(PONG, b"between") in frames
        frames.remove(Frame(PONG, b"between"))
        assert frames == [Frame(TEXT, b"plain"), Frame(TEXT, "żółw".encode() * 100), Frame(BINARY, b"\xff")]
        peer.send(closing(1000))


def test_what_cannot_be_made_smaller_is_sent_as_it_is(compressing):
    for size in (5000, 100_000):
        noise = os.urandom(size)
        with compressing() as peer:
            peer.send(Frame(BINARY, noise))
            assert peer.read() == Frame(BINARY, noise)
            peer.send(closing(1000))


def test_no_message_depends_on_an_earlier_one(compressing):
    with compressing() as peer:
        for _ in range(3):
            peer.send(Frame(TEXT, deflated(b"abcdefgh" * 500), rsv=RSV1))
            assert inflated(peer.read().payload) == b"abcdefgh" * 500
        peer.send(closing(1000))


def test_data_that_ends_for_good_is_a_message_too(compressing):
    with compressing() as peer:
        peer.send(Frame(TEXT, deflated(b"Hello", last=True), rsv=RSV1))
        assert peer.read() == Frame(TEXT, b"Hello")
        peer.send(closing(1000))


def test_large_and_small_messages_stay_in_order_and_the_close_comes_last():
    def serve(connection: Connection) -> None:
        for number in range(20):
            connection.send(f"{number} " * (40_000 if number % 2 else 1))
        connection.close(4000)
        assert connection.receive() is None

    with client_of(serve, extensions=BOTH, compression=True) as peer:
        for number in range(20):
            frame = peer.read()
            text = inflated(frame.payload) if frame.rsv else frame.payload
            assert text.split()[0] == str(number).encode()
        assert code_of(peer.read()) == 4000
        peer.send(closing(4000))


def test_sending_a_large_message_does_not_wait_for_its_compression():
    pending = []

    def serve(connection: Connection) -> None:
        connection.send(b"x" * 1_000_000)
        pending.append(connection.pending)
        connection.receive()

    with client_of(serve, extensions=BOTH, compression=True) as peer:
        assert inflated(peer.read().payload) == b"x" * 1_000_000
        peer.send(closing(1000))
        assert code_of(peer.read()) == 1000
    assert pending == [1]


# What a peer cannot do


@pytest.mark.parametrize("size", [MAX_SIZE + 1, MAX_SIZE * 50])
@pytest.mark.parametrize("fragmented", [False, True])
def test_a_message_that_grows_too_large_is_closed_with_1009(compressing, size, fragmented):
    bomb = deflated(b"\0" * size)
    assert len(bomb) < MAX_SIZE // 10
    with compressing() as peer:
        if fragmented:
            peer.send(Frame(BINARY, bomb[:100], fin=0, rsv=RSV1), Frame(CONTINUATION, bomb[100:]))
        else:
            peer.send(Frame(BINARY, bomb, rsv=RSV1))
        assert code_of(peer.read()) == 1009
        peer.read_end()


def test_a_compressed_message_that_is_too_large_as_it_is_is_closed_with_1009(compressing):
    with compressing(max_message_size=2000) as peer:
        peer.send(Frame(BINARY, os.urandom(2001), rsv=RSV1))
        assert code_of(peer.read()) == 1009


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 10,
        b"\x07" * 100_000,
        deflated(b"a", last=True) + b"more",
        deflated(b"\xff"),
        deflated(b"ok \xc5"),
    ],
)
def test_what_is_no_compressed_text_is_closed_with_1007(compressing, data):
    with compressing() as peer:
        peer.send(Frame(TEXT, data, rsv=RSV1))
        assert code_of(peer.read()) == 1007
        peer.read_end()


@pytest.mark.parametrize(
    "frame",
    [
        Frame(PING, b"x", rsv=RSV1),
        closing(1000)._replace(rsv=RSV1),
        Frame(TEXT, b"x", rsv=2),
        Frame(TEXT, b"x", rsv=RSV1 | 1),
        Frame(CONTINUATION, b"x", rsv=RSV1),
    ],
)
def test_the_bit_is_for_the_first_frames_of_messages_alone(compressing, frame):
    with compressing() as peer:
        peer.send(Frame(TEXT, b"a", fin=0, rsv=RSV1), frame)
        assert code_of(peer.read()) == 1002
        peer.read_end()


def test_a_frame_is_built_the_same_way_with_and_without_a_mask():
    for size in (0, 1, 125, 126, 65_535, 65_536):
        plain = sender.build_frame(0xC1, b"x" * size, mask=False)
        hidden = sender.build_frame(0xC1, b"x" * size, mask=True)
        assert len(hidden) == len(plain) + 4
        assert plain == Frame(TEXT, b"x" * size, rsv=RSV1).built(mask=False)
