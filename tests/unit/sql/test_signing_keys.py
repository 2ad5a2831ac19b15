"""The keys of JSON Web Tokens: which texts are some, and what is said of the others."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from junctor.sql.signing_keys import MAX_KEYS, private_key, problems, public_keys, shared_keys
from tests.helpers.rsa_pem import private_pem, public_pem

SHARED_KEY = "k" * 32
EC_KEY = ec.generate_private_key(ec.SECP256R1())
EC_PRIVATE = EC_KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
EC_PUBLIC = (
    EC_KEY.public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def weak() -> RSAPrivateKey:
    return rsa.generate_private_key(65537, 1024)


def test_shared_keys_are_lines_of_which_white_space_around_them_is_no_part() -> None:
    assert shared_keys(f"\r\n {SHARED_KEY}1 \r\n\n{SHARED_KEY}2") == [b"k" * 32 + b"1", b"k" * 32 + b"2"]
    assert shared_keys("  \n ") == []
    assert shared_keys("ä" * 16) == ["ä".encode() * 16]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("k" * 31, "at least 32 bytes"),
        (f"{SHARED_KEY}\nshort", "at least 32 bytes"),
        (EC_PUBLIC, "is in PEM"),
        ("\n".join([SHARED_KEY] * (MAX_KEYS + 1)), "more than 20 keys, has 21"),
    ],
)
def test_weak_shared_keys_and_keys_of_another_form_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        shared_keys(text)
    assert SHARED_KEY not in str(refused.value)


def test_an_rsa_key_in_pem_is_a_private_key(key: RSAPrivateKey) -> None:
    assert private_key(private_pem(key)).private_numbers() == key.private_numbers()
    traditional = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()
    assert private_key(f"\n{traditional}\n").key_size == 2048


def test_what_is_no_strong_rsa_private_key_is_refused(key: RSAPrivateKey, weak: RSAPrivateKey) -> None:
    for text, message in (
        ("no key", "in PEM"),
        (public_pem(key), "in PEM"),
        (private_pem(key).replace("MII", "AAA", 1), "in PEM"),
        (private_pem(key, b"secret"), "without a passphrase"),
        (EC_PRIVATE, "of another kind"),
        (private_pem(weak), "of 2048 to 4096 bits; there is one of 1024"),
    ):
        with pytest.raises(ValueError, match=message) as refused:
            private_key(text)
        assert "MII" not in str(refused.value)


def test_a_private_key_whose_numbers_do_not_fit_is_refused(key: RSAPrivateKey) -> None:
    other = rsa.generate_private_key(65537, 2048).private_numbers()
    mine = key.private_numbers()
    public = rsa.RSAPublicNumbers(65537, mine.public_numbers.n)
    mixed = rsa.RSAPrivateNumbers(mine.p, mine.q, other.d, mine.dmp1, mine.dmq1, other.iqmp, public)
    broken = mixed.private_key(unsafe_skip_rsa_key_validation=True)
    with pytest.raises(ValueError, match=r"is damaged|in PEM"):
        private_key(private_pem(broken))


def test_public_keys_are_one_pem_after_the_other(key: RSAPrivateKey) -> None:
    other = rsa.generate_private_key(65537, 2048)
    found = public_keys(f"\n{public_pem(key)}\n\n{public_pem(other)}")
    assert [one.public_numbers() for one in found] == [
        key.public_key().public_numbers(),
        other.public_key().public_numbers(),
    ]
    pkcs1 = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1)
    assert len(public_keys(pkcs1.decode())) == 1
    assert public_keys(" \n") == []


def test_whatever_else_is_among_public_keys_is_refused(key: RSAPrivateKey, weak: RSAPrivateKey) -> None:
    good = public_pem(key)
    certificate = good.replace("PUBLIC KEY", "CERTIFICATE")
    for text, message in (
        (private_pem(key), "has a private key"),
        (good + private_pem(key), "has a private key"),
        (certificate, "has a certificate"),
        (good + "more", "nothing else"),
        ("no key", "nothing else"),
        (good.replace("MII", "AAA", 1), "cannot be read"),
        (EC_PUBLIC, "of another kind"),
        (public_pem(weak), "there is one of 1024"),
        (good * (MAX_KEYS + 1), "more than 20 keys"),
    ):
        with pytest.raises(ValueError, match=message):
            public_keys(text)


def test_problems_are_told_by_field_and_all_at_once(key: RSAPrivateKey) -> None:
    assert problems("HS256", "", "") == []
    assert problems("HS256", SHARED_KEY, " ") == []
    assert problems("RS256", private_pem(key), "") == []
    assert problems("RS256", "", public_pem(key)) == []
    assert [field for field, _ in problems("HS256", "short", "x")] == ["signing_key", "public_keys"]
    assert [field for field, _ in problems("HS256", SHARED_KEY, public_pem(key))] == ["public_keys"]
    assert [field for field, _ in problems("RS256", SHARED_KEY, "x")] == ["signing_key", "public_keys"]
    ((field, message),) = problems("RS256", "", "")
    assert field == "public_keys"
    assert message.endswith("without either, no token can be verified.")


def test_a_signing_key_that_cannot_be_looked_at_is_taken_as_it_is() -> None:
    assert problems("RS256", None, "") == []
    assert problems("HS256", None, "") == []
