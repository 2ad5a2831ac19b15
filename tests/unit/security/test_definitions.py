"""Security definitions: which requests satisfy one."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junctor.server.security import definitions
from junctor.server.security.definitions import MAX_CREDENTIALS, Definition

from .conftest import Make


def basic(credentials: str | bytes, scheme: str = "Basic") -> dict[str, str]:
    """The environment of a request with these credentials."""
    raw = credentials.encode() if isinstance(credentials, str) else credentials
    return {"HTTP_AUTHORIZATION": f"{scheme} {b64encode(raw).decode()}"}


class TestBasicAuth:
    @pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
    def test_the_user_name_and_the_password_let_a_caller_in(self, make: Make, scheme: str) -> None:
        definition = make("security_basic_auth", username="anna", password="pass:wörd ")
        assert definition.admits(basic("anna:pass:wörd ", scheme))

    @pytest.mark.parametrize(
        "environ",
        [
            {},
            {"HTTP_AUTHORIZATION": ""},
            {"HTTP_AUTHORIZATION": "Basic"},
            {"HTTP_AUTHORIZATION": "Basic "},
            {"HTTP_AUTHORIZATION": "Basic %%%"},
            {"HTTP_AUTHORIZATION": "Basic YW5uYTpyaWdodA"},  # without its padding
            {"HTTP_AUTHORIZATION": "Basic \xe4"},
            {"HTTP_AUTHORIZATION": "Basic " + "A" * (MAX_CREDENTIALS + 4)},
            basic("anna:wrong"),
            basic("otto:right"),
            basic("anna:"),
            basic(":right"),
            basic("anna"),
            basic("anna:right "),
            basic("Anna:right"),
            basic("anna:right", scheme="Bearer"),
            basic("anna:right", scheme="Basic Basic"),
        ],
    )
    def test_nothing_else_does(self, make: Make, environ: dict[str, str]) -> None:
        assert not make("security_basic_auth", username="anna", password="right").admits(environ)

    @pytest.mark.parametrize("credentials", ["anna:", "anna", "", ":", "anna:None", "anna:\x00"])
    def test_an_empty_password_lets_nobody_in(self, make: Make, credentials: str) -> None:
        definition = make("security_basic_auth", username="anna", password="")
        assert not definition.admits(basic(credentials))
        assert not definition.admits({})

    def test_a_definition_that_is_not_active_lets_nobody_in(self, make: Make) -> None:
        definition = make("security_basic_auth", username="anna", password="right", is_active=False)
        assert not definition.admits(basic("anna:right"))

    def test_clients_are_told_the_realm(self, make: Make) -> None:
        definition = make("security_basic_auth", username="anna", password="x", realm="My realm")
        assert definition.challenge == 'Basic realm="My realm", charset="UTF-8"'

    def test_services_are_told_who_it_is(self, make: Make) -> None:
        info = make("security_basic_auth", username="anna", password="canary").info
        assert (info.id, info.name, info.type, info.username) == (7, "the-name", "basic_auth", "anna")
        assert "canary" not in repr(info)


class TestApiKeys:
    def test_the_key_lets_a_caller_in(self, make: Make) -> None:
        definition = make("security_api_key", key="right-ä")
        assert definition.admits({"HTTP_X_API_KEY": "right-ä".encode().decode("latin-1")})

    @pytest.mark.parametrize(
        "value", [None, "", "wrong", "RIGHT", "right ", "r" * (MAX_CREDENTIALS + 1), "☃"]
    )
    def test_nothing_else_does(self, make: Make, value: str | None) -> None:
        environ = {} if value is None else {"HTTP_X_API_KEY": value}
        assert not make("security_api_key", key="right").admits(environ)

    @pytest.mark.parametrize("value", [None, "", "anything"])
    def test_an_empty_key_lets_nobody_in(self, make: Make, value: str | None) -> None:
        environ = {} if value is None else {"HTTP_X_API_KEY": value}
        assert not make("security_api_key", key="").admits(environ)

    def test_a_definition_that_is_not_active_lets_nobody_in(self, make: Make) -> None:
        assert not make("security_api_key", key="right", is_active=False).admits({"HTTP_X_API_KEY": "right"})

    @pytest.mark.parametrize(
        ("header", "variable"),
        [
            ("X-My-Key", "HTTP_X_MY_KEY"),
            ("authorization", "HTTP_AUTHORIZATION"),
            ("Content-Type", "CONTENT_TYPE"),
            ("content-length", "CONTENT_LENGTH"),
        ],
    )
    def test_the_key_may_be_in_any_header(self, make: Make, header: str, variable: str) -> None:
        definition = make("security_api_key", key="right", header=header)
        assert definition.admits({variable: "right"})
        assert not definition.admits({"HTTP_X_API_KEY": "right"})

    def test_services_are_told_which_key_it_is(self, make: Make) -> None:
        definition = make("security_api_key", key="canary", header="X-Own")
        assert (definition.info.type, definition.info.username) == ("apikey", "X-Own")
        assert definition.challenge == "zato-apikey"
        assert "canary" not in repr(definition.info)


class TestSessions:
    """What opens a session of a WebSocket, and what keeps it open."""

    @pytest.mark.parametrize(
        ("kind", "fields", "credentials"),
        [
            ("security_basic_auth", {"username": "anna", "password": "pass:wörd"}, ("anna", "pass:wörd")),
            ("security_api_key", {"key": "right-ä"}, ("", "right-ä")),
            ("security_api_key", {"key": "right-ä"}, ("whoever", "right-ä")),
        ],
    )
    def test_the_credentials_open_a_session(
        self, make: Make, kind: str, fields: dict[str, str], credentials: tuple[str, str]
    ) -> None:
        assert make(kind, **fields).admits_session(*credentials)
        assert not make(kind, **fields, is_active=False).admits_session(*credentials)

    @pytest.mark.parametrize(
        ("username", "secret"),
        [
            ("", ""),
            ("anna", ""),
            ("", "right"),
            ("anna", "Right"),
            ("anna", "right "),
            ("Anna", "right"),
            ("otto", "right"),
            ("anna:right", ""),
            ("anna:", "right"),
            ("anna", ":right"),
            ("anna", "\ud800"),
            ("\udfff", "right"),
            ("anna", "r" * (MAX_CREDENTIALS + 1)),
            ("a" * (MAX_CREDENTIALS + 1), "right"),
        ],
    )
    def test_nothing_else_does(self, make: Make, username: str, secret: str) -> None:
        assert not make("security_basic_auth", username="anna", password="right").admits_session(
            username, secret
        )
        if secret != "right":
            assert not make("security_api_key", key="right").admits_session(username, secret)

    def test_where_the_password_begins_is_not_left_open(self, make: Make) -> None:
        """'a:b' with 'c' and 'a' with 'b:c' look the same in a header; a session's user name and password do not."""
        definition = make("security_basic_auth", username="a", password="b:c")
        assert definition.admits_session("a", "b:c")
        assert not definition.admits_session("a:b", "c")

    @pytest.mark.parametrize("secret", ["", "anything", "None"])
    def test_an_empty_stored_secret_opens_none(self, make: Make, secret: str) -> None:
        assert not make("security_basic_auth", username="anna", password="").admits_session("anna", secret)
        assert not make("security_api_key", key="").admits_session("", secret)

    @pytest.mark.parametrize(
        ("kind", "name", "credentials"),
        [("security_basic_auth", "password", ("", "right")), ("security_api_key", "key", ("x", "right"))],
    )
    def test_a_ticket_is_good_while_the_credentials_are(
        self, make: Make, kind: str, name: str, credentials: tuple[str, str]
    ) -> None:
        before = make(kind, **{name: "right"})
        ticket = before.session_ticket(*credentials)
        assert before.still_admits(ticket)
        assert make(kind, **{name: "right"}).still_admits(ticket)
        assert not make(kind, **{name: "another"}).still_admits(ticket)
        assert not make(kind, **{name: ""}).still_admits(ticket)
        assert not make(kind, **{name: "right"}, is_active=False).still_admits(ticket)
        assert not before.still_admits(before.session_ticket("", "wrong"))
        assert not before.still_admits(None)
        assert b"right" not in bytes(str(ticket), "ascii")

    def test_tickets_of_wrong_credentials_do_not_fit_definitions_without_a_secret(self, make: Make) -> None:
        for kind in ("security_basic_auth", "security_api_key"):
            definition = make(kind)
            assert not definition.still_admits(definition.session_ticket("", ""))
            assert not definition.still_admits(b"")

    def test_a_verdict_holds_for_as_long_as_the_definition(self, make: Make) -> None:
        definition = make("security_api_key", key="right")
        assert definition.verdict is definition.verdict
        assert definition.verdict != make("security_api_key", key="right").verdict

    def test_outgoing_sessions_are_opened_with_what_opens_incoming_ones(self, make: Make) -> None:
        basic_auth = make("security_basic_auth", username="anna", password="pass:wörd")
        assert basic_auth.outgoing_session() == ("anna", "pass:wörd")
        assert basic_auth.admits_session(*basic_auth.outgoing_session())
        key = make("security_api_key", key="the-key")
        assert key.outgoing_session() == ("", "the-key")
        assert key.admits_session(*key.outgoing_session())

    def test_a_challenge_is_the_same_whatever_was_given(self, make: Make) -> None:
        for kind in ("security_basic_auth", "security_api_key"):
            definition = make(kind)
            assert {definition.challenge_to(environ) for environ in ({}, basic("a:b"))} == {
                definition.challenge
            }


class TestHeadersThatWereRightBefore:
    def test_a_header_is_right_again_and_another_one_is_wrong_again(self, make: Make) -> None:
        definition = make("security_basic_auth", username="anna", password="right")
        for _ in range(2):
            assert definition.admits(basic("anna:right"))
            assert not definition.admits(basic("anna:wrong"))
            assert not definition.admits({})
        assert definition.admits(basic("anna:right", "BASIC"))

    def test_no_header_is_not_what_was_right_before(self, make: Make) -> None:
        assert not make("security_basic_auth", username="", password="").admits({"HTTP_AUTHORIZATION": ""})


@given(credentials=st.binary(max_size=100))
def test_no_other_bytes_satisfy_a_definition(credentials: bytes) -> None:
    assert definitions.digest(credentials) != bytes(32)
    assert (definitions.digest(credentials) == definitions.digest(b"anna:right")) == (
        credentials == b"anna:right"
    )


def test_a_type_that_does_not_say_where_credentials_are_admits_nobody() -> None:
    class Incomplete(Definition):
        """A definition without ``given``; it has no kind, so nothing registers it."""

    incomplete: Any = Incomplete.__new__(Incomplete)
    with pytest.raises(NotImplementedError, match=r"Incomplete\.given"):
        incomplete.admits({})
    with pytest.raises(NotImplementedError, match=r"Incomplete\.given_in_session"):
        incomplete.admits_session("", "")
    with pytest.raises(NotImplementedError, match=r"Incomplete\.outgoing_session"):
        incomplete.outgoing_session()
