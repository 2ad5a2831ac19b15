"""Single Sign-On for tests of second factors: with a clock that tests set, and notices that are read here instead of sent."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pyotp
import pytest

from junctor.server.sso.caller import Caller
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.records import User
from junctor.sql.secrets import Keyring
from junctor.sql.store import Store
from tests.helpers.authenticator import Authenticator
from tests.helpers.sso import SsoUnderTest

RP_ID = "example.com"
ORIGIN = "https://www.example.com"
_numbers = itertools.count(1)


class SecondFactors(SsoUnderTest):
    """Its clock stands still at ``now``; ``notices`` are (user id, event)."""

    def __init__(self, engine: Any, keyring: Keyring, **settings: Any) -> None:
        store = Store.create(engine, f"second-factors-{next(_numbers)}", keyring)
        given = {"webauthn_rp_id": RP_ID, "webauthn_origins": [ORIGIN], "site_name": "Example", **settings}
        super().__init__(store, **given)
        self.now = time.time()
        self.notices: list[tuple[str, str]] = []
        self.sso.totp.clock = lambda: self.now
        self.sso.mail.notice = self._notice  # type: ignore[method-assign]  # what mails look like is tested elsewhere

    def _notice(self, caller: Caller, user: User, event: str, *, email: str = "") -> None:
        self.notices.append((user.user_id, event))

    def code(self, key: str, *, steps: int = 0) -> str:
        """The code of a key, so many steps of 30 seconds from now."""
        return pyotp.TOTP(key).at(int(self.now), counter_offset=steps)

    def with_totp(self, username: str = "alice") -> tuple[User, str]:
        """A user who is asked for codes of this key."""
        key = pyotp.random_base32()
        sealed = self.sso.protection.seal(key, "sso_user.totp_key")
        return self.user(username, "", is_totp_enabled=True, totp_key_sealed=sealed), key

    def with_passkey(self, username: str = "alice", **more: Any) -> tuple[User, Authenticator]:
        """A user with a passkey in this authenticator."""
        user, authenticator = self.user(username, ""), Authenticator(ORIGIN, **more)
        caller = self.caller(self.log_in(username))
        credential = authenticator.create(self.sso.passkeys.registration_options(caller))
        self.sso.passkeys.register(caller, credential, "Key ring")
        self.notices.clear()
        return user, authenticator


def refused(code: str, call: Any, *arguments: Any, **named: Any) -> ValidationError:
    """What a call was refused with, which has this code."""
    with pytest.raises(ValidationError) as raised:
        call(*arguments, **named)
    assert raised.value.sub_status == [code], raised.value
    return raised.value
