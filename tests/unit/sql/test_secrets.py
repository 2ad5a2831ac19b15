"""Secrets: encrypted under a key outside the database, bound to their field, never shown."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junctor.sql.errors import SecretUnreadable
from junctor.sql.secrets import ENVIRONMENT_VARIABLE, PREFIX, Keyring, Secret, new_key_line, parse_keys

FIELD = "security_basic_auth.password"
KEYS = Keyring(parse_keys(new_key_line()))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=600))
def test_what_was_encrypted_is_decrypted(value: str) -> None:
    assert KEYS.decrypt(KEYS.encrypt(value, FIELD), FIELD).reveal() == value


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=5, max_size=50))
def test_neither_the_stored_form_nor_the_fingerprint_has_the_secret_in_it(value: str) -> None:
    assert value not in KEYS.encrypt(value, FIELD)
    assert value not in KEYS.fingerprint(value)


def test_nothing_stays_nothing() -> None:
    assert KEYS.encrypt("", FIELD) == ""
    assert KEYS.decrypt("", FIELD) == Secret("")
    assert KEYS.fingerprint("") == ""
    assert not Secret("")


def test_one_secret_looks_different_each_time_that_it_is_stored() -> None:
    assert KEYS.encrypt("hunter2", FIELD) != KEYS.encrypt("hunter2", FIELD)


def test_a_stored_value_moved_to_another_field_is_not_readable() -> None:
    stored = KEYS.encrypt("hunter2", FIELD)
    with pytest.raises(SecretUnreadable, match="was changed"):
        KEYS.decrypt(stored, "security_api_key.key")


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_a_stored_value_with_any_byte_changed_is_not_readable(position: int, mask: int) -> None:
    stored = KEYS.encrypt("hunter2", FIELD)
    head, _, encoded = stored.rpartition(".")
    raw = bytearray(urlsafe_b64decode(encoded))
    raw[position % len(raw)] ^= mask
    with pytest.raises(SecretUnreadable):
        KEYS.decrypt(f"{head}.{urlsafe_b64encode(raw).decode()}", FIELD)


@pytest.mark.parametrize(
    "stored",
    [
        "hunter2",
        PREFIX,
        f"{PREFIX}{KEYS.active}",
        f"{PREFIX}{KEYS.active}.",
        f"{PREFIX}{KEYS.active}.x",
        f"{PREFIX}{KEYS.active}.AAAA",
        f"{PREFIX}{KEYS.active}.ą",
        f"junctor.2.{KEYS.active}.AAAA",
    ],
)
def test_a_value_that_is_no_encrypted_secret_is_not_readable(stored: str) -> None:
    with pytest.raises(SecretUnreadable) as caught:
        KEYS.decrypt(stored, FIELD)
    assert FIELD in caught.value.message
    assert "hunter2" not in caught.value.message


def test_a_value_of_an_unknown_key_names_the_key_that_is_missing() -> None:
    other = Keyring(parse_keys(new_key_line()))
    with pytest.raises(
        SecretUnreadable, match=f"with the key {other.active}; this environment has {KEYS.active}"
    ):
        KEYS.decrypt(other.encrypt("hunter2", FIELD), FIELD)


def test_a_key_that_was_added_to_the_file_is_found_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "keyring"
    old = new_key_line()
    path.write_text(old)
    running = Keyring.load(path)
    stored = running.encrypt("hunter2", FIELD)

    path.write_text(new_key_line() + old)
    rotated = Keyring.load(path)

    assert not rotated.is_current(stored)
    assert rotated.decrypt(stored, FIELD).reveal() == "hunter2"
    assert running.decrypt(rotated.encrypt("hunter3", FIELD), FIELD).reveal() == "hunter3"
    assert running.active == rotated.active


def test_a_file_that_lost_the_key_still_says_which_one_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "keyring"
    path.write_text(new_key_line())
    keyring = Keyring.load(path)
    with pytest.raises(SecretUnreadable, match="encrypted with the key"):
        keyring.decrypt(KEYS.encrypt("hunter2", FIELD), FIELD)


def test_the_first_key_of_the_file_is_the_active_one() -> None:
    first, second = new_key_line(), new_key_line()
    keyring = Keyring(parse_keys(f"# made today\n\n{first}{second}"))
    assert keyring.active == first.partition(":")[0]
    assert keyring.is_current(keyring.encrypt("hunter2", FIELD))
    assert keyring.is_current("")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the key file is empty"),
        ("# nothing\n\n", "the key file is empty"),
        ("abc", "Line 1 of the secret keys"),
        ("abc:", "Line 1"),
        ("abc:AAAA", "Line 1"),
        ("abc:%%%", "Line 1"),
        ("abc:ą", "Line 1"),
        (f"# comment\n:{new_key_line().partition(':')[2]}", "Line 2"),
        (f"a.b:{new_key_line().partition(':')[2]}", "Line 1"),
        ("same:" + new_key_line().partition(":")[2] + "same:" + new_key_line().partition(":")[2], "twice"),
    ],
)
def test_a_bad_key_file_is_refused_with_the_line(text: str, message: str) -> None:
    with pytest.raises(SecretUnreadable, match=message):
        parse_keys(text)


def test_the_message_about_a_bad_key_file_does_not_show_the_key() -> None:
    with pytest.raises(SecretUnreadable) as caught:
        parse_keys("abc:c2VjcmV0")
    assert "c2VjcmV0" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SecretUnreadable, match=r"cannot be read from .*nothing"):
        Keyring.load(tmp_path / "nothing")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "keyring"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SecretUnreadable, match=r"cannot be read from .*keyring"):
        Keyring.load(path)


def test_keys_given_in_the_environment_win_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_line, given_line = new_key_line(), new_key_line()
    path = tmp_path / "keyring"
    path.write_text(file_line)
    assert Keyring.load(path).active == file_line.partition(":")[0]

    monkeypatch.setenv(ENVIRONMENT_VARIABLE, given_line)
    assert Keyring.load(path).active == given_line.partition(":")[0]

    other = tmp_path / "other"
    other.write_text(given_line)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(other))
    assert Keyring.load(path).active == given_line.partition(":")[0]


def test_fingerprints_are_equal_for_equal_secrets_under_one_key_alone() -> None:
    other = Keyring(parse_keys(new_key_line()))
    assert KEYS.fingerprint("hunter2") == KEYS.fingerprint("hunter2")
    assert KEYS.fingerprint("hunter2") != KEYS.fingerprint("hunter3")
    assert KEYS.fingerprint("hunter2") != other.fingerprint("hunter2")
    assert len(KEYS.fingerprint("hunter2")) == 16


def test_key_lines_are_each_new() -> None:
    assert len({new_key_line() for _ in range(50)}) == 50


def test_a_secret_in_memory_shows_itself_to_nobody() -> None:
    secret = Secret("hunter2")
    assert secret.reveal() == "hunter2"
    for shown in (repr(secret), str(secret), f"{secret}", f"{[secret]}", ascii([secret])):
        assert "hunter2" not in shown
    with pytest.raises(TypeError):
        json.dumps(secret)


def test_secrets_are_compared_by_what_they_hold() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert {Secret("a"), Secret("a")} == {Secret("a")}


def test_a_keyring_reads_its_file_again_when_it_was_written_and_only_then(tmp_path: Path) -> None:
    path = tmp_path / "keyring"
    old, new = new_key_line(), new_key_line()
    path.write_text(old)
    keys = Keyring.load(path)
    assert not keys.reload()
    path.write_text(new + old)
    assert keys.reload()
    assert not keys.reload()
    assert len(keys.derive("something")) == 2
    assert not Keyring(parse_keys(old)).reload()
    path.write_text("no key\n")
    with pytest.raises(SecretUnreadable):
        keys.reload()
    assert not keys.reload()
    assert len(keys.derive("something")) == 2


def test_a_key_for_a_purpose_is_derived_from_each_key_the_newest_first() -> None:
    old, new = new_key_line(), new_key_line()
    before, after = Keyring(parse_keys(old)), Keyring(parse_keys(new + old))
    (derived,) = before.derive("jwt.7")
    assert after.derive("jwt.7")[1] == derived
    assert len(derived) == 32
    assert before.derive("jwt.7") == Keyring(parse_keys(old)).derive("jwt.7")
    assert len({*after.derive("jwt.7"), *after.derive("jwt.8"), *after.derive("")}) == 6
    assert not {key.decode("latin-1") for key in after.derive("encrypt")} & {
        key.decode("latin-1") for key in parse_keys(new + old).values()
    }
