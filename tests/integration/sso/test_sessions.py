"""Sessions of users: how they begin, what they are good for, and how they end."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from sqlalchemy import select, text

from junctor.server.bus.client import Publisher, sessions_topic
from junctor.server.service.base import Service
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.gate import ENROL
from junctor.server.sso.records import Session, User
from junctor.server.sso.sessions import Opened, Origin
from junctor.sql.store import Store
from junctor.sql.tables.sso import SsoSession
from tests.helpers.sso import SsoUnderTest, through
from tests.helpers.valkey import ValkeyServer


def refusal(call: Callable[[], Any]) -> ValidationError:
    """How a call is refused."""
    with pytest.raises(ValidationError) as caught:
        call()
    return caught.value


def rows(sso: SsoUnderTest) -> list[Any]:
    """The sessions in the database."""
    wanted = select(SsoSession.__table__).where(SsoSession.cluster_id == sso.store.cluster_id)
    with sso.store.engine.connect() as connection:
        return list(connection.execute(wanted.order_by(SsoSession.id)))


def in_transaction(sso: SsoUnderTest, action: Callable[[Any], Any]) -> Any:
    """What an action does in a transaction, after which all workers look anew."""
    with sso.store.engine.begin() as connection:
        found = action(connection)
    sso.sso.sessions.announce()
    return found


def test_a_token_has_256_random_bits_and_is_stored_nowhere(sso: SsoUnderTest) -> None:
    sso.user()

    ust = sso.log_in()

    assert re.fullmatch("zust[0-9a-hjkmnp-tv-z]{52}", ust)
    with sso.store.engine.connect() as connection:
        stored = connection.execute(text("SELECT string_agg(s::text, '') FROM sso_session s")).scalar_one()
    assert ust not in stored
    assert ust.removeprefix("zust") not in stored
    assert ust.encode().hex() not in stored


def test_what_is_stored_of_a_token_is_no_token(sso: SsoUnderTest) -> None:
    sso.user()
    sso.log_in()
    row = rows(sso)[0]

    for stolen in (row.token_mac.hex(), row.public_id, "zust" + row.token_mac.hex()):
        assert sso.sso.sessions.find(stolen) is None


def test_a_session_is_good_in_every_worker(sso: SsoUnderTest) -> None:
    alice = sso.user()
    other = SsoUnderTest(sso.store)

    assert other.session(sso.log_in()).user == alice


def test_a_session_of_another_cluster_is_none(sso: SsoUnderTest) -> None:
    sso.user()
    other = SsoUnderTest(Store.create(sso.store.engine, "other", sso.store.keyring))

    assert other.sso.sessions.find(sso.log_in()) is None


def test_an_idle_session_ends(sso: SsoUnderTest) -> None:
    sso.user()
    ust = sso.log_in()
    sso.age(ust, expiration_time=timedelta(minutes=59), last_used=timedelta(minutes=59))
    assert sso.sso.sessions.find(ust) is not None

    sso.age(ust, expiration_time=timedelta(minutes=1))

    assert sso.sso.sessions.find(ust) is None


def test_each_call_moves_the_end_on_but_is_written_now_and_then(sso: SsoUnderTest) -> None:
    sso.user()
    ust = sso.log_in()
    before = rows(sso)[0]
    sso.sso.gate.session(sso.caller(ust))
    assert rows(sso)[0] == before

    sso.age(ust, last_used=timedelta(seconds=61), expiration_time=timedelta(seconds=61))
    sso.sso.gate.session(sso.caller(ust))

    assert rows(sso)[0].last_used > before.last_used
    assert rows(sso)[0].expiration_time > before.expiration_time


def test_a_session_that_may_be_idle_for_a_minute_is_written_every_six_seconds(sso: SsoUnderTest) -> None:
    sso.user()
    ust = sso.log_in(minutes=1)
    before = rows(sso)[0]
    sso.age(ust, last_used=timedelta(seconds=7), expiration_time=timedelta(seconds=7))

    sso.sso.gate.session(sso.caller(ust))

    assert rows(sso)[0].expiration_time > before.expiration_time


def test_nothing_makes_a_session_last_longer_than_its_absolute_time(sso: SsoUnderTest) -> None:
    sso.settings(session_expiry=60, session_absolute=60)
    sso.user()
    ust = sso.log_in()
    end = rows(sso)[0].absolute_time
    sso.age(ust, last_used=timedelta(minutes=10), expiration_time=timedelta(minutes=10))

    sso.sso.gate.session(sso.caller(ust))
    renewed = sso.sso.sessions.renew(sso.caller(ust))

    assert renewed == end == rows(sso)[0].expiration_time


def test_a_session_without_an_absolute_time_lasts_as_long_as_it_is_used(sso: SsoUnderTest) -> None:
    sso.settings(session_absolute=0)
    sso.user()
    sso.log_in()

    assert rows(sso)[0].absolute_time is None


def test_a_renewal_goes_into_the_history(sso: SsoUnderTest) -> None:
    sso.user()
    ust = sso.log_in()
    caller = sso.caller(ust, remote_addr="198.51.100.1", user_agent="curl\x00/8")

    sso.sso.sessions.renew(caller)

    changes = sso.sso.sessions.get_list(caller)[0]["session_state_change_list"]
    assert [(change["ctx_source"], change["idx"]) for change in changes] == [("login", 1), ("renew", 2)]
    assert changes[1]["remote_addr"] == "198.51.100.1"
    assert changes[1]["user_agent"] == "curl/8"
    assert datetime.fromisoformat(changes[1]["timestamp_utc"]).tzinfo is None


def test_a_session_remembers_a_hundred_changes(sso: SsoUnderTest) -> None:
    sso.user()
    ust = sso.log_in()
    with sso.store.engine.begin() as connection:
        connection.execute(
            text("""UPDATE sso_session SET state_changes =
                (SELECT jsonb_agg(jsonb_build_object('idx', n)) FROM generate_series(1, 100) AS n)""")
        )

    sso.sso.sessions.renew(sso.caller(ust))

    assert [change["idx"] for change in rows(sso)[0].state_changes] == list(range(2, 102))


def test_the_oldest_sessions_end_when_a_user_has_too_many(sso: SsoUnderTest) -> None:
    sso.settings(session_max_per_user=2)
    sso.user("alice")
    sso.user("bob")
    bobs = sso.log_in("bob")

    first, second, third = (sso.log_in("alice") for _ in range(3))

    assert sso.sso.sessions.find(first) is None
    assert all(sso.sso.sessions.find(ust) for ust in (second, third, bobs))


class Expiry(Service):
    name = "sessions.expiry"

    def handle(self) -> None:
        data = self.request.payload
        expiry = {"alice": data["default_expiry"] + 5, "bob": "long", "carol": 0}[data["username"]]
        self.response.payload = {"expiry": expiry}


def test_a_service_decides_how_long_a_session_may_be_idle(sso: SsoUnderTest) -> None:
    sso.deploy(Expiry)
    sso.settings(session_expiry_hook=Expiry.name)
    for username in ("alice", "bob", "carol", "dave"):
        sso.user(username)
        sso.log_in(username)

    assert [row.idle_minutes for row in rows(sso)] == [65, 60, 60, 60]


def test_a_new_proof_gives_the_session_another_token(sso: SsoUnderTest) -> None:
    sso.user()
    old = sso.log_in()
    session = sso.session(old)
    sso.age(old, auth_time=timedelta(hours=1))

    opened: Opened = in_transaction(sso, lambda it: sso.sso.sessions.rotate(it, session, ("pwd", "otp")))

    assert sso.sso.sessions.find(old) is None
    rotated = sso.session(opened.ust)
    assert (rotated.id, rotated.public_id) == (session.id, session.public_id)
    assert rotated.auth_factors == ["pwd", "otp"]
    assert rotated.auth_time > datetime.now(UTC) - timedelta(minutes=1)


def test_of_two_that_rotate_a_session_one_fails(sso: SsoUnderTest) -> None:
    sso.user()
    session = sso.session(sso.log_in())
    in_transaction(sso, lambda it: sso.sso.sessions.rotate(it, session, ("pwd",)))

    error = refusal(lambda: in_transaction(sso, lambda it: sso.sso.sessions.rotate(it, session, ("pwd",))))

    assert error.shown == ["E007001"]


@pytest.mark.parametrize(("factors", "is_whole"), [(("pwd",), False), (("pwd", "otp"), True)])
def test_enrolment_ends_with_a_second_factor(
    sso: SsoUnderTest, factors: tuple[str, ...], is_whole: bool
) -> None:
    sso.user()
    session = sso.session(sso.log_in(factors=("pwd", ENROL)))

    opened: Opened = in_transaction(sso, lambda it: sso.sso.sessions.rotate(it, session, factors))

    assert (ENROL not in sso.session(opened.ust).auth_factors) is is_whole


def test_all_sessions_of_a_user_end_in_the_transaction_that_ends_them(sso: SsoUnderTest) -> None:
    alice = sso.user("alice")
    sso.user("bob")
    mine, other, bobs = sso.log_in("alice"), sso.log_in("alice"), sso.log_in("bob")
    keep = sso.session(mine).id

    assert in_transaction(sso, lambda it: sso.sso.sessions.end_all(it, alice, but=keep)) == 1

    assert sso.sso.sessions.find(other) is None
    assert sso.sso.sessions.find(mine)
    assert sso.sso.sessions.find(bobs)


def test_nobody_logs_in_with_what_was_right_before_the_sessions_ended(sso: SsoUnderTest) -> None:
    alice = sso.user()
    in_transaction(sso, lambda it: sso.sso.sessions.end_all(it, alice))

    def open_(user: User) -> Opened:
        return in_transaction(sso, lambda it: sso.sso.sessions.open(it, user, sso.caller(), Origin()))

    assert refusal(lambda: open_(alice)).shown == ["E005001"]
    assert open_(sso.reload(alice)).ust


def test_who_changes_the_password_while_logging_in_gets_a_session(sso: SsoUnderTest) -> None:
    alice = sso.user()

    def change_and_open(connection: Any) -> Opened:
        sso.sso.sessions.end_all(connection, alice)
        return sso.sso.sessions.open(connection, alice, sso.caller(), Origin())

    assert sso.session(in_transaction(sso, change_and_open).ust)


def test_a_worker_knows_of_what_another_one_ends_within_a_second(
    sso: SsoUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    sso.user()
    ust = sso.log_in()
    other = SsoUnderTest(sso.store)
    now = 1000.0
    monkeypatch.setattr("junctor.server.sso.session_cache.monotonic", lambda: now)
    assert other.sso.sessions.find(ust)
    sso.sso.sessions.log_out(sso.caller(ust))

    now = 1000.5
    assert other.sso.sessions.find(ust)
    now = 1001.0
    assert other.sso.sessions.find(ust) is None


def test_a_worker_knows_at_once_when_it_is_told(sso: SsoUnderTest) -> None:
    alice, bob = sso.user("alice"), sso.user("bob")
    ust = sso.log_in("alice")
    other = SsoUnderTest(sso.store)
    assert other.sso.sessions.find(ust)
    sso.sso.sessions.log_out(sso.caller(ust))

    other.sso.sessions.heard(str(bob.id))
    assert other.sso.sessions.find(ust)
    other.sso.sessions.heard(f"{bob.id},{alice.id}")
    assert other.sso.sessions.find(ust) is None


def test_other_workers_are_told_through_redis(sso: SsoUnderTest, valkey: ValkeyServer) -> None:
    alice = sso.user()
    ust = sso.log_in()
    cluster = sso.store.cluster_id
    sso.context.publisher = Publisher(valkey.url, cluster)
    with redis.Redis.from_url(valkey.url) as client, client.pubsub() as subscription:  # type: ignore[no-untyped-call]  # redis has no type for it
        subscription.subscribe(sessions_topic(cluster))
        subscription.get_message(timeout=5)

        sso.sso.sessions.log_out(sso.caller(ust))
        sso.sso.sessions.announce()

        told = [subscription.get_message(timeout=5)["data"] for _ in range(2)]
    assert told == [str(alice.id).encode(), b"*"]


@pytest.mark.parametrize("message", ["*", "", "x,1", "-5"])
def test_a_message_that_names_nobody_means_everybody(sso: SsoUnderTest, message: str) -> None:
    sso.user()
    ust = sso.log_in()
    other = SsoUnderTest(sso.store)
    assert other.sso.sessions.find(ust)
    sso.sso.sessions.log_out(sso.caller(ust))

    other.sso.sessions.heard(message)

    assert other.sso.sessions.find(ust) is None


def test_what_was_read_before_news_came_is_not_remembered(
    sso: SsoUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    sso.user()
    ust = sso.log_in()
    sessions = sso.sso.sessions
    read = sessions._read

    def overtaken(given: str) -> Session | None:
        found = read(given)
        SsoUnderTest(sso.store).sso.sessions.log_out(sso.caller(ust))
        sessions.heard("*")
        return found

    monkeypatch.setattr(sessions._cache, "_read", overtaken)
    sessions.find(ust)
    monkeypatch.setattr(sessions._cache, "_read", read)

    assert sessions.find(ust) is None


def test_a_log_out_ends_the_session_and_says_nothing_about_others(sso: SsoUnderTest) -> None:
    alice = sso.user()
    ust = sso.log_in()

    assert sso.sso.sessions.log_out(sso.caller(ust))
    assert not sso.sso.sessions.log_out(sso.caller(ust))
    assert not sso.sso.sessions.log_out(sso.caller("zustnothing"))

    assert sso.sso.sessions.find(ust) is None
    outcomes = [(event["outcome"], event["actor"]) for event in sso.events("user.logout")]
    assert outcomes == [("ok", alice.user_id), ("refused", "anonymous"), ("refused", "anonymous")]


def test_a_super_user_verifies_tokens(sso: SsoUnderTest) -> None:
    sso.user()
    ust = sso.log_in()
    before = rows(sso)[0]
    caller = sso.super_user_caller()
    verify = sso.sso.sessions.verify

    assert verify(caller, ust)
    assert not verify(caller, ust + "x")
    assert not verify(caller, "")
    assert rows(sso)[0] == before


@pytest.mark.parametrize(
    "values", [{"is_locked": True}, {"password_expiry": datetime(2020, 1, 1, tzinfo=UTC)}]
)
def test_a_session_of_who_may_not_log_in_is_not_valid(sso: SsoUnderTest, values: dict[str, Any]) -> None:
    alice = sso.user()
    ust = sso.log_in()
    caller = sso.super_user_caller()
    sso.change(alice, **values)

    assert not sso.sso.sessions.verify(caller, ust)


def test_a_session_for_enrolment_is_not_valid_for_applications(sso: SsoUnderTest) -> None:
    sso.user()

    assert not sso.sso.sessions.verify(sso.super_user_caller(), sso.log_in(factors=("pwd", ENROL)))


def test_a_user_verifies_nothing(sso: SsoUnderTest) -> None:
    sso.user()
    ust = sso.log_in()

    assert refusal(lambda: sso.sso.sessions.verify(sso.caller(ust), ust)).shown == ["E005005"]


SECRET = "an application's secret that is long"


def test_an_application_verifies_tokens_with_its_own_secret(sso: SsoUnderTest) -> None:
    sso.application("ERP", introspection_allowed=True, secret=SECRET)
    sso.application("CRM", secret=SECRET)
    sso.user()
    ust = sso.log_in()
    verify = sso.sso.sessions.verify_for_application

    assert verify(sso.caller(app="ERP"), SECRET, ust)
    assert not verify(sso.caller(app="ERP"), SECRET, "zust")
    assert refusal(lambda: verify(sso.caller(app="ERP"), "another", ust)).shown == ["E005001"]
    assert refusal(lambda: verify(sso.caller(app="ERP"), "", ust)).shown == ["E005001"]
    assert refusal(lambda: verify(sso.caller(app="CRM"), SECRET, ust)).shown == ["E005001"]


def test_an_application_that_is_not_for_a_user_learns_that_the_session_is_not_valid(
    sso: SsoUnderTest,
) -> None:
    sso.application("ERP", introspection_allowed=True, secret=SECRET, is_grant_needed=True)
    sso.user()

    assert not sso.sso.sessions.verify_for_application(sso.caller(app="ERP"), SECRET, sso.log_in())


def test_verifications_are_counted_in_the_audit_trail(sso: SsoUnderTest) -> None:
    alice, root = sso.user(), sso.user("root1", is_super_user=True)
    ust, caller = sso.log_in(), sso.caller(sso.log_in("root1"))
    for _ in range(5):
        sso.sso.sessions.verify(caller, ust)
    assert sso.events("session.verify") == []

    sso.stop()
    sso.stop()

    (event,) = sso.events("session.verify")
    assert (event["actor"], event["target"], event["outcome"]) == (root.user_id, alice.user_id, "ok")
    assert event["extra"] == {"session": rows(sso)[0].public_id, "count": 5}


def test_refused_verifications_are_events_of_their_own_as_long_as_they_are_few(sso: SsoUnderTest) -> None:
    caller = sso.super_user_caller()
    for _ in range(25):
        sso.sso.sessions.verify(caller, "zustnothing")
    assert len(sso.events("session.verify")) == 20

    sso.stop()

    last = sso.events("session.verify")[-1]
    assert (last["outcome"], last["extra"]) == ("refused", {"count": 5})
    assert last["reason"].startswith("E007001 ")


def test_a_super_user_looks_at_a_session(sso: SsoUnderTest) -> None:
    alice = sso.user()
    ust = sso.log_in()

    found = sso.sso.sessions.get(sso.super_user_caller(), ust)

    assert (found.user, found.remote_addr, found.user_agent) == (alice, "203.0.113.7", "Firefox/148")
    assert refusal(lambda: sso.sso.sessions.get(sso.caller(ust), ust)).shown == ["E005005"]
    assert refusal(lambda: sso.sso.sessions.get(sso.super_user_caller(), "zust")).shown == ["E007001"]


def test_lists_name_sessions_by_their_public_ids(sso: SsoUnderTest) -> None:
    sso.user()
    first, second = sso.log_in(), sso.log_in()

    listed = sso.sso.sessions.get_list(sso.caller(first))

    assert [item["public_id"] for item in listed] == [row.public_id for row in reversed(rows(sso))]
    assert [item["is_current"] for item in listed] == [False, True]
    assert not {first, second} & {str(value) for item in listed for value in item.values()}
    assert datetime.fromisoformat(listed[0]["creation_time"]).tzinfo is None


def test_a_super_user_lists_the_sessions_of_whose_token_is_given(sso: SsoUnderTest) -> None:
    sso.user("alice")
    ust = sso.log_in("alice")
    sso.user("bob")

    assert len(sso.sso.sessions.get_list(sso.super_user_caller(), ust)) == 1
    bob = sso.caller(sso.log_in("bob"))
    assert refusal(lambda: sso.sso.sessions.get_list(bob, ust)).shown == ["E005005"]


def test_a_user_ends_own_sessions_alone(sso: SsoUnderTest) -> None:
    sso.user("alice")
    sso.user("bob")
    mine, other, bobs = sso.log_in("alice"), sso.log_in("alice"), sso.log_in("bob")
    ids = {ust: sso.session(ust).public_id for ust in (mine, other, bobs)}

    sso.sso.sessions.end(sso.caller(mine), ids[other])
    error = refusal(lambda: sso.sso.sessions.end(sso.caller(mine), ids[bobs]))

    assert error.shown == ["E007001"]
    assert sso.sso.sessions.find(other) is None
    sso.sso.sessions.end(sso.super_user_caller(), ids[bobs])
    assert sso.sso.sessions.find(bobs) is None


def test_a_user_ends_all_other_sessions(sso: SsoUnderTest) -> None:
    sso.user()
    mine, other = sso.log_in(), sso.log_in()

    assert sso.sso.sessions.end_others(sso.caller(mine)) == 1

    assert sso.sso.sessions.find(mine)
    assert sso.sso.sessions.find(other) is None


def test_a_session_that_has_ended_can_do_nothing_more(sso: SsoUnderTest) -> None:
    sso.user()
    caller = sso.caller(sso.log_in())
    sso.sso.sessions.log_out(caller)

    for call in (
        lambda: sso.sso.sessions.renew(caller),
        lambda: sso.sso.sessions.get_list(through(caller)),
        lambda: sso.sso.sessions.end_others(caller),
    ):
        assert refusal(call).shown == ["E007001"]
