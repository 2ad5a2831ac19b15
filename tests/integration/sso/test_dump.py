"""A copy of the database, keys left out, gives nobody anything: no token, no password, no address, and nothing that works as one."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyotp
import pytest
from sqlalchemy import Engine

from junctor.server.sso import signup_services
from junctor.server.sso.change_password import NewPassword
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.login import Credentials
from junctor.server.sso.oidc.grants import Wanted
from junctor.server.sso.protection import username_key
from junctor.server.sso.signup import SignupCtx
from junctor.sql.secrets import Keyring
from junctor.sql.store import Store
from tests.helpers.authenticator import Authenticator
from tests.helpers.dump import found, leaves
from tests.helpers.mail_server import MailServer
from tests.helpers.objects import add
from tests.helpers.outbox import Outbox
from tests.helpers.sso import ADDRESS, APP, SsoUnderTest

ORIGIN = "https://www.example.com"
EMAIL, NEW_EMAIL = "canary-anna@example.com", "canary-new@example.com"
PASSWORDS = ["canary correct horse 1", "canary correct horse 2", "canary correct horse 3"]
BACK = f"{ORIGIN}/back"


@dataclass
class Story:
    """What happened, and every secret that somebody had in the course of it."""

    under: SsoUnderTest
    outbox: Outbox
    server: MailServer
    secrets: dict[str, str] = field(default_factory=dict)
    stored: list[str | bytes] = field(default_factory=list)

    def keep(self, name: str, value: str) -> str:
        """Remembers a secret."""
        assert len(value) >= 6, name
        self.secrets[name] = value
        return value

    def deliver(self) -> None:
        """Sends what waits to be sent; what was stored for that is part of the copy."""
        while ready := [item for item in self.outbox.waiting if not item.delay]:
            data = ready[0].message.data
            self.stored.append(data)
            self.outbox.make(ready[0])
            self.outbox.waiting.remove(ready[0])

    def mailed(self, kind: str) -> str:
        """The token of the newest mail of a kind."""
        self.deliver()
        texts = [match for item in self.server.received for match in re.findall(rf"#{kind}=(\w+)", item.text)]
        return str(texts[-1])


@pytest.fixture(scope="module")
def keyring() -> Keyring:
    from junctor.sql.secrets import new_key_line, parse_keys

    return Keyring(parse_keys(new_key_line()))


@pytest.fixture(scope="module")
def story(module_engine: Engine, keyring: Keyring) -> Iterator[Story]:
    store = Store.create(module_engine, "dump", keyring)
    with MailServer() as server:
        add(store, "email_smtp", "mail", **server.fields)
        under = SsoUnderTest(
            store,
            smtp_conn="mail",
            site_url=ORIGIN,
            webauthn_rp_id="example.com",
            webauthn_origins=[ORIGIN],
            oidc_issuer="https://sso.example.com/zato/sso/oidc",
        )
        secret = "canary-application-secret"
        under.application(APP, is_oidc_client=True, redirect_uris=[BACK], secret=secret)
        under.deploy(*signup_services.SERVICES)
        made = Story(under, Outbox(under.context), server)
        made.keep("application secret", secret)
        tell(made)
        yield made
        under.stop()


def tell(story: Story) -> None:
    """A user signs up, logs in, enrols, resets, registers and so on; some tokens are used, some are left."""
    under, sso, keep = story.under, story.under.sso, story.keep
    ust = _sign_up(story)
    enrolment = sso.totp_enrolment.begin(under.caller(ust))
    key = keep("TOTP key", enrolment.totp_key)
    enrolled = sso.totp_enrolment.confirm(under.caller(ust), pyotp.TOTP(key).now())
    for number, code in enumerate(enrolled.recovery_codes):
        keep(f"recovery code {number}", code)
    ust = keep("session after TOTP", enrolled.ust)
    keep("TOTP key that waits for its confirmation", sso.totp_enrolment.begin(under.caller(ust)).totp_key)

    passkeys, authenticator = sso.passkeys, Authenticator(ORIGIN)
    credential = authenticator.create(passkeys.registration_options(under.caller(ust)))
    ust = keep("session after passkey", passkeys.register(under.caller(ust), credential)[1])
    keep("passkey challenge", passkeys.authentication_options(under.caller())["challenge"])

    sso.users.update(under.caller(ust), {"email": NEW_EMAIL})
    keep("address", EMAIL)
    keep("new address", NEW_EMAIL)
    secret = keep("attribute", "canary-attribute-value")
    sso.attributes.of_user(under.caller(ust)).create("colour", secret, encrypt=True)
    _oidc(story, ust)
    _reset(story, key)


def _sign_up(story: Story) -> str:
    under, sso = story.under, story.under.sso
    keep, caller = story.keep, under.caller()
    wanted = SignupCtx("anna", EMAIL, keep("password", PASSWORDS[0]), APP, [APP])
    sso.signup.sign_up(caller, wanted)
    sso.signup.confirm(under.caller(), keep("confirm token", story.mailed("confirm_token")))
    other = SignupCtx("bob", "canary-bob@example.com", PASSWORDS[0], APP, [APP])
    sso.signup.sign_up(under.caller(), other)
    keep("confirm token that is left", story.mailed("confirm_token"))
    user = sso.users.by_username("anna")
    assert user is not None
    sso.users.decide(under.super_user_caller(), user.user_id, is_approved=True)
    first = sso.login.log_in(under.caller(), Credentials(username="anna", password=PASSWORDS[0]))
    keep("session", first.ust)
    wanted_ = NewPassword(old_password=PASSWORDS[0], new_password=keep("second password", PASSWORDS[1]))
    return keep("session after change", sso.change_password.change(under.caller(first.ust), wanted_))


def _oidc(story: Story, ust: str) -> None:
    sso = story.under.sso
    session = story.under.session(ust)
    wanted = Wanted(app=APP, scope="openid offline_access", redirect_uri=BACK, code_challenge="c" * 43)
    with sso.store.engine.begin() as connection:
        used = sso.oidc.grants.issue(connection, session, wanted)
        story.keep("code that is left", sso.oidc.grants.issue(connection, session, wanted))
        grant = sso.oidc.grants.use_code(connection, story.keep("code", used), APP)
        assert grant is not None
        for number in range(2):
            story.keep(f"refresh token {number}", sso.oidc.grants.new_refresh_token(connection, grant))
            grant = sso.oidc.grants.of_refresh_token(connection, story.secrets[f"refresh token {number}"])
            assert grant is not None


def _reset(story: Story, key: str) -> None:
    under, reset, keep = story.under, story.under.sso.password_reset, story.keep
    del key
    tokens = []
    for number in range(2):
        reset.create_token(under.caller(), "anna")
        tokens.append(keep(f"reset token {number}", story.mailed("reset_token")))
    keep("reset key", reset.access_token(under.caller(), tokens[1])[1])
    reset.create_token(under.caller(), NEW_EMAIL)  # which waits, with the address in it
    story.stored += [item.message.data for item in story.outbox.waiting]


def test_no_secret_is_in_any_row_of_any_table_in_any_encoding(story: Story) -> None:
    values = [*leaves(story.under.store.engine), *story.stored]
    assert len(values) > 500
    assert found(["anna", "CRM", username_key("Bob")], values) == {
        "anna",
        "CRM",
        "bob",
    }  # it finds what there is
    wanted = {value: name for name, value in story.secrets.items()}
    hidden = set(wanted) | {value.replace("-", "") for value in wanted if "recovery" in wanted[value]}
    assert {wanted.get(value, value) for value in found(hidden, values)} == set()


def test_plain_digests_are_not_stored_either(story: Story) -> None:
    """What a thief could make without the keys, from a guess, must not be there to compare it with."""
    digests = set()
    for secret in story.secrets.values():
        for algorithm in ("md5", "sha1", "sha256", "sha512"):
            made = hashlib.new(algorithm, secret.encode(), usedforsecurity=False).digest()
            digests |= {made.hex(), base64.b64encode(made).decode().rstrip("=")}
    assert found(digests, leaves(story.under.store.engine)) == set()


def _presented(values: Iterable[str | bytes]) -> set[str]:
    """What somebody would try who has the copy: each value, and bytes in the ways that tokens are written in."""
    tried = set()
    for value in values:
        if isinstance(value, str):
            tried.add(value)
        else:
            encoded = value.hex(), base64.urlsafe_b64encode(value).decode().rstrip("=")
            tried |= {*encoded, *(prefix + text for text in encoded for prefix in ("zust", "zoic", "zoir"))}
    return {value for value in tried if 6 <= len(value) <= 600}


def test_nothing_that_is_stored_works_as_a_credential(story: Story) -> None:
    under, sso = story.under, story.under.sso
    user = sso.users.by_username("anna")
    assert user is not None
    under.settings(throttle_address_limit=1_000_000)
    tried = _presented(leaves(under.store.engine))
    assert len(tried) > 300
    accepted: list[tuple[str, str]] = []

    def attempt(what: str, value: str, call: Any, *arguments: Any) -> None:
        try:
            if call(*arguments):
                accepted.append((what, value))
        except ValidationError:
            return

    with under.store.engine.begin() as connection:
        for value in sorted(tried):
            attempt("session", value, sso.sessions.find, value)
            for purpose in ("confirm", "reset", "reset-key"):
                attempt(purpose, value, sso.one_time.use, connection, purpose, value)
            attempt("recovery", value, sso.recovery_codes.use, connection, user.id, value)
            attempt("code", value, sso.oidc.grants.use_code, connection, value, APP)
            attempt("refresh", value, sso.oidc.grants.of_refresh_token, connection, value)
    assert accepted == []
    assert sso.sessions.find(story.secrets["session after passkey"]) is not None  # what was given out works


def test_a_stored_hash_is_not_the_password(story: Story) -> None:
    sso = story.under.sso
    user = sso.users.by_username("anna")
    assert user is not None
    stored = user.password
    inner = sso.protection.unseal(stored, "sso_user.password")
    for value in (stored, inner, inner.rpartition("$")[2]):
        assert not sso.passwords.verify(user, value).is_right
    assert sso.passwords.verify(user, PASSWORDS[1]).is_right
    assert ADDRESS
