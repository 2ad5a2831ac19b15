"""What object types check beyond their single fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junctor.sql import base, fields
from junctor.sql.objects import rest
from junctor.sql.objects.rest import check_url_path, methods, no_security, normalise_methods
from junctor.sql.secrets import UnreadableSecret


class NoObjects:
    """A reader of an empty database."""

    def others(self, kind: str, exclude_id: int | None, **equal: Any) -> Iterable[Mapping[str, Any]]:
        return ()


def problems(kind: str, **given: Any) -> list[str]:
    """What is wrong with an object of a type that has these fields and the defaults of all others."""
    cls = base.kind_class(kind)
    values = {
        name: fields.check(name, field, given.get(name, "x" if field.required else None))[0]
        for name, field in base.declared(cls).items()
    }
    return [str(problem) for problem in cls.check(values, NoObjects(), None)]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/orders",
        "/orders/{id}",
        "/orders/{id}/lines/{line}",
        "/a-{x}.json",
        "/{a}{b}",
        "/{customer name}/{a|b}/{$x.y-z=~^/}",
        "/żółw/{id}",
    ],
)
def test_paths_that_can_be_matched_are_taken(path: str) -> None:
    assert list(check_url_path(path)) == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "must start with '/'."),
        ("orders", "must start with '/'."),
        ("/orders?id=1", "must be a path alone, without a query string or a fragment."),
        ("/orders#top", "must be a path alone, without a query string or a fragment."),
        ("/orders/{id", "has a brace without its counterpart."),
        ("/orders/id}", "has a brace without its counterpart."),
        ("/orders/{{id}}", "has a brace without its counterpart."),
        ("/orders/{}", "has placeholders with characters that names cannot have: ''."),
        ("/orders/{a*}", "has placeholders with characters that names cannot have: 'a*'."),
        ("/{id}/{id}", "has a placeholder more than once."),
    ],
)
def test_paths_that_cannot_be_matched_are_refused(path: str, message: str) -> None:
    assert message in [problem.message for problem in check_url_path(path)]


@given(st.text(max_size=30))
def test_any_text_is_checked_as_a_path_without_an_error(path: str) -> None:
    for problem in check_url_path(path):
        assert problem.field == "url_path"


@given(st.lists(st.sampled_from(rest.METHODS), min_size=1))
def test_methods_are_normalised_whatever_their_order_and_case(names: list[str]) -> None:
    shouted = normalise_methods(" , ".join(names))
    assert shouted == normalise_methods(",".join(reversed(names)).lower())
    assert normalise_methods(shouted) == shouted
    assert methods(shouted) == frozenset(names)


def test_no_method_is_all_methods() -> None:
    assert normalise_methods(" , ") == ""
    assert methods("") == frozenset(rest.METHODS)


def test_zato_s_word_for_no_security_is_understood() -> None:
    assert no_security("zato-no-security") == ""
    assert no_security("ZATO_NONE") == ""
    assert no_security("CRM") == "CRM"


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("channel_rest", {"url_path": "/a", "method": "GET,FETCH"}, "method: has unknown methods: FETCH;"),
        ("channel_rest", {"url_path": "a"}, "url_path: must start with '/'."),
        ("channel_rest", {"url_path": "/a", "content_type": "json"}, "content_type: must be a media type"),
        ("outgoing_rest", {"host": "example.com"}, "host: must be a scheme, a host and perhaps a port"),
        ("outgoing_rest", {"host": "ftp://example.com"}, "host: must be a scheme"),
        ("outgoing_rest", {"host": "https://u:p@example.com"}, "host: must be a scheme"),
        ("outgoing_rest", {"host": "https://example.com/api"}, "host: must be a scheme"),
        ("outgoing_rest", {"host": "https://a", "url_path": "api"}, "url_path: must start with '/'."),
        ("outgoing_rest", {"host": "https://a", "content_type": "x"}, "content_type: must be a media type"),
        ("channel_websocket", {"address": "ws"}, "address: must be of the form ws://HOST:PORT/PATH"),
        ("channel_websocket", {"address": "ws://host/path"}, "address: must be of the form"),
        ("channel_websocket", {"address": "ws://host:0/path"}, "address: must have a port from 1 to 65535."),
        ("channel_websocket", {"address": "wss://host:1/path"}, "tls_certificate: is required for a wss://"),
        ("channel_websocket", {"address": "wss://host:1/path"}, "tls_key: is required for a wss://"),
        ("security_basic_auth", {"username": "a:b"}, "username: must not have a colon."),
        ("security_basic_auth", {"realm": 'a"b'}, "realm: must not have quotes or backslashes."),
        ("security_basic_auth", {"realm": "a\\b"}, "realm: must not have quotes or backslashes."),
        ("security_api_key", {"header": "X API"}, "header: must be the name of an HTTP header"),
        ("security_api_key", {"header": "X-API-Key:"}, "header: must be the name of an HTTP header"),
    ],
)
def test_objects_that_make_no_sense_are_refused(kind: str, given: dict[str, Any], message: str) -> None:
    assert any(problem.startswith(message) for problem in problems(kind, **given)), problems(kind, **given)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (
            "channel_rest",
            {"url_path": "/a", "method": "get, POST", "content_type": "text/csv; charset=utf-8"},
        ),
        ("channel_rest", {"url_path": "/a", "content_type": "application/vnd.api+json"}),
        ("outgoing_rest", {"host": "https://api.example.com:8443", "url_path": ""}),
        ("outgoing_rest", {"host": "HTTP://[::1]:8080", "url_path": "/v1/{id}"}),
        ("channel_websocket", {"address": "ws://[::]:48902/ws"}),
        ("channel_websocket", {"address": "/ws"}),
        ("channel_websocket", {"address": "wss://0.0.0.0:1/ws", "tls_certificate": "PEM", "tls_key": "PEM"}),
        ("security_basic_auth", {"username": "crm", "realm": "Patients' data"}),
        ("security_api_key", {"header": "Authorization"}),
    ],
)
def test_objects_that_make_sense_are_taken(kind: str, given: dict[str, Any]) -> None:
    assert problems(kind, **given) == []


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("channel_rest", "content_type"),
        ("outgoing_rest", "content_type"),
        ("security_basic_auth", "realm"),
        ("security_api_key", "header"),
    ],
)
def test_no_value_that_goes_into_a_header_may_start_a_new_line(kind: str, field: str) -> None:
    declared = base.declared(base.kind_class(kind))[field]
    _, problem = fields.check(field, declared, "text/x;a=b\r\nSet-Cookie: x")
    assert problem is not None


def test_keys_of_tokens_must_fit_their_algorithm() -> None:
    assert problems("security_jwt") == []
    assert problems("security_jwt", signing_key="k" * 32) == []
    assert [
        text.partition(":")[0] for text in problems("security_jwt", signing_key="k", public_keys="x")
    ] == [
        "signing_key",
        "public_keys",
    ]
    assert [text.partition(":")[0] for text in problems("security_jwt", algorithm="RS256")] == ["public_keys"]


def test_a_signing_key_that_cannot_be_read_here_is_left_as_it_is() -> None:
    values = {"algorithm": "RS256", "signing_key": UnreadableSecret("Its key is gone."), "public_keys": ""}
    assert list(base.kind_class("security_jwt").check(values, NoObjects(), 1)) == []
