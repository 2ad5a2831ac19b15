"""The keys of a definition: where they come from, and what they are called."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from junctor.server.security.jwt_keys import ClusterKeys, Keys, keys_of
from junctor.sql.errors import InvalidInput
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from tests.helpers.rsa_pem import private_pem, public_pem


def given(algorithm: str, signing_key: str = "", public_keys: str = "") -> Keys:
    """The keys of a definition, in a cluster with keys of its own."""
    keyring = Keyring(parse_keys(new_key_line()))
    return keys_of(algorithm, signing_key, public_keys, cluster=ClusterKeys(keyring, 1, "x"))


def ids(keys: Keys) -> list[str]:
    return [key.id for key in keys.all()]


def test_keys_of_the_cluster_are_the_same_on_all_of_its_servers() -> None:
    text = new_key_line() + new_key_line()
    one, other = (ClusterKeys(Keyring(parse_keys(text)), 7, "secret") for _ in range(2))
    assert one.all() == other.all()
    assert len(one.all()) == 2


def test_keys_of_the_cluster_are_of_one_definition_and_of_one_password() -> None:
    keyring = Keyring(parse_keys(new_key_line()))
    made = [ClusterKeys(keyring, *of).all()[0] for of in ((7, "a"), (8, "a"), (7, "b"), (7, ""))]
    assert len({key.id for key in made}) == 4
    assert len({key.verifier for key in made}) == 4


def test_a_new_key_of_the_keyring_signs_and_the_old_one_still_verifies(tmp_path: Path) -> None:
    path, old, new = tmp_path / "keyring", new_key_line(), new_key_line()
    path.write_text(old)
    keys = ClusterKeys(Keyring.load(path), 7, "secret")
    before = ids(keys)
    assert not keys.reload()
    path.write_text(new + old)
    assert ids(keys) == before
    assert keys.reload()
    assert ids(keys)[1:] == before


def test_a_keyring_that_cannot_be_read_any_more_is_logged_and_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keyring"
    path.write_text(new_key_line())
    keys = ClusterKeys(Keyring.load(path), 7, "secret")
    before = ids(keys)
    path.write_text("damaged\n")
    assert not keys.reload()
    assert ids(keys) == before
    assert "there are no new ones" in caplog.text


def test_shared_keys_are_known_by_the_same_id_wherever_they_are() -> None:
    keys = given("HS256", "k" * 32 + "\n" + "l" * 40)
    assert ids(keys) == ids(given("HS256", "k" * 32)) + ids(given("HS256", "l" * 40))
    assert all(key.signer for key in keys.all())
    assert not keys.reload()


def test_without_keys_of_its_own_a_definition_has_the_clusters() -> None:
    assert isinstance(given("HS256"), ClusterKeys)
    assert isinstance(given("HS256", " \n"), ClusterKeys)


def test_an_rsa_key_is_known_by_its_thumbprint(rsa_keys: list[RSAPrivateKey]) -> None:
    """The example of RFC 7638, section 3.1."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhM"
        "stn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5"
        "hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    public = rsa.RSAPublicNumbers(65537, int.from_bytes(urlsafe_b64decode(modulus + "=="))).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert ids(given("RS256", "", pem.decode())) == ["NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"]


def test_the_private_key_comes_first_and_no_key_twice(rsa_keys: list[RSAPrivateKey]) -> None:
    own, other, _ = rsa_keys
    keys = given("RS256", private_pem(own), public_pem(other) + public_pem(own) + public_pem(other))
    assert [key.signer is not None for key in keys.all()] == [True, False]
    assert len(set(ids(keys))) == 2


def test_keys_that_are_none_are_refused_with_all_problems() -> None:
    with pytest.raises(InvalidInput) as refused:
        given("HS256", "canary-too-short", "x")
    assert [problem.field for problem in refused.value.problems] == ["signing_key", "public_keys"]
    assert "canary" not in str(refused.value)


def test_keys_do_not_show_themselves() -> None:
    (key,) = given("HS256", "canary" + "k" * 32).all()
    assert "canary" not in repr(key)
