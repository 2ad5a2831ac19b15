"""Tokens as callers give them: which are well-formed, and which claims hold."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junctor.server.security.jwt_token import FOREVER, LEEWAY, MAX_TOKEN, TokenRefused, parse, read

NOW = 1_800_000_000.0
HEADER: dict[str, Any] = {"alg": "HS256", "typ": "JWT", "kid": "k1"}
CLAIMS: dict[str, Any] = {"sub": "anna", "exp": NOW + 60}


def part(value: Any) -> str:
    """A part of a token: bytes and text as they are, anything else as JSON."""
    raw = (
        value
        if isinstance(value, bytes)
        else (value if isinstance(value, str) else json.dumps(value)).encode()
    )
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def text(header: Any = HEADER, claims: Any = CLAIMS, signature: bytes = b"s" * 32) -> str:
    return f"{part(header)}.{part(claims)}.{part(signature)}"


def test_a_token_is_taken_apart() -> None:
    token = parse(text())
    assert (token.algorithm, token.key_id, token.claims) == ("HS256", "k1", CLAIMS)
    signed, _, _ = text().rpartition(".")
    assert token.digest == hashlib.sha256(signed.encode()).digest()
    assert parse(text({"alg": "RS256"})).key_id == ""
    assert parse(text({"alg": "RS256", "typ": "at+JWT"})).algorithm == "RS256"


def deep(opening: str, closing: str, levels: int = 2000) -> str:
    return opening * levels + closing * levels


@pytest.mark.parametrize(
    "given",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        text() + ".",
        text() + "=",
        text() + "\n",
        " " + text(),
        text().replace(".", " ", 1),
        text() + "ä",
        text() + "\ud800",
        "A" * (MAX_TOKEN + 1),
        text(claims={**CLAIMS, "more": "x" * MAX_TOKEN}),
        f"A.{part(CLAIMS)}.{part('s')}",  # no number of bytes has this length
        f"{part(HEADER)}.{part(CLAIMS)}.A",
        text("no JSON"),
        text("[]"),
        text('"text"'),
        text("null"),
        text(b"\xff\xfe{}"),
        text('{"alg": "HS256"}'.encode("utf-16")),
        text(claims="[]"),
        text(claims='{"sub": "anna", "exp": NaN}'),
        text(claims='{"sub": "anna", "exp": Infinity}'),
        text(claims='{"exp": ' + "1" * 5000 + "}"),
        text(deep("[", "]")),
        text('{"alg": "HS256", "x": ' + deep("[", "]") + "}"),
        text(claims=deep('{"a":', "}", 1000)),
        text('{"alg": "none", "alg": "HS256"}'),
        text(claims='{"sub": "otto", "sub": "anna"}'),
        text(claims='{"sub": "anna", "x": {"a": 1, "a": 2}}'),
        text({}),
        text({"alg": None}),
        text({"alg": ["HS256"]}),
        text({**HEADER, "kid": 5}),
        text({**HEADER, "kid": {"a": "b"}}),
        text({**HEADER, "typ": 5}),
        text({**HEADER, "typ": "logout+jwt"}),
        text({**HEADER, "typ": "dpop+jwt"}),
        text({**HEADER, "crit": ["exp"]}),
        text({**HEADER, "crit": []}),
        text({**HEADER, "b64": False}),
    ],
)
def test_anything_else_is_refused(given: str) -> None:
    with pytest.raises(TokenRefused):
        parse(given)


@pytest.mark.parametrize("number", range(3))
def test_a_part_has_one_spelling(number: int) -> None:
    """The last character of base64 may have bits that decoders ignore: such a spelling is another text for the same token."""
    raw = [json.dumps(HEADER), json.dumps(CLAIMS), "s" * 32]
    while len(raw[number]) % 3 == 0:
        raw[number] += " "
    parts = [part(one) for one in raw]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = parts[number][-1]
    parse(".".join(parts))
    parts[number] = parts[number][:-1] + alphabet[alphabet.index(last) + 1]
    with pytest.raises(TokenRefused):
        parse(".".join(parts))


@given(st.text(max_size=200))
def test_no_text_does_anything_but_being_refused(given_text: str) -> None:
    with pytest.raises(TokenRefused):
        parse(given_text)


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
def test_no_bytes_in_the_parts_do(header: bytes, claims: bytes, signature: bytes) -> None:
    with pytest.raises(TokenRefused):
        parse(text(header, claims, signature))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["sub", "exp", "iat", "nbf", "iss", "aud", "jti"]), JSON))
def test_claims_of_any_types_are_read_or_refused(claims: dict[str, Any]) -> None:
    try:
        found = read(claims, NOW)
    except TokenRefused:
        return
    assert isinstance(found.subject, str)
    assert NOW < found.expires <= FOREVER


def test_claims_are_read() -> None:
    found = read({**CLAIMS, "iss": "us", "aud": ["a", "b"], "iat": NOW - 5, "nbf": int(NOW), "x": [1]}, NOW)
    assert (found.subject, found.issuer, found.audience, found.expires) == (
        "anna",
        "us",
        ("a", "b"),
        NOW + 60,
    )
    assert read({**CLAIMS, "aud": "a"}, NOW).audience == ("a",)
    assert read(CLAIMS, NOW).audience == ()
    assert read({**CLAIMS, "exp": 10**300}, NOW).expires == FOREVER
    assert read({**CLAIMS, "exp": float("inf")}, NOW).expires == FOREVER


@pytest.mark.parametrize(
    "change",
    [
        {"sub": None},
        {"sub": 5},
        {"sub": ["anna"]},
        {"iss": 5},
        {"iss": None},
        {"aud": None},
        {"aud": 5},
        {"aud": ["a", 5]},
        {"aud": {"a": 1}},
        {"exp": None},
        {"exp": str(NOW + 60)},
        {"exp": True},
        {"exp": [NOW]},
        {"exp": NOW},
        {"exp": NOW - 0.001},
        {"exp": 0},
        {"exp": -(10**300)},
        {"exp": float("-inf")},
        {"iat": NOW + LEEWAY + 1},
        {"nbf": NOW + LEEWAY + 1},
        {"nbf": 10**300},
        {"iat": str(NOW)},
        {"iat": None},
        {"nbf": False},
    ],
)
def test_claims_that_do_not_hold_or_are_of_another_type_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused):
        read({**CLAIMS, **change}, NOW)


@pytest.mark.parametrize("missing", ["sub", "exp"])
def test_a_subject_and_an_end_must_be_there(missing: str) -> None:
    with pytest.raises(TokenRefused):
        read({name: value for name, value in CLAIMS.items() if name != missing}, NOW)


def test_an_issuers_clock_may_be_a_little_ahead() -> None:
    assert read({**CLAIMS, "iat": NOW + LEEWAY, "nbf": NOW + LEEWAY}, NOW)
