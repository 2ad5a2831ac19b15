"""Password hashes as they are stored, verified and replaced."""

from __future__ import annotations

import os
import threading

import gevent
import pytest

from junctor.server.sso import pbkdf2
from junctor.server.sso.cpu_thread import CpuThread
from junctor.server.sso.errors import ValidationError
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from tests.helpers.foreign_hashes import HASHES
from tests.helpers.foreign_hashes import PASSWORD as FOREIGN_PASSWORD
from tests.helpers.sso import PASSWORD, SsoUnderTest


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rounds of each computation from now on."""
    computed: list[int] = []
    derive = pbkdf2.derive

    def counted(password: bytes, salt: bytes, rounds: int, digest: str = "sha512") -> bytes:
        computed.append(rounds)
        return derive(password, salt, rounds, digest)

    monkeypatch.setattr(pbkdf2, "derive", counted)
    return computed


def test_a_stored_hash_is_sealed_and_verifies(sso: SsoUnderTest) -> None:
    user = sso.user()

    assert user.password.startswith("junctor.1.")
    verdict = sso.sso.passwords.verify(user, PASSWORD)
    assert (verdict.is_right, verdict.is_outdated) == (True, False)
    assert not sso.sso.passwords.verify(user, PASSWORD + "!").is_right


def test_a_hash_is_plain_if_hashes_are_not_to_be_encrypted(sso: SsoUnderTest) -> None:
    sso.settings(encrypt_password=False)

    stored = sso.sso.passwords.hashed(PASSWORD)

    assert stored.startswith("$pbkdf2-sha512$1000$")
    assert sso.sso.passwords.verify(sso.user(), PASSWORD).is_right


def test_composed_and_decomposed_characters_are_the_same_password(sso: SsoUnderTest) -> None:
    user = sso.user(password="Grüße aus Köln im Schnee")

    assert sso.sso.passwords.verify(user, "Gru\u0308ße aus Ko\u0308ln im Schnee").is_right


@pytest.mark.parametrize(
    "changes",
    [{"hash_secret_rounds": 1500}, {"hash_secret_salt_size": 32}, {"encrypt_password": False}],
    ids=str,
)
def test_a_hash_is_outdated_once_the_settings_are_others(
    sso: SsoUnderTest, changes: dict[str, object]
) -> None:
    user = sso.user()
    sso.settings(**changes)

    verdict = sso.sso.passwords.verify(user, PASSWORD)

    assert (verdict.is_right, verdict.is_outdated) == (True, True)


def test_a_hash_is_outdated_once_another_key_seals(sso: SsoUnderTest) -> None:
    user = sso.user()
    keyring = sso.store.keyring
    keyring._use({**parse_keys(new_key_line()), **keyring._keys})

    verdict = sso.sso.passwords.verify(user, PASSWORD)

    assert (verdict.is_right, verdict.is_outdated) == (True, True)


@pytest.mark.parametrize("name", [name for name in HASHES if name != "pbkdf2-sha512"])
def test_a_hash_of_another_system_verifies_and_is_always_outdated(sso: SsoUnderTest, name: str) -> None:
    user = sso.change(sso.user(), password=sso.sso.passwords.stored(HASHES[name]))

    assert HASHES[name] not in user.password
    verdict = sso.sso.passwords.verify(user, FOREIGN_PASSWORD)
    assert (verdict.is_right, verdict.is_outdated) == (True, True)
    assert not sso.sso.passwords.verify(user, "another").is_right


def test_what_is_no_hash_is_not_stored_and_not_told(sso: SsoUnderTest) -> None:
    with pytest.raises(ValidationError) as caught:
        sso.sso.passwords.stored("open sesame")

    assert caught.value.sub_status == ["E008002"]
    assert "sesame" not in str(caught.value)


def test_whatever_is_verified_costs_one_hash_of_the_current_settings(
    sso: SsoUnderTest, rounds: list[int]
) -> None:
    plain = sso.user("plain")
    weak = sso.change(sso.user("weak"), password=str(pbkdf2.made(PASSWORD.encode(), 1000, 64)))
    unset = sso.change(sso.user("unset"), password_is_set=False)
    sso.settings(hash_secret_rounds=5000)
    strong = sso.user("strong")
    passwords, costs = sso.sso.passwords, {}

    for name, user, password in (
        ("unknown", None, PASSWORD),
        ("wrong", strong, "wrong"),
        ("right", strong, PASSWORD),
        ("fewer rounds, wrong", weak, "wrong"),
        ("fewer rounds, right", plain, PASSWORD),
        ("no password", unset, PASSWORD),
    ):
        rounds.clear()
        passwords.verify(user, password)
        costs[name] = sum(rounds)

    assert set(costs.values()) == {5000}


def test_a_hash_of_another_system_costs_at_least_as_much(sso: SsoUnderTest, rounds: list[int]) -> None:
    user = sso.change(sso.user(), password=HASHES["bcrypt"])
    sso.settings(hash_secret_rounds=200_000)
    sso.sso.passwords.verify(None, "x")  # now it is known how long a round takes
    rounds.clear()

    sso.sso.passwords.verify(user, "wrong")

    assert 0 < rounds[0] <= 200_000


def test_a_hash_without_its_key_is_as_wrong_as_any(sso: SsoUnderTest, rounds: list[int]) -> None:
    other = Keyring(parse_keys(new_key_line())).encrypt(HASHES["bcrypt"], "sso_user.password")
    user = sso.change(sso.user(), password=other)
    rounds.clear()

    assert not sso.sso.passwords.verify(user, FOREIGN_PASSWORD).is_right
    assert sum(rounds) == 1000


def test_a_hash_does_not_fit_another_column(sso: SsoUnderTest) -> None:
    moved = sso.sso.protection.seal(HASHES["bcrypt"], "sso_user.email")
    user = sso.change(sso.user(), password=moved)

    assert not sso.sso.passwords.verify(user, FOREIGN_PASSWORD).is_right


def test_hashing_is_done_in_a_thread_that_lets_everybody_else_go_first(sso: SsoUnderTest) -> None:
    def look() -> tuple[int, int]:
        thread = threading.get_native_id()
        return thread, os.getpriority(os.PRIO_PROCESS, thread)

    before = os.getpriority(os.PRIO_PROCESS, 0)
    thread, niceness = sso.sso.passwords._thread.run(look)

    assert thread != threading.get_native_id()
    assert niceness == 19
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_others_go_on_while_a_password_is_hashed() -> None:
    thread, done, turns = CpuThread(), threading.Event(), []

    def others() -> None:
        turns.append(1)
        done.set()

    gevent.spawn(others)
    assert thread.run(lambda: done.wait(20))
    assert turns == [1]
    thread.stop()


def test_only_so_many_wait_for_the_thread() -> None:
    thread, go = CpuThread(most_waiting=2), threading.Event()
    waiting = [gevent.spawn(thread.run, lambda: go.wait(20)) for _ in range(2)]
    gevent.sleep(0)

    with pytest.raises(ValidationError) as caught:
        thread.run(lambda: None)

    assert caught.value.shown == ["E005009"]
    assert caught.value.retry_after > 0
    go.set()
    gevent.joinall(waiting, raise_error=True)
    assert thread.run(lambda: "free again") == "free again"
    thread.stop()
