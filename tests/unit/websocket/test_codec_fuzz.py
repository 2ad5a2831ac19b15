"""Whatever bytes come, and however they are cut: messages, or a violation that says what is wrong, and nothing else."""

from __future__ import annotations

import zlib
from contextlib import suppress
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from junctor.server.websocket import deflate
from junctor.server.websocket.sender import build_frame
from junctor.server.websocket.stream import FrameReader, Violation
from tests.helpers.websocket_peer import Frame

MAX_SIZE = 3000  # bytes


def compressed(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-15)
    return (made.compress(data) + made.flush(zlib.Z_SYNC_FLUSH))[:-4]


payloads = st.binary(max_size=200) | st.text(max_size=80).map(str.encode) | st.just(b"x" * 2900)
frames = st.builds(
    Frame,
    opcode=st.sampled_from([0, 1, 1, 2, 8, 9, 10, 3]),
    payload=payloads | payloads.map(compressed) | st.integers(900, 5100).map(lambda n: n.to_bytes(2, "big")),
    fin=st.sampled_from([1, 1, 1, 0]),
    rsv=st.sampled_from([0, 0, 0, 0, 4, 4, 1]),
)


def outcome(data: bytes, cuts: list[int], *, is_client: bool, inflates: bool) -> tuple[Any, ...]:
    """All that a reader makes of some bytes that come in these pieces."""
    heard: list[tuple[str, bytes]] = []
    reader = FrameReader(
        is_client=is_client,
        max_size=MAX_SIZE,
        on_ping=lambda payload: heard.append(("ping", payload)),
        on_pong=lambda payload: heard.append(("pong", payload)),
        decompress=deflate.decompress if inflates else None,
    )
    violation = None
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    try:
        for start, end in pairwise(edges):
            reader.feed(data[start:end])
    except Violation as found:
        violation = found.code
    assert all(len(m.encode() if isinstance(m, str) else m) <= MAX_SIZE for m in reader.messages)
    return list(reader.messages), heard, reader.closing, violation


@given(st.binary(max_size=400), st.lists(st.integers(0, 10_000), max_size=8), st.booleans(), st.booleans())
def test_any_bytes_are_understood_or_a_violation(
    data: bytes, cuts: list[int], is_client: bool, inflates: bool
) -> None:
    options = {"is_client": is_client, "inflates": inflates}
    assert outcome(data, cuts, **options) == outcome(data, [], **options)


@given(
    st.lists(frames, max_size=8),
    st.lists(st.integers(0, 100_000), max_size=8),
    st.booleans(),
    st.booleans(),
)
def test_it_does_not_matter_how_frames_are_cut(
    sent: list[Frame], cuts: list[int], is_client: bool, inflates: bool
) -> None:
    data = b"".join(frame.built(mask=not is_client) for frame in sent)
    options = {"is_client": is_client, "inflates": inflates}
    assert outcome(data, cuts, **options) == outcome(data, [], **options)


@given(
    st.lists(st.text(max_size=300) | st.binary(max_size=300), max_size=10), st.integers(1, 50), st.booleans()
)
def test_what_one_side_sends_the_other_receives(
    messages: list[str | bytes], piece: int, is_client: bool
) -> None:
    data = b"".join(
        build_frame(0x81, message.encode(), mask=not is_client)
        if isinstance(message, str)
        else build_frame(0x82, message, mask=not is_client)
        for message in messages
    )
    cuts = list(range(0, len(data), piece))
    assert outcome(data, cuts, is_client=is_client, inflates=False) == (messages, [], None, None)


@given(st.binary(max_size=5000))
def test_any_bytes_are_decompressed_within_the_limit_or_a_violation(data: bytes) -> None:
    with suppress(Violation):
        assert len(deflate.decompress(data, MAX_SIZE)) <= MAX_SIZE


@given(st.binary(max_size=3000), st.integers(deflate.MIN_BITS, deflate.MAX_BITS))
def test_what_was_compressed_comes_back(data: bytes, bits: int) -> None:
    message = data + bytes(range(256)) + data
    assert deflate.decompress(deflate.compress(message, bits), len(message)) == message
    assert deflate.decompress(deflate.compress(b"", bits), 10) == b""


@given(st.text(max_size=200))
def test_any_offer_of_extensions_has_an_answer(offers: str) -> None:
    agreed = deflate.accept("permessage-deflate;" + offers)
    assert agreed is None or deflate.MIN_BITS <= agreed.bits <= deflate.MAX_BITS
    deflate.accepted("permessage-deflate;" + offers)
