"""Both sides of a WebSocket against a peer that does all that RFC 6455 allows, and all that it forbids.

The cases are in the groups of the Autobahn test suite: 1 framing, 2 pings, 3 reserved bits, 4 opcodes, 5 fragmentation, 6 UTF-8,
7 closing, 9 and 10 sizes.  Each is told to the server's and to the client's side, at once and, if it is short, byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import gevent
import pytest

from tests.helpers.websocket_peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MAX_SIZE,
    PING,
    PONG,
    TEXT,
    Frame,
    Peer,
    client_of,
    closing,
    echo,
    server_of,
)

SHORT = 600  # bytes


class Case(NamedTuple):
    """What is sent, what comes back before the close, and the code of that: None when the case does not close.

    ``at_once`` is for what comes after a close: sent later, it would find a socket that is closed.
    """

    name: str
    sent: tuple[Frame | bytes, ...]
    back: tuple[Frame, ...] = ()
    code: int | None = None
    at_once: bool = False


def pieces(opcode: int, payload: bytes, size: int) -> tuple[Frame, ...]:
    """A message in fragments of a size."""
    parts = [payload[at : at + size] for at in range(0, len(payload), size)]
    last = len(parts) - 1
    return tuple(
        Frame(CONTINUATION if at else opcode, part, int(at == last)) for at, part in enumerate(parts)
    )


def framing() -> Iterator[Case]:
    for number, size in enumerate((0, 125, 126, 127, 128, 65_535, 65_536), 1):
        for group, opcode, byte in ((1, TEXT, b"*"), (2, BINARY, b"\xfe")):
            frame = Frame(opcode, byte * size)
            yield Case(f"1.{group}.{number}", (frame,), (frame,))


def pings() -> Iterator[Case]:
    for number, payload in enumerate(
        (b"", b"Hello, world!", bytes.fromhex("00fffefdfcfb00ff"), b"\xfe" * 125), 1
    ):
        yield Case(f"2.{number}", (Frame(PING, payload),), (Frame(PONG, payload),))
    yield Case("2.5", (Frame(PING, b"\xfe" * 126),), (), 1002)
    yield Case("2.7", (Frame(PONG),))
    yield Case("2.8", (Frame(PONG, b"unasked"),))
    yield Case("2.9", (Frame(PONG, b"unasked"), Frame(PING, b"x")), (Frame(PONG, b"x"),))
    numbers = [str(number).encode() for number in range(10)]
    yield Case("2.10", tuple(Frame(PING, n) for n in numbers), tuple(Frame(PONG, n) for n in numbers))


def reserved_bits() -> Iterator[Case]:
    hello = Frame(TEXT, b"Hello")
    yield Case("3.1", (Frame(TEXT, b"Hello", rsv=4),), (), 1002)
    for number, bad in (
        (2, Frame(TEXT, b"x", rsv=2)),
        (3, Frame(TEXT, b"x", rsv=3)),
        (4, Frame(TEXT, b"x", rsv=1)),
        (5, Frame(BINARY, b"x", rsv=5)),
        (6, Frame(PING, b"x", rsv=6)),
        (7, closing(1000)._replace(rsv=7)),
        (8, Frame(CONTINUATION, b"x", rsv=4)),
    ):
        yield Case(f"3.{number}", (hello, bad, Frame(PING)), (hello,), 1002)


def opcodes() -> Iterator[Case]:
    hello = Frame(TEXT, b"Hello")
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        for payload in (b"", b"x"):
            sent = (hello, Frame(opcode, payload), Frame(PING))
            yield Case(f"4.{opcode}-{len(payload)}", sent, (hello,), 1002)


def fragmentation() -> Iterator[Case]:
    first, last = Frame(TEXT, b"one", 0), Frame(CONTINUATION, b"two")
    both, ping, pong = Frame(TEXT, b"onetwo"), Frame(PING, b"p"), Frame(PONG, b"p")
    hello, stray = Frame(TEXT, b"Hello"), Frame(CONTINUATION, b"x", 0)
    yield Case("5.1", (ping._replace(fin=0), Frame(CONTINUATION, b"q")), (), 1002)
    yield Case("5.2", (pong._replace(fin=0), Frame(CONTINUATION, b"q")), (), 1002)
    yield Case("5.2-close", (closing(1000)._replace(fin=0),), (), 1002)
    yield Case("5.3", (first, last), (both,))
    yield Case("5.6", (first, ping, last), (pong, both))
    yield Case("5.9", (Frame(CONTINUATION, b"x"), hello), (), 1002)
    yield Case("5.12", (stray, hello), (), 1002)
    yield Case("5.15", (first, last, stray, hello), (both,), 1002)
    yield Case("5.16", (stray, hello, stray, hello), (), 1002)
    yield Case("5.18", (first, Frame(TEXT, b"two")), (), 1002)
    yield Case("5.18-binary", (first, Frame(BINARY, b"two", 0)), (), 1002)
    many = (first, *(Frame(CONTINUATION, b"x", 0), ping) * 3, last)
    yield Case("5.19", many, (pong, pong, pong, Frame(TEXT, b"onexxxtwo")))
    yield Case("5.20", many + many, (pong, pong, pong, Frame(TEXT, b"onexxxtwo")) * 2)


GREETING = "Hello-µ@ßöäüàá-UTF-8!!".encode()
NOT_UTF8 = bytes.fromhex("cebae1bdb9cf83cebcceb5eda080656469746564")
TOO_HIGH = bytes.fromhex("cebae1bdb9cf83cebcceb5f4908080656469746564")


def utf8_framing() -> Iterator[Case]:
    empty = Frame(TEXT)
    yield Case("6.1.1", (empty,), (empty,))
    yield Case("6.1.2", (Frame(TEXT, b"", 0), Frame(CONTINUATION, b"", 0), Frame(CONTINUATION)), (empty,))
    middle = Frame(CONTINUATION, b"middle", 0)
    yield Case("6.1.3", (Frame(TEXT, b"", 0), middle, Frame(CONTINUATION)), (Frame(TEXT, b"middle"),))
    yield Case("6.2.1", (Frame(TEXT, GREETING),), (Frame(TEXT, GREETING),))
    yield Case("6.2.2", pieces(TEXT, GREETING, 12), (Frame(TEXT, GREETING),))
    yield Case("6.2.3", pieces(TEXT, GREETING, 1), (Frame(TEXT, GREETING),))
    yield Case("6.3.1", (Frame(TEXT, NOT_UTF8),), (), 1007)
    yield Case("6.3.2", pieces(TEXT, NOT_UTF8, 1), (), 1007)
    # The last fragments of 6.4 are never sent: the text was wrong before.
    yield Case("6.4.1", (Frame(TEXT, TOO_HIGH[:11], 0), Frame(CONTINUATION, TOO_HIGH[11:15], 0)), (), 1007)
    yield Case("6.4.2", (Frame(TEXT, TOO_HIGH[:12], 0), Frame(CONTINUATION, TOO_HIGH[12:13], 0)), (), 1007)
    unfinished = Frame(TEXT, "ż".encode()[:1], 0)
    yield Case("6.x-ends-in-the-middle", (unfinished, Frame(CONTINUATION)), (), 1007)
    yield Case("6.x-then-another", (unfinished, Frame(CONTINUATION), Frame(TEXT, b"x")), (), 1007)
    # A reason is a text of its own, also when it comes in the middle of a character of another one.
    yield Case("6.x-close-in-the-middle", (unfinished, closing(1000, b"why")), (), 1000)


VALID_UTF8 = {
    "6.5": "ceba e1bdb9 cf83 cebc ceb5",
    "6.6-1": "00",
    "6.6-2": "c280",
    "6.6-3": "e0a080",
    "6.6-4": "f0908080",
    "6.7-1": "7f",
    "6.7-2": "dfbf",
    "6.7-3": "efbfbf",
    "6.7-4": "f48fbfbf",
    "6.9-1": "ed9fbf",
    "6.9-2": "ee8080",
    "6.9-3": "efbfbd",
    "6.22": "efbfbe f09fbfbe f48fbfbe",
    "6.23": "efbfb9 efbfba efbfbc",
}
INVALID_UTF8 = {
    "6.6-cut-2": "cebae1bd",
    "6.8-1": "f888808080",
    "6.8-2": "fc8480808080",
    "6.10-1": "f7bfbfbf",
    "6.10-2": "fbbfbfbfbf",
    "6.11-1": "f4908080",
    "6.12-1": "80",
    "6.12-2": "bf",
    "6.12-3": "80bf80bf80bf80",
    "6.13": "c020c120c220df20",
    "6.13-e": "e020ef20",
    "6.13-f": "f020f420",
    "6.14-1": "c0",
    "6.14-2": "e080",
    "6.14-3": "f08080",
    "6.15": "c0e080f08080f8808080",
    "6.16-1": "fe",
    "6.16-2": "ff",
    "6.17-1": "c0af",
    "6.17-2": "e080af",
    "6.17-3": "f08080af",
    "6.18-1": "c1bf",
    "6.18-2": "e09fbf",
    "6.18-3": "f08fbfbf",
    "6.19-1": "c080",
    "6.20-1": "eda080",
    "6.20-2": "edadbf",
    "6.20-3": "edae80",
    "6.20-4": "edbfbf",
    "6.21-1": "eda080edb080",
}


def utf8() -> Iterator[Case]:
    for name, sequence in VALID_UTF8.items():
        frame = Frame(TEXT, bytes.fromhex(sequence))
        yield Case(name, (frame,), (frame,))
        yield Case(f"{name}-in-pieces", pieces(TEXT, frame.payload, 1), (frame,))
    for name, sequence in INVALID_UTF8.items():
        wrong = bytes.fromhex(sequence)
        yield Case(name, (Frame(TEXT, wrong),), (), 1007)
        if len(wrong) > 1:
            yield Case(f"{name}-in-pieces", pieces(TEXT, wrong, 1), (), 1007)


VALID_CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)
INVALID_CODES = (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)


def closes() -> Iterator[Case]:
    hello = Frame(TEXT, b"Hello")
    yield Case("7.1.1", (hello, closing(1000)), (hello,), 1000)
    yield Case("7.1.2", (closing(1001), closing(1000)), (), 1001, at_once=True)
    yield Case("7.1.3", (closing(1000), Frame(PING)), (), 1000, at_once=True)
    yield Case("7.1.4", (closing(1000), hello), (), 1000, at_once=True)
    yield Case(
        "7.1.5", (Frame(TEXT, b"a", 0), closing(1000), Frame(CONTINUATION, b"b")), (), 1000, at_once=True
    )
    large = Frame(TEXT, b"x" * 262_144)
    yield Case("7.1.6", (large, closing(1000), Frame(PING)), (large,), 1000)
    yield Case("7.3.1", (Frame(CLOSE),), (), 1000)
    yield Case("7.3.2", (Frame(CLOSE, b"a"),), (), 1002)
    yield Case("7.3.3", (closing(1000),), (), 1000)
    yield Case("7.3.4", (closing(1000, b"Hello"),), (), 1000)
    yield Case("7.3.5", (closing(1000, b"*" * 123),), (), 1000)
    yield Case("7.3.6", (closing(1000, b"*" * 124),), (), 1002)
    yield Case("7.5.1", (closing(1000, NOT_UTF8),), (), 1007)
    for code in VALID_CODES:
        yield Case(f"7.7-{code}", (closing(code, b"why"),), (), code)
    for code in INVALID_CODES:
        yield Case(f"7.9-{code}", (closing(code, b"why"),), (), 1002)


def sizes() -> Iterator[Case]:
    for opcode in (TEXT, BINARY):
        whole = Frame(opcode, b"*" * MAX_SIZE)
        yield Case(f"9.{opcode}.1", (whole,), (whole,))
        yield Case(f"9.{opcode}.2", (Frame(opcode, b"*" * (MAX_SIZE + 1)),), (), 1009)
        yield Case(f"9.{opcode}.3", pieces(opcode, whole.payload, 4096), (whole,))
        yield Case(
            f"9.{opcode}.4", (*pieces(opcode, whole.payload, 65_536)[:-1], Frame(0, b"*" * 65_537)), (), 1009
        )
        yield Case(f"10.{opcode}.1", pieces(opcode, b"*" * 65_536, 1300), (Frame(opcode, b"*" * 65_536),))
    tiny = Frame(BINARY, b"x" * 16_384)
    yield Case("9.5", pieces(BINARY, tiny.payload, 1), (tiny,))


CASES = [
    case
    for group in (
        framing,
        pings,
        reserved_bits,
        opcodes,
        fragmentation,
        utf8_framing,
        utf8,
        closes,
        sizes,
    )
    for case in group()
]
SIDES = {"server": client_of, "client": server_of}


def tell(peer: Peer, case: Case, *, in_bytes: bool) -> None:
    """Sends what is to be sent; a side that has closed meanwhile need not take the rest."""
    data = peer.bytes_of(*case.sent)
    try:
        for byte in data if in_bytes else ():
            peer.socket.sendall(bytes([byte]))
            gevent.sleep(0)
        if not in_bytes:
            peer.socket.sendall(data)
    except OSError:
        assert case.code


def is_control(frame: Frame) -> bool:
    return frame.opcode >= CLOSE


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_answer_is_what_the_protocol_demands(case, side):
    size = sum(len(part if isinstance(part, bytes) else part.payload) + 2 for part in case.sent)
    for in_bytes in (False, True) if size <= SHORT and not case.at_once else (False,):
        with gevent.Timeout(20), SIDES[side]() as peer:
            tell(peer, case, in_bytes=in_bytes)
            back = [peer.read() for _ in case.back]
            # Pongs may overtake messages (RFC 6455, section 5.5.3).
            assert sorted(back, key=is_control) == sorted(case.back, key=is_control)
            if case.code is None:
                peer.send(closing(1000))
            closed = peer.read()
            assert (closed.opcode, closed.payload[:2]) == (CLOSE, (case.code or 1000).to_bytes(2, "big"))
            peer.read_end()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG, CLOSE])
@pytest.mark.parametrize("payload", [b"", b"xx"])
def test_a_client_must_mask_its_frames_and_a_server_must_not(side, opcode, payload):
    with gevent.Timeout(20), SIDES[side]() as peer:
        peer.send(Frame(opcode, payload).built(mask=not peer.is_client))
        assert peer.read().payload[:2] == (1002).to_bytes(2, "big")
        peer.read_end()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    "length", ["7e0005", "7e007d", "7f0000000000000100", "7f000000000000ffff", "7f8000000000000000"]
)
def test_a_length_that_is_not_in_its_shortest_form_is_refused(side, length):
    with gevent.Timeout(20), SIDES[side]() as peer:
        head = bytes.fromhex(length)
        peer.send(b"\x82" + bytes([head[0] | (0x80 if peer.is_client else 0)]) + head[1:] + b"\0\0\0\0")
        assert peer.read().payload[:2] == (1002).to_bytes(2, "big")
        peer.read_end()


@pytest.mark.parametrize("side", SIDES)
def test_a_flood_of_pings_is_answered_in_order(side):
    with gevent.Timeout(20), SIDES[side]() as peer:
        numbers = [str(number).encode() for number in range(5000)]
        sending = gevent.spawn(peer.send, *(Frame(PING, number) for number in numbers))
        assert [peer.read() for _ in numbers] == [Frame(PONG, number) for number in numbers]
        sending.get()
        peer.send(Frame(TEXT, b"still here"))
        assert peer.read() == Frame(TEXT, b"still here")


def send_for_ever(peer: Peer, data: bytes) -> None:
    while True:
        peer.socket.sendall(data)


@pytest.mark.parametrize("side", SIDES)
def test_who_floods_with_pings_and_takes_no_pongs_is_disconnected(side):
    ended = []

    def serve(connection):
        echo(connection)
        ended.append(connection.close_code)

    with gevent.Timeout(20), SIDES[side](serve, max_pending=100) as peer:
        flood = peer.bytes_of(Frame(PING, b"x" * 125)) * 500
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            send_for_ever(peer, flood)
        while not ended:
            gevent.sleep(0.001)
        assert ended == [1008]


@pytest.mark.parametrize("side", SIDES)
def test_what_comes_after_our_own_close_is_not_received(side):
    received = []

    def serve(connection):
        received.append(connection.receive())
        connection.close(4000, "enough")
        received.append(connection.receive())

    with gevent.Timeout(20), SIDES[side](serve) as peer:
        peer.send(Frame(TEXT, b"first"))
        assert peer.read() == closing(4000, b"enough")
        peer.send(Frame(TEXT, b"too late"), closing(4000))
        peer.read_end()
    assert received == ["first", None]


@pytest.mark.parametrize("side", SIDES)
def test_each_frame_of_a_client_has_a_mask_of_its_own(side):
    with gevent.Timeout(20), SIDES[side]() as peer:
        peer.send(*[Frame(BINARY, bytes(8))] * 50)
        raw = set()
        for _ in range(50):
            raw.add(peer._take(14 if side == "client" else 10))
        assert len(raw) == (50 if side == "client" else 1)
