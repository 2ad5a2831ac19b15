"""Another key for the data of users: everything can still be read, and is found, once the earlier key is gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, text, update

from junctor.sql import rekey_sso
from junctor.sql.rekey import outdated, rekey
from junctor.sql.secrets import PREFIX, Keyring, new_key_line, parse_keys
from junctor.sql.store import Store
from junctor.sql.tables.sso import SsoRecoveryCode, SsoUser
from tests.helpers.sso import PASSWORD, SsoUnderTest

OLD, NEW = new_key_line(), new_key_line()
EMAIL = "Alice.Ærøe@example.com"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rekey_sso, "BATCH", 2)


@pytest.fixture
def old(engine: Engine) -> SsoUnderTest:
    """A worker with the old key: five users, attributes, tokens and a second factor."""
    sso = SsoUnderTest(Store.create(engine, "rekey", Keyring(parse_keys(OLD))))
    alice = sso.user("alice", email=EMAIL)
    for number in range(4):
        sso.user(f"user{number}", email=f"user{number}@example.com")
    sso.change(alice, totp_key_sealed=sso.sso.protection.seal("JBSWY3DP", "sso_user.totp_key"))
    caller = sso.caller(sso.log_in())
    sso.sso.attributes.of_user(caller).create("iban", "DE89", encrypt=True)
    sso.sso.attributes.of_user(caller).create("plain", PREFIX + "no secret")
    sso.sso.attributes.of_session(caller).create("cart", [1], encrypt=True)
    return sso


def worker(engine: Engine, keys: str) -> SsoUnderTest:
    return SsoUnderTest(Store.open(engine, "rekey", Keyring(parse_keys(keys))))


def test_everything_is_read_and_found_under_the_new_key_alone(old: SsoUnderTest, engine: Engine) -> None:
    both = Store.open(engine, "rekey", Keyring(parse_keys(NEW + OLD)))
    token = _issued(old)
    before = outdated(both)

    done = rekey(both)

    assert before == done
    assert (done.changed, done.unreadable) == (done.total, 0)
    assert done.total == 5 + 5 + 1 + 2 + 1  # passwords, e-mails, second factor, attributes, token
    assert rekey(both).changed == outdated(both).changed == 0
    new = worker(engine, NEW)
    alice = new.sso.users.by_email(EMAIL.upper())
    assert alice is not None
    assert new.sso.users.email_of(alice) == EMAIL
    assert new.sso.passwords.verify(alice, PASSWORD).is_right
    assert new.sso.protection.unseal(alice.totp_key_sealed, "sso_user.totp_key") == "JBSWY3DP"
    attributes = new.sso.attributes.of_user(new.trusted(), alice.user_id)
    assert {name: made.value for name, made in attributes.to_dict().items()} == {
        "iban": "DE89",
        "plain": PREFIX + "no secret",
    }
    both_keys = SsoUnderTest(both)
    with both.engine.begin() as connection:
        assert both_keys.sso.one_time.use(connection, "confirm", token).data == EMAIL  # type: ignore[union-attr]  # it is one


def _issued(sso: SsoUnderTest) -> str:
    user = sso.by_name("alice")
    with sso.store.engine.begin() as connection:
        return sso.sso.one_time.issue(connection, user.id, "confirm", minutes=60, data=EMAIL)


def test_addresses_that_are_not_encrypted_are_indexed_anew(old: SsoUnderTest, engine: Engine) -> None:
    old.settings(encrypt_email=False)
    old.user("plain", email="plain@example.com")

    rekey(Store.open(engine, "rekey", Keyring(parse_keys(NEW + OLD))))

    found = worker(engine, NEW).sso.users.by_email("plain@example.com")
    assert found is not None
    assert found.username == "plain"


def test_what_was_interrupted_goes_on(
    old: SsoUnderTest, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = Store.open(engine, "rekey", Keyring(parse_keys(NEW + OLD)))
    total = outdated(both).total
    written: list[Any] = []
    renew = rekey_sso._renew

    def interrupted(*given: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        renew(*given)
        written.append(given)

    monkeypatch.setattr(rekey_sso, "_renew", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rekey(both)
    monkeypatch.setattr(rekey_sso, "_renew", renew)

    assert rekey(both).changed == total - 4


def test_what_no_key_fits_stays_and_is_counted(old: SsoUnderTest, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            update(SsoUser).where(SsoUser.username == "user1").values(password=f"{PREFIX}gone.AAAA")
        )

    done = rekey(Store.open(engine, "rekey", Keyring(parse_keys(NEW + OLD))))

    assert done.unreadable == 1
    with engine.connect() as connection:
        stored = connection.scalar(select(SsoUser.password).where(SsoUser.username == "user1"))
    assert stored == f"{PREFIX}gone.AAAA"


def test_sessions_go_on_until_the_old_key_is_removed(old: SsoUnderTest, engine: Engine) -> None:
    ust = old.log_in()

    assert worker(engine, NEW + OLD).sso.sessions.find(ust)
    assert worker(engine, NEW).sso.sessions.find(ust) is None


def test_it_is_told_what_ends_with_an_earlier_key(old: SsoUnderTest, engine: Engine) -> None:
    alice = old.by_name("alice")
    with engine.begin() as connection:
        values = {"user_id": alice.id, "code_mac": b"x"}
        connection.execute(insert(SsoRecoveryCode).values([values, values]))
    both = Store.open(engine, "rekey", Keyring(parse_keys(NEW + OLD)))

    later = rekey_sso.ending(both, datetime.now(UTC) + timedelta(minutes=1))
    earlier = rekey_sso.ending(both, datetime.now(UTC) - timedelta(minutes=1))

    events = len(old.events())
    assert later == {"sessions": 1, "recovery codes": 2, rekey_sso.AUDIT_SEALS: events}
    assert earlier == {rekey_sso.AUDIT_SEALS: events}


def test_nothing_waits_for_a_row_that_somebody_reads(old: SsoUnderTest, engine: Engine) -> None:
    with engine.connect() as reader:
        reader.execute(text("SELECT * FROM sso_user"))

        assert rekey(Store.open(engine, "rekey", Keyring(parse_keys(NEW + OLD)))).changed
