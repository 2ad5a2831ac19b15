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
