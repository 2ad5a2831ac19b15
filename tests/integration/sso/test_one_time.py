"""Tokens that work once."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from tests.helpers.sso import SsoUnderTest


def issue(sso: SsoUnderTest, user_id: int, purpose: str = "reset", **more: Any) -> str:
    with sso.store.engine.begin() as connection:
        return sso.sso.one_time.issue(connection, user_id, purpose, **({"minutes": 5} | more))


def use(sso: SsoUnderTest, token: str, purpose: str = "reset") -> Any:
    with sso.store.engine.begin() as connection:
        return sso.sso.one_time.use(connection, purpose, token)


def test_a_token_is_used_once(sso: SsoUnderTest) -> None:
    alice = sso.user()
    token = issue(sso, alice.id, prefix="zprt", data="what was asked for")

    first, second = use(sso, token), use(sso, token)

    assert token.startswith("zprt")
    assert (first.user_id, first.data, first.is_used_before) == (alice.id, "what was asked for", False)
    assert second.is_used_before


@pytest.mark.parametrize("token", ["", "x", "x" * 300, "\x00", "\ud800"])
def test_what_is_no_token_is_none(sso: SsoUnderTest, token: str) -> None:
    assert use(sso, token) is None


def test_a_token_is_for_its_purpose_alone(sso: SsoUnderTest) -> None:
    assert use(sso, issue(sso, sso.user().id), "confirm") is None


def test_an_expired_token_is_none(sso: SsoUnderTest) -> None:
    assert use(sso, issue(sso, sso.user().id, minutes=0)) is None


def test_a_newer_token_ends_those_before(sso: SsoUnderTest) -> None:
    alice, bob = sso.user("alice"), sso.user("bob")
    old, other, bobs = issue(sso, alice.id), issue(sso, alice.id, "confirm"), issue(sso, bob.id)

    new = issue(sso, alice.id)

    assert use(sso, old) is None
    assert all((use(sso, new), use(sso, other, "confirm"), use(sso, bobs)))


def test_a_token_ends_with_its_parent(sso: SsoUnderTest) -> None:
    alice = sso.user()
    parent = use(sso, issue(sso, alice.id))
    child = issue(sso, alice.id, "reset-key", parent_id=parent.id)

    issue(sso, alice.id)

    assert use(sso, child, "reset-key") is None


def test_neither_a_token_nor_what_comes_with_it_is_in_the_database(sso: SsoUnderTest) -> None:
    token = issue(sso, sso.user().id, data="alice@example.com")

    with sso.store.engine.connect() as connection:
        stored = connection.execute(text("SELECT string_agg(t::text, '') FROM sso_token t")).scalar_one()
    assert token not in stored
    assert "example.com" not in stored
