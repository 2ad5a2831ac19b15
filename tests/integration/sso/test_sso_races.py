"""Two administrators and a thousand sessions at once, in processes of their own: no deadlock is seen, and all is right at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, text, update

from junctor.server.sso.errors import ValidationError
from junctor.server.sso.protection import username_key
from junctor.server.sso.records import User
from junctor.server.sso.sessions import Origin
from junctor.server.sso.user_state import is_usable
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from junctor.sql.store import Store
from junctor.sql.tables.sso import SsoUser
from tests.helpers.sso import ADDRESS, BROWSER, SsoUnderTest
from tests.helpers.sso_racer import PASSWORDS, Outcome, Task, race

USERS = 100
SESSIONS = 1000
PROCESSES = 2  # beside those of the administrators
SECONDS = 30.0  # at the most
CLUSTER = "races"


class Races:
    """What was there before, and what came of it."""

    def __init__(self, engine: Engine) -> None:
        self.keys = new_key_line()
        self.url = engine.url.render_as_string(hide_password=False)
        self.store = Store.create(engine, CLUSTER, Keyring(parse_keys(self.keys)))
        # by throttling, log-ins with what was the password until a moment ago would soon be refused, which is not what is tried here
        self.worker = SsoUnderTest(self.store, throttle_free_failures=50, throttle_address_limit=1_000_000)
        self.admins = [self.worker.user(f"root{number}", "", is_super_user=True) for number in (1, 2)]
        self.users = [self.worker.user(f"user{number}", "") for number in range(USERS)]
        stored = self.worker.sso.passwords.hashed(PASSWORDS[0])  # one hash is enough for all
        with self.store.engine.begin() as connection:
            connection.execute(
                update(SsoUser).where(SsoUser.username.startswith("user")).values(password=stored)
            )
            self.tokens = [
                (user.username, self._open(connection, user))
                for user in self.users
                for _ in range(SESSIONS // USERS)
            ]

    def _open(self, connection: Connection, user: User) -> str:
        origin = Origin(factors=("pwd",), remote_addr=ADDRESS, user_agent=BROWSER)
        return self.worker.sso.sessions.open(connection, user, self.worker.caller(), origin).ust

    def run(self) -> list[Outcome]:
        """The race."""
        base = {
            "url": self.url,
            "keys": self.keys,
            "cluster": CLUSTER,
            "seconds": SECONDS,
        }
        listed = [(user.user_id, user.username) for user in self.users]
        tasks = [
            Task(
                **base,
                seed=number,
                admin=self.worker.log_in(user.username),
                rival=rival.user_id,
                users=listed,
            )
            for number, (user, rival) in enumerate(zip(self.admins, reversed(self.admins), strict=True))
        ]
        tasks += [
            Task(**base, seed=10 + number, tokens=self.tokens[number::PROCESSES])
            for number in range(PROCESSES)
        ]
        return race(tasks)


@pytest.fixture(scope="module")
def races(module_engine: Engine) -> Iterator[Races]:
    made = Races(module_engine)
    yield made
    made.worker.stop()


@pytest.fixture(scope="module")
def outcomes(races: Races) -> list[Outcome]:
    return races.run()


def test_no_caller_sees_an_error_that_is_no_refusal(outcomes: list[Outcome]) -> None:
    assert [error for outcome in outcomes for error in outcome.errors] == []
    done = sum((Counter(outcome.done) for outcome in outcomes), Counter[str]())
    for what in (
        "link",
        "renew",
        "get",
        "list",
        "end others",
        "log out",
        "log in",
        "lock",
        "unlock",
        "approve",
        "reject",
        "password",
        "rename",
        "create",
        "delete",
    ):
        assert done[what], f"{what} never succeeded: {[outcome.refused for outcome in outcomes]}"


def test_no_session_is_left_of_somebody_who_cannot_use_one(races: Races, outcomes: list[Outcome]) -> None:
    with races.store.engine.connect() as connection:
        wrong = connection.execute(
            text("""
                SELECT u.username, u.is_locked, u.approval_status, s.creation_time, u.password_last_set
                FROM sso_session s JOIN sso_user u ON u.id = s.user_id
                WHERE u.is_locked OR u.approval_status <> 'approved' OR s.creation_time < u.password_last_set
            """)
        ).all()
    assert [row for row in wrong if not row.username.startswith("root")] == []
    fresh = SsoUnderTest(races.store)
    valid = 0
    for outcome in outcomes:
        for _, ust in outcome.tokens:
            try:
                session = fresh.sso.gate.session(fresh.caller(ust))
            except ValidationError:
                continue
            assert session is not None
            assert is_usable(fresh.reload(session.user_id))
            valid += 1
    assert valid
    fresh.stop()


def test_names_are_unique_in_any_case_and_their_keys_fit(races: Races, outcomes: list[Outcome]) -> None:
    del outcomes
    with races.store.engine.connect() as connection:
        rows = connection.execute(text("SELECT username, username_key FROM sso_user")).all()
    assert all(row.username_key == username_key(row.username) for row in rows)
    assert len({row.username_key for row in rows}) == len(rows) > USERS / 3
    assert any(row.username.lower().startswith("pool") for row in rows)


def test_of_two_super_users_who_lock_each_other_one_is_left(races: Races, outcomes: list[Outcome]) -> None:
    del outcomes
    assert [is_usable(races.worker.reload(admin)) for admin in races.admins].count(True) == 1


def test_every_change_was_audited_and_the_chain_is_whole(races: Races, outcomes: list[Outcome]) -> None:
    done = sum((Counter(outcome.done) for outcome in outcomes), Counter[str]())
    events = races.worker.events()
    succeeded = Counter(event["op"] for event in events if event["outcome"] == "ok")
    assert succeeded["user.delete_user_by_id"] == done["delete"]
    assert succeeded["user.login"] == done["log in"]
    audit = races.worker.context.audit
    while audit.chain.unchained():
        audit.chain.link_next()
    step = audit.verifier.verify()
    assert (step.problem_count, step.unchained, step.checked) == (0, 0, len(events)), step.problems
