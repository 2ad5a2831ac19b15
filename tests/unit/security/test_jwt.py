"""JWT definitions: whom a token lets in, what it never does, and the tokens that are issued."""

from __future__ import annotations

import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from hypothesis import given
from hypothesis import strategies as st

from junctor.server.security import jwt as live
from junctor.server.security.jwt import MAX_KNOWN, Jwt
from junctor.server.security.jwt_token import MAX_TOKEN
from junctor.sql.errors import ConnectionFailed, InvalidInput, SecretUnreadable
from junctor.sql.secrets import Keyring, UnreadableSecret, new_key_line, parse_keys
from tests.helpers.rsa_pem import private_pem, public_pem

from .conftest import Make, build, worker

KEY = "the-shared-key-of-at-least-32-bytes"


def make_jwt(make: Make, **fields: Any) -> Jwt:
    """A definition for anna, with a key that tests have as well unless it is given."""
    definition = make(
        "security_jwt", **({"username": "anna", "password": "right", "signing_key": KEY} | fields)
    )
    assert isinstance(definition, Jwt)
    return definition


def token(
    key: Any = KEY, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **claims: Any
) -> str:
    """A token of somebody who has a key; a claim of None is left out."""
    made = {"sub": "anna", "exp": int(time.time()) + 86_400} | claims
    return jwt.encode(
        {name: value for name, value in made.items() if value is not None}, key, algorithm, headers=headers
    )


def forged(header: dict[str, Any], claims: dict[str, Any], key: bytes | None) -> str:
    """A token made by hand, with what libraries refuse to make; without a key, without a signature."""
    parts = [_base64(json.dumps(part).encode()) for part in (header, claims)]
    signed = ".".join(parts)
    signature = b"" if key is None else hmac.new(key, signed.encode(), sha256).digest()
    return f"{signed}.{_base64(signature)}"


def _base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def with_header(text: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": f"{scheme} {text}"}


def both_ways(definition: Jwt, text: str) -> bool:
    """Whether a token lets a request in, and a session; it must do both or neither."""
    answers = definition.admits(with_header(text)), definition.admits_session("anybody", text)
    assert answers[0] is answers[1]
    return answers[0]


class TestWhoIsLetIn:
    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
    def test_a_token_lets_a_request_in(self, make: Make, scheme: str) -> None:
        assert make_jwt(make).admits(with_header(token(), scheme))

    @pytest.mark.parametrize("username", ["anna", "", "somebody else"])
    def test_a_token_opens_a_session_whatever_the_user_name_is(self, make: Make, username: str) -> None:
        assert make_jwt(make).admits_session(username, token())

    @pytest.mark.parametrize(
        "environ",
        [
            {},
            {"HTTP_AUTHORIZATION": ""},
            {"HTTP_AUTHORIZATION": "Bearer"},
            {"HTTP_AUTHORIZATION": "Bearer "},
            {"HTTP_AUTHORIZATION": token()},
            with_header(token(), "Basic"),
            with_header(token(), "Bearer Bearer"),
            with_header(token() + " " + token()),
            with_header(token() + ","),
            with_header("ä"),
            with_header("☃"),
            with_header("A" * (MAX_TOKEN + 1)),
            {"HTTP_X_API_KEY": token()},
        ],
    )
    def test_nothing_else_does(self, make: Make, environ: dict[str, str]) -> None:
        assert not make_jwt(make).admits(environ)

    def test_services_are_told_who_it_is(self, make: Make) -> None:
        info = make_jwt(make, password="canary").info
        assert (info.id, info.name, info.type, info.username) == (7, "the-name", "jwt", "anna")
        assert "canary" not in repr(info)

    def test_a_definition_that_is_not_active_lets_nobody_in(self, make: Make) -> None:
        definition = make_jwt(make, is_active=False)
        assert not both_ways(definition, token())
        assert not both_ways(definition, definition.issue())
        assert not definition.knows("right")

    def test_a_token_that_was_good_before_is_not_verified_again(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        definition = make_jwt(make)
        text = token()
        assert both_ways(definition, text)
        monkeypatch.setattr(live, "parse", None)
        assert both_ways(definition, text)

    def test_only_so_many_tokens_are_remembered(self, make: Make) -> None:
        definition = make_jwt(make)
        texts = [token(jti=str(number)) for number in range(MAX_KNOWN + 5)]
        assert all(definition.admits(with_header(text)) for text in texts)
        assert len(definition._known) == MAX_KNOWN
        assert definition.admits(with_header(texts[0]))

    def test_clients_are_told_whether_a_token_or_a_better_one_is_missing(self, make: Make) -> None:
        definition = make_jwt(make)
        assert definition.challenge_to({}) == 'Bearer realm="Junctor"'
        assert definition.challenge_to({"HTTP_AUTHORIZATION": "Basic YTpi"}) == 'Bearer realm="Junctor"'
        told = {definition.challenge_to(with_header(text)) for text in ("x", token(sub="otto"), token(exp=1))}
        assert told == {'Bearer realm="Junctor", error="invalid_token"'}


class TestTokensThatAreRefused:
    @pytest.mark.parametrize(
        "claims",
        [
            {"sub": None},
            {"sub": ""},
            {"sub": "otto"},
            {"sub": "Anna"},
            {"sub": "anna "},
            {"exp": None},
            {"exp": 1},
            {"iat": int(time.time()) + 3600},
            {"nbf": int(time.time()) + 3600},
        ],
    )
    def test_those_of_others_and_those_of_another_time(self, make: Make, claims: dict[str, Any]) -> None:
        assert not both_ways(make_jwt(make), token(**claims))

    def test_a_token_is_good_until_it_expires_and_not_a_moment_longer(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        definition = make_jwt(make)
        end = int(time.time()) + 60
        text = token(exp=end)
        now = float(end) - 0.001
        monkeypatch.setattr(live, "time", SimpleNamespace(time=lambda: now, monotonic=time.monotonic))
        assert both_ways(definition, text)
        now = float(end)
        assert not both_ways(definition, text)
        assert not both_ways(make_jwt(make), text)
        assert not definition._known

    @pytest.mark.parametrize("issuer", [None, "them", "", "US", 5, ["us"]])
    def test_those_of_another_issuer(self, make: Make, issuer: Any) -> None:
        definition = make_jwt(make, issuer="us")
        good = int(time.time()) + 60
        claims = {"sub": "anna", "exp": good} | ({} if issuer is None else {"iss": issuer})
        assert not both_ways(definition, forged({"alg": "HS256"}, claims, KEY.encode()))
        assert both_ways(definition, token(iss="us"))

    @pytest.mark.parametrize("audience", [None, "them", "", [], ["them"], ["us", 5], "us,them"])
    def test_those_for_another_audience(self, make: Make, audience: Any) -> None:
        definition = make_jwt(make, audience="us")
        assert not both_ways(definition, token(aud=audience))
        assert both_ways(definition, token(aud="us"))
        assert both_ways(definition, token(aud=["them", "us"]))

    def test_an_issuer_and_an_audience_that_are_not_demanded_may_be_anything(self, make: Make) -> None:
        assert both_ways(make_jwt(make), token(iss="them", aud=["them"]))

    def test_those_signed_with_another_key(self, make: Make) -> None:
        assert not both_ways(make_jwt(make), token("another-key-that-has-enough-bytes-too"))
        assert not both_ways(make_jwt(make, signing_key=""), token())

    @pytest.mark.parametrize(
        "algorithm", ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS256", "hs256"]
    )
    def test_those_that_name_another_algorithm(self, make: Make, algorithm: str) -> None:
        claims = {"sub": "anna", "exp": int(time.time()) + 60}
        for key in (None, KEY.encode()):
            text = forged({"alg": algorithm}, claims, key)
            assert not both_ways(make_jwt(make), text)
            assert not both_ways(make_jwt(make), text.rpartition(".")[0])

    @pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
    def test_those_that_are_rightly_signed_with_another_algorithm(self, make: Make, algorithm: str) -> None:
        key = KEY * 3
        assert not both_ways(make_jwt(make, signing_key=key), token(key, algorithm))

    def test_those_signed_with_a_public_key_as_if_it_were_shared(
        self, make: Make, rsa_keys: list[RSAPrivateKey]
    ) -> None:
        own = rsa_keys[0]
        claims = {"sub": "anna", "exp": int(time.time()) + 60}
        for fields in (
            {"signing_key": private_pem(own)},
            {"signing_key": "", "public_keys": public_pem(own)},
        ):
            definition = make_jwt(make, algorithm="RS256", **fields)
            for key in (public_pem(own).encode(), public_pem(own).strip().encode(), b""):
                for algorithm in ("HS256", "RS256"):
                    assert not both_ways(definition, forged({"alg": algorithm}, claims, key))

    def test_those_whose_header_brings_a_key_along(self, make: Make, rsa_keys: list[RSAPrivateKey]) -> None:
        definition = make_jwt(make, algorithm="RS256", signing_key=private_pem(rsa_keys[0]))
        jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_keys[1].public_key()))
        for headers in ({"jwk": jwk}, {"jku": "http://127.0.0.1:1/"}, {"x5u": "http://127.0.0.1:1/"}):
            assert not both_ways(definition, token(rsa_keys[1], "RS256", headers=headers))

    def test_those_with_a_part_of_another_token(self, make: Make) -> None:
        definition = make_jwt(make)
        mine, other = definition.issue().split("."), token(sub="otto").split(".")
        for number in range(3):
            mixed = [*mine]
            mixed[number] = other[number]
            assert not both_ways(definition, ".".join(mixed))
        assert both_ways(definition, ".".join(mine))

    @given(st.integers(min_value=0), st.sampled_from("ABCabc019-_=. \n"))
    def test_those_with_any_character_changed(self, position: int, character: str) -> None:
        definition, good = _shared_definition()
        position %= len(good)
        changed = good[:position] + character + good[position + 1 :]
        assert both_ways(definition, changed) == (changed == good)

    def test_those_that_are_deep_or_long_or_not_of_this_world(self, make: Make) -> None:
        definition = make_jwt(make)
        deep = '{"a":' * 500 + "1" + "}" * 500
        for header in (deep, '{"alg":"HS256","a":' + deep + "}", "[" * 5000):
            signed = f"{_base64(header.encode())}.{_base64(b'{}')}"
            signature = hmac.new(KEY.encode(), signed.encode(), sha256).digest()
            assert not both_ways(definition, f"{signed}.{_base64(signature)}")
        assert not definition.admits_session("", "\ud800.\udfff.a")
        assert not definition.admits_session("", "")
        assert not both_ways(definition, token(x="y" * MAX_TOKEN))

    def test_those_with_a_member_twice(self, make: Make) -> None:
        parts = [b'{"alg":"HS256"}', b'{"sub":"otto","sub":"anna","exp":9999999999}']
        signed = ".".join(_base64(part) for part in parts)
        signature = hmac.new(KEY.encode(), signed.encode(), sha256).digest()
        assert not both_ways(make_jwt(make), f"{signed}.{_base64(signature)}")

    def test_those_that_the_library_cannot_verify(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        definition = make_jwt(make)

        def fails(*_: Any, **__: Any) -> None:
            raise jwt.DecodeError("for the test")

        monkeypatch.setattr(definition._verifier, "decode", fails)
        assert not both_ways(definition, token())


@cache
def _shared_definition() -> tuple[Jwt, str]:
    """A definition and a token of it for all examples of a property test, which cannot have the fixtures of a test."""
    definition = build(worker(Keyring(parse_keys(new_key_line()))), "security_jwt", username="anna")
    assert isinstance(definition, Jwt)
    return definition, definition.issue()


class TestRotation:
    def test_all_shared_keys_verify_and_the_first_one_signs(self, make: Make) -> None:
        old, new = "old-" + "k" * 32, "new-" + "k" * 32
        before, between = make_jwt(make, signing_key=old), make_jwt(make, signing_key=f"{new}\n{old}")
        after = make_jwt(make, signing_key=new)
        assert both_ways(between, before.issue())
        assert both_ways(after, between.issue())
        assert not both_ways(after, before.issue())
        for key in (old, new):
            assert both_ways(between, token(key))  # without a key id, each is tried
            assert both_ways(between, token(key, headers={"kid": "the issuer's own name for it"}))

    def test_all_public_keys_verify_and_the_private_one_signs(
        self, make: Make, rsa_keys: list[RSAPrivateKey]
    ) -> None:
        own, old, foreign = rsa_keys
        definition = make_jwt(
            make,
            algorithm="RS256",
            signing_key=private_pem(own),
            public_keys=public_pem(old) + public_pem(own),
        )
        assert both_ways(definition, definition.issue())
        assert both_ways(definition, token(own, "RS256"))
        assert both_ways(definition, token(old, "RS256", headers={"kid": "2026-01"}))
        assert not both_ways(definition, token(foreign, "RS256"))
        assert jwt.decode(definition.issue(), own.public_key(), ["RS256"])["sub"] == "anna"

    def test_a_key_id_that_names_another_key_does_not_help(
        self, make: Make, rsa_keys: list[RSAPrivateKey]
    ) -> None:
        own, _, foreign = rsa_keys
        definition = make_jwt(make, algorithm="RS256", signing_key=private_pem(own))
        key_id = jwt.get_unverified_header(definition.issue())["kid"]
        assert not both_ways(definition, token(foreign, "RS256", headers={"kid": key_id}))

    def test_a_new_key_of_the_cluster_ends_no_token_whoever_knows_it_first(
        self, make: Make, tmp_path: Path
    ) -> None:
        path, old, new = tmp_path / "keyring", new_key_line(), new_key_line()
        path.write_text(old)
        first, second = (make_jwt(make, signing_key="", context=worker(Keyring.load(path))) for _ in range(2))
        issued = first.issue()
        path.write_text(new + old)
        restarted = make_jwt(make, signing_key="", context=worker(Keyring.load(path)))
        later = restarted.issue()
        assert jwt.get_unverified_header(later)["kid"] != jwt.get_unverified_header(issued)["kid"]
        assert all(both_ways(one, text) for one in (first, second, restarted) for text in (issued, later))
        path.write_text(new)
        gone = make_jwt(make, signing_key="", context=worker(Keyring.load(path)))
        assert both_ways(gone, later)
        assert not both_ways(gone, issued)
        # A worker that goes on has its keys from the file as soon as it meets one that it does not know; what it remembers ends then.
        assert both_ways(first, issued)
        path.write_text(new_key_line() + new)
        newest = make_jwt(make, signing_key="", context=worker(Keyring.load(path)))
        assert both_ways(first, newest.issue())
        assert both_ways(first, later)
        assert not both_ways(first, issued)

    def test_a_token_is_of_one_definition_though_another_has_the_same_user(self, make: Make) -> None:
        mine, other = make_jwt(make, signing_key=""), make_jwt(make, signing_key="", id=8)
        assert both_ways(mine, mine.issue())
        assert not both_ways(other, mine.issue())

    def test_a_new_password_ends_what_was_issued_with_the_clusters_keys(self, make: Make) -> None:
        before, after = (make_jwt(make, signing_key="", password=password) for password in ("one", "two"))
        assert not both_ways(after, before.issue())
        assert both_ways(make_jwt(make, signing_key="", password="one", ttl=60), before.issue())

    def test_two_clusters_that_share_a_key_accept_each_others_tokens(self, make: Make) -> None:
        far = worker(Keyring(parse_keys(new_key_line())))
        one, other = make_jwt(make), make_jwt(make, id=99, context=far)
        assert both_ways(other, one.issue())
        assert both_ways(one, other.issue())


class TestSessionsThatAreOpen:
    def ticket(self, definition: Jwt, text: str = "") -> object:
        return definition.session_ticket("", text or definition.issue())

    def test_a_ticket_is_good_for_as_long_as_the_token_would_be_taken(self, make: Make) -> None:
        ticket = self.ticket(make_jwt(make))
        assert make_jwt(make, ttl=60, password="another").still_admits(ticket)
        assert make_jwt(make, signing_key=f"{'n' * 32}\n{KEY}").still_admits(ticket)
        for fields in (
            {"is_active": False},
            {"username": "otto"},
            {"signing_key": "n" * 32},
            {"signing_key": ""},
            {"issuer": "us"},
            {"audience": "us"},
        ):
            assert not make_jwt(make, **fields).still_admits(ticket), fields

    def test_a_session_outlives_the_token_that_opened_it(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        definition = make_jwt(make, ttl=5)
        text = definition.issue()
        ticket = self.ticket(definition, text)
        later = time.time() + 3600
        monkeypatch.setattr(live, "time", SimpleNamespace(time=lambda: later, monotonic=time.monotonic))
        assert not both_ways(definition, text)
        assert definition.still_admits(ticket)
        assert not definition.still_admits(definition.session_ticket("", text))

    def test_a_ticket_has_nothing_that_opens_a_session(self, make: Make) -> None:
        definition = make_jwt(make)
        text = definition.issue()
        ticket = self.ticket(definition, text)
        shown = repr(ticket)
        assert not any(part in shown for part in text.split("."))

    @pytest.mark.parametrize("ticket", [None, b"", b"x" * 32, "x", object()])
    def test_a_ticket_of_another_definition_is_none(self, make: Make, ticket: object) -> None:
        assert not make_jwt(make).still_admits(ticket)
        assert not make("security_api_key", key="k").still_admits(self.ticket(make_jwt(make)))


class TestIssuing:
    def test_a_token_says_who_it_is_for_how_long_and_nothing_secret(self, make: Make) -> None:
        definition = make_jwt(make, ttl=90, issuer="us", audience="them", password="canary-password")
        before = int(time.time())
        text = definition.issue()
        claims = jwt.decode(text, KEY, ["HS256"], audience="them", issuer="us")
        assert set(claims) == {"sub", "iat", "exp", "jti", "iss", "aud"}
        assert before <= claims["iat"] <= time.time()
        assert claims["exp"] == claims["iat"] + 90
        assert jwt.get_unverified_header(text).keys() == {"alg", "typ", "kid"}
        assert "canary" not in urlsafe_b64decode(text.split(".")[1] + "==").decode("latin-1")
        assert both_ways(definition, text)

    def test_without_an_issuer_and_an_audience_it_has_none(self, make: Make) -> None:
        assert set(jwt.decode(make_jwt(make).issue(), KEY, ["HS256"])) == {"sub", "iat", "exp", "jti"}

    def test_no_two_tokens_are_alike(self, make: Make) -> None:
        definition = make_jwt(make)
        assert len({definition.issue() for _ in range(20)}) == 20

    def test_public_keys_alone_issue_nothing(self, make: Make, rsa_keys: list[RSAPrivateKey]) -> None:
        definition = make_jwt(make, algorithm="RS256", signing_key="", public_keys=public_pem(rsa_keys[0]))
        assert both_ways(definition, token(rsa_keys[0], "RS256"))
        assert not definition.knows("right")
        for action in (definition.issue, definition.outgoing_session, definition.outgoing_token):
            with pytest.raises(ConnectionFailed, match="'the-name' cannot issue tokens"):
                action()

    def test_an_outgoing_session_is_opened_with_a_new_token(self, make: Make) -> None:
        definition = make_jwt(make)
        username, text = definition.outgoing_session()
        assert username == "anna"
        assert both_ways(definition, text)
        assert definition.outgoing_session()[1] != text

    def test_calls_share_a_token_until_half_of_its_time_is_over(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        definition = make_jwt(make, ttl=100)
        now = 1000.0
        monkeypatch.setattr(live, "time", SimpleNamespace(time=time.time, monotonic=lambda: now))
        text = definition.outgoing_token()
        now = 1049.0
        assert definition.outgoing_token() == text
        now = 1050.0
        assert definition.outgoing_token() != text

    @pytest.mark.parametrize("password", ["", "Right", "right ", "wrong", "\ud800", "r" * 10_000])
    def test_a_wrong_password_is_none(self, make: Make, password: str) -> None:
        assert not make_jwt(make).knows(password)
        assert make_jwt(make).knows("right")

    @pytest.mark.parametrize("password", ["", "anything"])
    def test_an_empty_password_is_nobodys(self, make: Make, password: str) -> None:
        assert not make_jwt(make, password="").knows(password)


class TestDefinitionsThatCannotWork:
    @pytest.mark.parametrize(
        "fields",
        [
            {"signing_key": "too-short"},
            {"public_keys": "no key"},
            {"algorithm": "RS256"},
            {"algorithm": "RS256", "signing_key": ""},
        ],
    )
    def test_bad_keys_are_one_clear_problem(self, make: Make, fields: dict[str, Any]) -> None:
        with pytest.raises(InvalidInput, match="_key"):
            make_jwt(make, **fields)

    def test_a_secret_that_cannot_be_read_lets_nobody_in(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        definition = make_jwt(make)
        config = definition.config.replaced("password", UnreadableSecret("Its key is gone."))
        with pytest.raises(SecretUnreadable, match="gone"):
            Jwt(config, definition.context)
