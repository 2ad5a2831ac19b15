"""Logging in and out: who may, and what everybody else is told."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import jwt as library
import pytest

from junctor.server.context import Context
from junctor.server.security.jwt import Jwt
from junctor.server.security.tokens import Tokens
from junctor.sql.errors import Unauthorized
from junctor.sql.store import Store
from tests.helpers.objects import add

from .conftest import build

KEY = "the-shared-key-of-at-least-32-bytes"


class Cluster:
    """One worker of a cluster, and its JWT definitions."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.tokens = Tokens(store, lambda: None)
        self.context = cast(Context, SimpleNamespace(store=store, tokens=self.tokens))

    def add(self, name: str, username: str = "anna", password: str = "right", **fields: Any) -> Jwt:
        """A definition that works."""
        config = add(self.store, "security_jwt", name, username=username, password=password, **fields)
        return self.live(config.id, username=username, password=password, **fields)

    def live(self, id_: int, previous: Jwt | None = None, **fields: Any) -> Jwt:
        """A definition as it is after an edit."""
        definition = build(self.context, "security_jwt", id=id_, **fields)
        assert isinstance(definition, Jwt)
        definition.start()
        definition.take_over(previous)
        return definition

    def log_in(self, username: str = "anna", password: str = "right") -> str:
        return self.tokens.log_in(username, password)


@pytest.fixture
def cluster(store: Store) -> Cluster:
    return Cluster(store)


def test_who_knows_the_password_gets_a_token_that_lets_in(cluster: Cluster) -> None:
    definition = cluster.add("one")
    assert definition.admits_session("", cluster.log_in())


def test_everybody_else_is_told_one_and_the_same(cluster: Cluster) -> None:
    cluster.add("one")
    cluster.add("empty", username="empty", password="")
    cluster.add("off", username="off", is_active=False)
    for username, password in (
        ("anna", "wrong"),
        ("anna", ""),
        ("otto", "right"),
        ("", ""),
        ("empty", ""),
        ("off", "right"),
        ("\ud800", "\udfff"),
    ):
        with pytest.raises(Unauthorized) as refused:
            cluster.log_in(username, password)
        assert (str(refused.value), refused.value.challenge) == (str(Unauthorized()), "JWT")


def test_of_several_definitions_with_one_user_name_the_password_decides(cluster: Cluster) -> None:
    one, two = cluster.add("one", password="one"), cluster.add("two", password="two")
    assert two.admits_session("", cluster.log_in(password="two"))
    token = cluster.log_in(password="one")
    assert one.admits_session("", token)
    assert not two.admits_session("", token)
    one.leave()
    assert two.admits_session("", cluster.log_in(password="two"))


def test_an_edit_holds_from_the_next_log_in_on(cluster: Cluster) -> None:
    before = cluster.add("one")
    after = cluster.live(before.config.id, before, username="otto", password="new")
    with pytest.raises(Unauthorized):
        cluster.log_in()
    assert after.admits_session("", cluster.log_in("otto", "new"))
    after.leave()
    with pytest.raises(Unauthorized):
        cluster.log_in("otto", "new")
    after.leave()  # what is gone may go again


def test_a_token_that_was_logged_out_lets_nobody_in_and_others_still_do(cluster: Cluster) -> None:
    definition = cluster.add("one")
    token, other = cluster.log_in(), cluster.log_in()
    ticket, verdict = definition.session_ticket("", token), definition.verdict
    assert definition.still_admits(ticket)
    cluster.tokens.log_out(token)
    assert not definition.admits_session("", token)
    assert not definition.admits({"HTTP_AUTHORIZATION": f"Bearer {token}"})
    assert not definition.still_admits(ticket)
    assert definition.verdict != verdict
    assert definition.admits_session("", other)
    edited = cluster.live(definition.config.id, definition, username="anna", password="right", ttl=60)
    assert not edited.admits_session("", token)
    assert not edited.still_admits(ticket)
    assert edited.admits_session("", other)


def test_a_token_that_is_not_valid_cannot_be_logged_out(cluster: Cluster) -> None:
    definition = cluster.add("one", signing_key=KEY)
    token = cluster.log_in()
    cluster.tokens.log_out(token)
    later = int(time.time()) + 60
    for bad in (
        token,
        "",
        "no token",
        definition.issue()[:-3],
        library.encode({"sub": "anna", "exp": 1}, KEY),
        library.encode({"sub": "otto", "exp": later}, KEY),
        library.encode({"exp": later}, KEY),
        library.encode({"sub": "anna", "exp": later}, KEY[::-1]),
    ):
        with pytest.raises(Unauthorized):
            cluster.tokens.log_out(bad)


def test_a_token_of_two_definitions_is_logged_out_of_both(cluster: Cluster) -> None:
    one, two = (cluster.add(name, signing_key=KEY) for name in ("one", "two"))
    token = one.issue()
    verdicts = one.verdict, two.verdict
    assert two.admits_session("", token)
    cluster.tokens.log_out(token)
    assert not one.admits_session("", token)
    assert not two.admits_session("", token)
    assert one.verdict != verdicts[0]
    assert two.verdict != verdicts[1]


def test_a_token_of_a_foreign_issuer_can_be_logged_out(cluster: Cluster) -> None:
    definition = cluster.add("one", signing_key=KEY)
    token = library.encode({"sub": "anna", "exp": 10**18}, KEY)
    assert definition.admits_session("", token)
    cluster.tokens.log_out(token)
    assert not definition.admits_session("", token)
