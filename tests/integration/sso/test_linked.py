"""Linked accounts: whose definition lets a request in gets a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from gevent.event import Event
from sqlalchemy import select

from junctor.server.app import App
from junctor.server.service.base import Service
from junctor.server.sso.caller import Caller
from junctor.server.sso.errors import ValidationError
from junctor.sql.store import Store
from junctor.sql.tables.sso import SsoSession
from tests.helpers.objects import add, edit, remove
from tests.helpers.sso import SsoUnderTest
from tests.helpers.wsgi import WsgiAdapter

AUTH = ("erp.api", "password of the definition")
UST = "X-Zato-SSO-UST"


class Orders(Service):
    name = "orders.get"

    def handle(self) -> None:
        self.response.payload = {"orders": []}


@pytest.fixture
def sso(sso_store: Store) -> Iterator[SsoUnderTest]:
    """A worker with the channel /orders for the definition erp.api, and CRM as the default application."""
    made = SsoUnderTest(sso_store)
    made.deploy(Orders)
    add(sso_store, "security_basic_auth", "erp.api", username=AUTH[0], password=AUTH[1])
    add(sso_store, "channel_rest", "orders", url_path="/orders", service=Orders.name, security="erp.api")
    made.settings(apps_default="CRM")
    made.context.is_loaded = True
    yield made
    made.stop()


@pytest.fixture
def root(sso: SsoUnderTest) -> Caller:
    return sso.super_user_caller()


@pytest.fixture
def call(sso: SsoUnderTest) -> Callable[..., requests.Response]:
    """Calls the channel."""
    session = requests.Session()
    session.mount("http://", WsgiAdapter(App(sso.context, lambda: None, Event())))
    return lambda auth=AUTH, **headers: session.get("http://127.0.0.1/orders", auth=auth, headers=headers)


def refusal(call: Callable[[], Any]) -> list[str]:
    """The codes that a call is refused with."""
    with pytest.raises(ValidationError) as caught:
        call()
    return caught.value.shown


def link(sso: SsoUnderTest, root: Caller, username: str = "alice", **more: Any) -> str:
    """Links the definition to a user, whose id is returned."""
    user_id = (sso.user(username) if not sso.store_has(username) else sso.by_name(username)).user_id
    sso.sso.linked.create(root, user_id, "basic_auth", "erp.api", **more)
    return user_id


def sessions(sso: SsoUnderTest) -> list[Any]:
    """The sessions that were opened through links."""
    wanted = select(SsoSession.__table__).where(
        SsoSession.cluster_id == sso.store.cluster_id, SsoSession.linked_id.is_not(None)
    )
    with sso.store.engine.connect() as connection:
        return list(connection.execute(wanted.order_by(SsoSession.id)))


def test_who_is_not_linked_gets_no_session(call: Callable[..., requests.Response]) -> None:
    answer = call()

    assert (answer.status_code, UST in answer.headers) == (200, False)


def test_a_call_with_a_linked_definition_is_the_users(
    sso: SsoUnderTest, root: Caller, call: Callable[..., requests.Response]
) -> None:
    user_id = link(sso, root)

    answer = call()

    session = sso.session(answer.headers[UST])
    assert (session.user.user_id, session.auth_type, session.auth_principal, session.app) == (
        user_id,
        "basic_auth",
        "erp.api",
        "CRM",
    )
    event = sso.events("session.on_external_auth_succeeded")[0]
    assert (event["outcome"], event["actor"]) == ("ok", user_id)


def test_the_next_call_has_the_same_session(
    sso: SsoUnderTest, root: Caller, call: Callable[..., requests.Response]
) -> None:
    link(sso, root)

    assert call().headers[UST] == call().headers[UST]

    assert len(sessions(sso)) == 1
    sso.sso.sessions.log_out(sso.caller(call().headers[UST]))
    assert sso.sso.sessions.find(call().headers[UST])
    assert len(sessions(sso)) == 1


def test_wrong_credentials_open_nothing(
    sso: SsoUnderTest, root: Caller, call: Callable[..., requests.Response]
) -> None:
    link(sso, root)

    answer = call(auth=("erp.api", "wrong"))

    assert (answer.status_code, UST in answer.headers) == (401, False)
    assert sessions(sso) == []


def test_a_header_names_the_application(
    sso: SsoUnderTest, root: Caller, call: Callable[..., requests.Response]
) -> None:
    sso.application("ERP")
    link(sso, root)

    assert sso.session(call(**{"X-Zato-SSO-Current-App": "ERP"}).headers[UST]).app == "ERP"
    refused = call(**{"X-Zato-SSO-Current-App": "nowhere"})
    assert (refused.status_code, UST in refused.headers) == (403, False)
    assert "E004001" in refused.json()["details"]


def test_a_locked_user_is_locked_here_too(
    sso: SsoUnderTest, root: Caller, call: Callable[..., requests.Response]
) -> None:
    link(sso, root)
    assert call().status_code == 200
    sso.change(sso.by_name("alice"), is_locked=True)

    answer = call()

    assert answer.status_code == 403
    assert "E005001" in answer.json()["details"]


def test_a_user_may_call_as_often_as_the_rate_limits_say(
    sso: SsoUnderTest, root: Caller, call: Callable[..., requests.Response]
) -> None:
    sso.user("alice", is_rate_limit_active=True, rate_limit_def="203.0.113.7=2/d")
    link(sso, root)

    assert [call().status_code for _ in range(3)] == [200, 200, 429]
    sso.change(sso.by_name("alice"), rate_limit_def="192.0.2.1=2/d")
    assert call().status_code == 403
    sso.change(sso.by_name("alice"), rate_limit_def="nonsense")
    assert call().status_code == 403


def test_sessions_end_with_their_link(
    sso: SsoUnderTest, root: Caller, call: Callable[..., requests.Response]
) -> None:
    user_id = link(sso, root)
    ust = call().headers[UST]

    sso.sso.linked.delete(root, user_id, "basic_auth", "erp.api")

    assert sso.sso.sessions.find(ust) is None
    assert UST not in call().headers
    assert refusal(lambda: sso.sso.linked.delete(root, user_id, "basic_auth", "erp.api")) == ["E008002"]


def test_only_the_sessions_of_that_link_end(
    sso: SsoUnderTest, root: Caller, call: Callable[..., requests.Response]
) -> None:
    user_id = link(sso, root)
    own = sso.log_in("alice")
    call()

    sso.sso.linked.delete(root, user_id, "zato.basic_auth", "erp.api")

    assert sso.sso.sessions.find(own)


def test_a_link_that_is_switched_off_is_none(
    sso: SsoUnderTest, root: Caller, call: Callable[..., requests.Response]
) -> None:
    link(sso, root)
    ust = call().headers[UST]

    link(sso, root, is_active=False)

    assert UST not in call().headers
    assert sso.sso.sessions.find(ust) is None
    assert [item["is_active"] for item in sso.sso.linked.get_list(root, sso.by_name("alice").user_id)] == [
        False
    ]


def test_a_deleted_definition_takes_its_link_with_it(sso: SsoUnderTest, root: Caller) -> None:
    user_id = link(sso, root)
    remove(sso.store, "channel_rest", "orders")

    remove(sso.store, "security_basic_auth", "erp.api")

    assert sso.sso.linked.get_list(root, user_id) == []


def test_another_worker_opens_a_session_of_its_own(
    sso: SsoUnderTest, root: Caller, call: Callable[..., requests.Response]
) -> None:
    link(sso, root)
    call()
    other = SsoUnderTest(sso.store)
    other.sso.linked.calls.reload()
    known = other.context.linked[sso.store.get("security", "erp.api").id]

    other.sso.linked.calls.session_for(other.caller(), known, "erp.api", "")

    assert len(sessions(sso)) == 2


def test_each_web_token_has_a_session_of_its_own(sso: SsoUnderTest, root: Caller) -> None:
    link(sso, root)
    known = next(iter(sso.context.linked.values()))
    calls = sso.sso.linked.calls

    first, second = (calls.session_for(sso.caller(), known, "erp.api", token) for token in ("one", "two"))

    assert first != second
    assert calls.session_for(sso.caller(), known, "erp.api", "one") == first


def test_a_users_links_are_listed_and_nobody_elses(sso: SsoUnderTest, root: Caller) -> None:
    user_id = link(sso, root)
    sso.user("bob")
    alice, bob = (sso.caller(sso.log_in(name)) for name in ("alice", "bob"))

    (listed,) = sso.sso.linked.get_list(alice)

    assert (listed["auth_type"], listed["auth_username"], listed["is_active"]) == (
        "basic_auth",
        "erp.api",
        True,
    )
    assert sso.sso.linked.get_list(bob) == []
    assert refusal(lambda: sso.sso.linked.get_list(bob, user_id)) == ["E005005"]


def test_a_definition_is_one_users_alone(sso: SsoUnderTest, root: Caller) -> None:
    user_id = link(sso, root)
    bob = sso.user("bob")

    assert refusal(lambda: sso.sso.linked.create(root, bob.user_id, "basic_auth", "erp.api")) == ["E008001"]
    assert sso.sso.linked.get_user(root, "basic_auth", "erp.api").user_id == user_id


@pytest.mark.parametrize(
    ("auth_type", "name", "code"),
    [
        ("apikey", "erp.api", "E008002"),
        ("jwt", "erp.api", "E008002"),
        ("basic_auth", "nobody", "E008002"),
        ("basic_auth", "", "E008003"),
    ],
)
def test_only_existing_definitions_can_be_linked(
    sso: SsoUnderTest, root: Caller, auth_type: str, name: str, code: str
) -> None:
    alice = sso.user()

    assert refusal(lambda: sso.sso.linked.create(root, alice.user_id, auth_type, name)) == [code]
    assert refusal(lambda: sso.sso.linked.get_user(root, auth_type, name)) == [code]


def test_only_super_users_link(sso: SsoUnderTest) -> None:
    alice = sso.user()
    caller = sso.caller(sso.log_in())

    assert refusal(lambda: sso.sso.linked.create(caller, alice.user_id, "basic_auth", "erp.api")) == [
        "E005005"
    ]
    assert refusal(lambda: sso.sso.linked.delete(caller, alice.user_id, "basic_auth", "erp.api")) == [
        "E005005"
    ]
    assert refusal(lambda: sso.sso.linked.get_user(caller, "basic_auth", "erp.api")) == ["E005005"]


class Secrets(Service):
    name = "secrets.get"

    def handle(self) -> None:
        self.response.is_private = True


def test_an_answer_that_is_private_is_not_to_be_kept(
    sso: SsoUnderTest, call: Callable[..., requests.Response]
) -> None:
    assert "Cache-Control" not in call().headers
    sso.deploy(Secrets)
    edit(sso.store, "channel_rest", "orders", service=Secrets.name)
    sso.catch_up()

    assert call().headers["Cache-Control"] == "no-store"
