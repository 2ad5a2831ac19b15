"""Messages between workers: who can open them, and how often."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junctor.server.websocket import relay_seal
from junctor.server.websocket.relay_seal import HEAD_SIZE, OVERHEAD, WINDOW, NotGenuine, Replays, Seals
from junctor.sql.secrets import Keyring, new_key_line, parse_keys

TARGET = "cluster/server1/7"
KEYS = parse_keys(new_key_line())
SENDER = b"s" * 16


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_message_is_opened_by_the_worker_that_it_is_for_and_answered() -> None:
    sender, receiver = Seals(Keyring(KEYS)), Seals(Keyring(KEYS))
    sealed = sender.seal(TARGET, b"a question")
    assert b"a question" not in sealed.message
    assert receiver.length(TARGET, sealed.message[:HEAD_SIZE]) == len(sealed.message) == OVERHEAD + 10
    opened = receiver.open(TARGET, sealed.message)
    assert opened.body == b"a question"
    answer = opened.seal_answer(b"an answer")
    assert b"an answer" not in answer
    assert sealed.open_answer(answer) == b"an answer"


def test_no_other_worker_and_no_other_cluster_opens_it() -> None:
    sealed = Seals(Keyring(KEYS)).seal(TARGET, b"secret")
    for other in ("cluster/server1/8", "cluster/server2/7", "other/server1/7"):
        with pytest.raises(NotGenuine, match="another worker"):
            Seals(Keyring(KEYS)).open(other, sealed.message)
        with pytest.raises(NotGenuine, match="another worker"):
            Seals(Keyring(KEYS)).length(other, sealed.message[:HEAD_SIZE])


def test_whoever_has_other_keys_opens_nothing_and_says_nothing() -> None:
    stranger, member = Seals(Keyring(parse_keys(new_key_line()))), Seals(Keyring(KEYS))
    with pytest.raises(NotGenuine, match="secret keys"):
        stranger.open(TARGET, member.seal(TARGET, b"x").message)
    with pytest.raises(NotGenuine, match="secret keys"):
        member.length(TARGET, stranger.seal(TARGET, b"x").message[:HEAD_SIZE])


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_a_message_with_any_byte_changed_is_refused(position: int, mask: int) -> None:
    sealed = Seals(Keyring(KEYS)).seal(TARGET, b"a question")
    changed = bytearray(sealed.message)
    changed[position % len(changed)] ^= mask
    with pytest.raises(NotGenuine):
        Seals(Keyring(KEYS)).open(TARGET, bytes(changed))


@given(st.binary(max_size=200))
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(NotGenuine):
        Seals(Keyring(KEYS)).open(TARGET, data)
    with pytest.raises(NotGenuine):
        Seals(Keyring(KEYS)).length(TARGET, data)


def test_an_answer_to_another_question_is_refused() -> None:
    sender, receiver = Seals(Keyring(KEYS)), Seals(Keyring(KEYS))
    one, other = sender.seal(TARGET, b"1"), sender.seal(TARGET, b"2")
    answer = receiver.open(TARGET, other.message).seal_answer(b"yes")
    for wrong in (answer, b"", answer[:-1], other.message):
        with pytest.raises(NotGenuine, match="not from the worker"):
            one.open_answer(wrong)


@pytest.mark.parametrize("late", [WINDOW + 1, -WINDOW - 1])
def test_a_message_from_too_long_ago_or_from_the_future_is_refused(late: float) -> None:
    clock = Clock()
    message = Seals(Keyring(KEYS), now=clock).seal(TARGET, b"x").message
    clock.now += late
    with pytest.raises(NotGenuine, match="clocks must agree"):
        Seals(Keyring(KEYS), now=clock).open(TARGET, message)


def test_a_message_is_in_time_within_the_window() -> None:
    clock = Clock()
    message = Seals(Keyring(KEYS), now=clock).seal(TARGET, b"x").message
    clock.now += WINDOW - 1
    assert Seals(Keyring(KEYS), now=clock).open(TARGET, message).body == b"x"


def test_servers_understand_each_other_while_keys_are_rotated(tmp_path: Path) -> None:
    path = tmp_path / "keyring"
    old, new = new_key_line(), new_key_line()
    path.write_text(old)
    not_restarted = Seals(Keyring.load(path))
    path.write_text(new + old)
    restarted = Seals(Keyring.load(path))
    assert restarted.open(TARGET, not_restarted.seal(TARGET, b"1").message).body == b"1"
    assert not_restarted.open(TARGET, restarted.seal(TARGET, b"2").message).body == b"2"


def test_a_message_is_new_once() -> None:
    replays = Replays()
    assert [replays.is_new(SENDER, number) for number in (1, 2, 2, 1, 3, 5, 4, 4)] == [
        True,
        True,
        False,
        False,
        True,
        True,
        True,
        False,
    ]
    assert replays.is_new(b"t" * 16, 5)


@given(st.lists(st.integers(min_value=1, max_value=300), max_size=300))
def test_every_number_is_new_exactly_once_in_any_order(numbers: list[int]) -> None:
    replays, seen = Replays(), set()
    for number in numbers:
        assert replays.is_new(SENDER, number) is (number not in seen)
        seen.add(number)


def test_what_is_older_than_all_that_is_remembered_is_not_new(monkeypatch: pytest.MonkeyPatch) -> None:
    replays = Replays()
    assert replays.is_new(SENDER, 10)
    assert replays.is_new(SENDER, 10 + relay_seal.REMEMBERED)
    assert not replays.is_new(SENDER, 10)
    assert replays.is_new(SENDER, 11)
    assert replays.is_new(SENDER, 10 + 3 * relay_seal.REMEMBERED)
    assert not replays.is_new(SENDER, 11)


def test_senders_are_forgotten_once_all_of_their_messages_are_too_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay_seal, "MAX_SENDERS", 2)
    clock = Clock()
    replays = Replays(now=clock)
    assert replays.is_new(b"a", 1)
    assert replays.is_new(b"b", 1)
    assert not replays.is_new(b"c", 1)
    assert replays.is_new(b"a", 2)
    clock.now += 2 * WINDOW + 2
    assert replays.is_new(b"c", 1)
    assert len(replays) == 1
