"""What a session keeps of the credentials that opened it, and when they are not good any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from junctor.server.security.definitions import Definition

Make = Callable[..., Definition]


@pytest.mark.parametrize(
    ("kind", "fields", "credentials"),
    [
        ("security_basic_auth", {"username": "anna", "password": "right"}, ("anna", "right")),
        ("security_api_key", {"key": "right"}, ("", "right")),
    ],
)
class TestTickets:
    def test_a_ticket_is_good_while_the_credentials_are(
        self, make: Make, kind: str, fields: dict[str, Any], credentials: tuple[str, str]
    ) -> None:
        ticket = make(kind, **fields).session_ticket(*credentials)
        assert make(kind, **fields, name="renamed").still_admits(ticket)
        secret = "password" if kind == "security_basic_auth" else "key"
        assert not make(kind, **fields | {secret: "new"}).still_admits(ticket)
        assert not make(kind, **fields, is_active=False).still_admits(ticket)

    def test_a_ticket_does_not_give_the_credentials_away(
        self, make: Make, kind: str, fields: dict[str, Any], credentials: tuple[str, str]
    ) -> None:
        assert b"right" not in make(kind, **fields).session_ticket(*credentials)

    def test_nothing_else_is_a_ticket(
        self, make: Make, kind: str, fields: dict[str, Any], credentials: tuple[str, str]
    ) -> None:
        definition = make(kind, **fields)
        wrong = (None, "anybody", b"", bytes(32), definition.session_ticket("anna", "wrong"))
        assert not any(definition.still_admits(ticket) for ticket in wrong)


def test_a_ticket_is_good_for_another_definition_with_the_same_credentials(make: Make) -> None:
    first = make("security_basic_auth", username="anna", password="right")
    other = make("security_basic_auth", username="anna", password="right", id=8)
    assert other.still_admits(first.session_ticket("anna", "right"))


def test_a_definition_without_a_secret_admits_no_ticket(make: Make) -> None:
    empty = make("security_basic_auth", username="anna", password="")
    assert not empty.still_admits(empty.session_ticket("anna", ""))
