"""Whatever is wrong with a log-in, the answer is the same to the byte, and so is the work; how long it takes is for the benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, event

from junctor.server.sso import pbkdf2
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.http import refused
from junctor.server.sso.login import Credentials
from junctor.sql.secrets import Keyring
from tests.helpers.second_factors import SecondFactors
from tests.helpers.sso import PASSWORD

QUIET = {
    "login_inform_if_locked": False,
    "login_inform_if_not_confirmed": False,
    "login_inform_if_not_approved": False,
    "login_inform_if_totp_missing": False,
    "password_inform_if_expired": False,
    "password_inform_if_must_be_changed": False,
}


@dataclass(frozen=True)
class Seen:
    """What an attacker could see of an attempt, and what makes it take time."""

    answer: bytes
    retry_after: int
    rounds: int
    statements: tuple[str, ...]


@pytest.fixture
def sso(module_engine: Engine, keyring: Keyring) -> Iterator[SecondFactors]:
    """A worker that tells nothing, with a user in each state; none of them fails so often that it has to wait."""
    made = SecondFactors(module_engine, keyring, throttle_free_failures=50, **QUIET)
    made.user("right")
    for name, columns in (
        ("locked", {"is_locked": True}),
        ("unconfirmed", {"sign_up_status": "before_confirmation"}),
        ("undecided", {"approval_status": "before_decision"}),
        ("rejected", {"approval_status": "rejected"}),
        ("expired", {"password_expiry": "2020-01-01"}),
        ("must-change", {"password_must_change": True}),
        ("outdated", {"password": str(pbkdf2.made(PASSWORD.encode(), 1000, 16)), "is_locked": True}),
    ):
        made.change(made.user(name), **columns)
    user, _ = made.with_totp("totp")
    made.change(user, password=made.sso.passwords.hashed(PASSWORD))
    yield made
    made.stop()


@pytest.fixture
def seen(sso: SecondFactors, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Logs in, and returns what is seen of it."""
    rounds: list[int] = []
    statements: list[str] = []
    derive = pbkdf2.derive

    def counted(password: bytes, salt: bytes, many: int, digest: str = "sha512") -> bytes:
        rounds.append(many)
        return derive(password, salt, many, digest)

    def executed(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(" ".join(statement.split())[:60])

    monkeypatch.setattr(pbkdf2, "derive", counted)
    event.listen(sso.store.engine, "before_cursor_execute", executed)

    def log_in(username: str, password: str, **more: Any) -> Seen:
        rounds.clear()
        statements.clear()
        with pytest.raises(ValidationError) as caught:
            sso.sso.login.log_in(sso.caller(), Credentials(username=username, password=password, **more))
        # The trail is written by a greenlet of its own, together with other events.
        counted = tuple(statement for statement in statements if "audit_event" not in statement)
        error = caught.value
        return Seen(orjson.dumps(refused("cid", error)), error.retry_after, sum(rounds), counted)

    yield log_in
    event.remove(sso.store.engine, "before_cursor_execute", executed)


ATTEMPTS = [
    ("right", "wrong"),
    ("locked", "wrong"),
    ("locked", PASSWORD),
    ("unconfirmed", PASSWORD),
    ("undecided", PASSWORD),
    ("rejected", PASSWORD),
    ("expired", PASSWORD),
    ("must-change", PASSWORD),
    ("outdated", "wrong"),
    ("outdated", PASSWORD),
    ("totp", "wrong"),
    ("totp", PASSWORD),
]


@pytest.mark.parametrize(("username", "password"), ATTEMPTS)
def test_an_unknown_user_is_not_told_from_any_other_refusal(seen: Any, username: str, password: str) -> None:
    assert seen("nobody", PASSWORD) == seen(username, password)


@pytest.mark.parametrize(
    ("username", "password"), [("right", "wrong"), ("locked", "wrong"), ("totp", "wrong")]
)
def test_a_code_with_a_wrong_password_is_not_told_from_one_that_is_wrong(
    seen: Any, username: str, password: str
) -> None:
    nobody = seen("nobody", PASSWORD, totp_code="000000")
    other = seen(username, password, totp_code="000000")
    wrong_code = seen("totp", PASSWORD, totp_code="000000")

    assert nobody.answer == other.answer == wrong_code.answer
    assert nobody.rounds == other.rounds == wrong_code.rounds
    assert other.statements == wrong_code.statements
    assert abs(len(nobody.statements) - len(wrong_code.statements)) <= 1


def test_a_wait_is_the_same_for_users_and_for_nobody(sso: SecondFactors, seen: Any) -> None:
    sso.settings(throttle_free_failures=3)
    waits = []
    for username, password in (("nobody", PASSWORD), ("right", "wrong"), ("locked", PASSWORD)):
        for _ in range(3):
            seen(username, password)
        waits.append(seen(username, PASSWORD))

    assert waits[0] == waits[1] == waits[2]
    assert (waits[0].retry_after, waits[0].rounds) == (1, 0)
