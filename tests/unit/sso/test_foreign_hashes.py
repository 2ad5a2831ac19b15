"""Hashes of other systems: what is taken, what is right, and what would cost too much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from passlib import hash as passlib

from junctor.server.sso import foreign_hashes, pbkdf2
from tests.helpers.foreign_hashes import HASHES, PASSWORD, bcrypted

ALIENS = [
    "",
    "secret",
    "$1$abcdefgh$abcdefghijklmnopqrstuv",
    "$pbkdf2-sha512$0$c2FsdA$c2FsdA",
    "$pbkdf2-sha512$1000$c2FsdA$c2hvcnQ",
    "$pbkdf2-md5$1000$c2FsdA$c2FsdA",
    "$2b$12$tooshort",
    "$argon2id$v=19$nonsense",
    "$scrypt$ln=4,r=8,p=1$$",
    "pbkdf2_sha256$1000$$AAAA",
    "bcrypt_sha256$",
    "argon2$",
    "$2b$04$" + "é" * 53,
]
_SALT, _SUM = "c" * 22, "A" * 86
COSTLY = [
    f"$pbkdf2-sha512$10000001${_SALT}${_SUM}",
    f"$pbkdf2-sha512$999999999999${_SALT}${_SUM}",
    "$2b$16$" + "a" * 53,
    "$2b$03$" + "a" * 53,
    f"$argon2id$v=19$m=1048576,t=1,p=1${_SALT}${_SUM}",
    f"$argon2id$v=19$m=262144,t=5,p=1${_SALT}${_SUM}",
    f"$argon2id$v=19$m=1024,t=1000000,p=1${_SALT}${_SUM}",
    f"$argon2id$v=19$m=1024,t=1,p=500${_SALT}${_SUM}",
    f"$scrypt$ln=20,r=8,p=1${_SALT}${_SUM}",
    f"$scrypt$ln=17,r=8,p=16${_SALT}${_SUM}",
    f"$scrypt$ln=99,r=8,p=1${_SALT}${_SUM}",
]


@pytest.mark.parametrize("name", HASHES)
def test_a_hash_is_of_its_password_alone(name: str) -> None:
    hash_ = foreign_hashes.parsed(HASHES[name])

    assert hash_ is not None
    assert hash_.matches(PASSWORD.encode())
    assert not hash_.matches(b"another")
    assert not hash_.matches(b"")


@pytest.mark.parametrize("text", ALIENS)
def test_what_is_no_known_hash_is_none(text: str) -> None:
    assert foreign_hashes.parsed(text) is None


@pytest.mark.parametrize("text", COSTLY)
def test_a_hash_that_costs_too_much_to_compare_is_none(text: str) -> None:
    assert foreign_hashes.parsed(text) is None


def test_bcrypt_looks_at_as_much_of_a_long_password_as_it_ever_did() -> None:
    hash_ = foreign_hashes.parsed(bcrypted(b"x" * 72))

    assert hash_ is not None
    assert hash_.matches(b"x" * 80)


def test_a_password_that_bcrypt_cannot_have_is_wrong() -> None:
    hash_ = foreign_hashes.parsed(HASHES["bcrypt"])

    assert hash_ is not None
    assert not hash_.matches(b"\0")


def test_own_hashes_are_what_passlib_makes_of_the_same() -> None:
    made = pbkdf2.made(PASSWORD.encode(), 1000, 64)

    assert passlib.pbkdf2_sha512.verify(PASSWORD, str(made))
    assert pbkdf2.parsed(str(made)) == made


def test_a_hash_of_no_password_matches_nothing_and_has_the_form_of_any() -> None:
    made = pbkdf2.unmatched(1000, 64)

    assert not made.matches(b"")
    assert len(str(made)) == len(str(pbkdf2.made(b"", 1000, 64)))


@given(st.text(max_size=300))
def test_no_text_at_all_makes_parsing_fail(text: str) -> None:
    for prefix in ("", "$pbkdf2-sha512$1000$", "$2b$12$", "$argon2id$", "$scrypt$ln=4,r=8,p=1$", "argon2$"):
        foreign_hashes.parsed(prefix + text)
