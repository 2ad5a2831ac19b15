"""Password hashes: made and verified in a thread of their own, and encrypted."""

from __future__ import annotations

import logging
import time
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from junctor.server.sso import foreign_hashes, pbkdf2
from junctor.server.sso.cpu_thread import CpuThread
from junctor.server.sso.errors import invalid
from junctor.server.sso.foreign_hashes import Hash
from junctor.server.sso.pbkdf2 import Pbkdf2
from junctor.sql.errors import SecretUnreadable
from junctor.sql.secrets import PREFIX

if TYPE_CHECKING:
    from junctor.server.sso.records import User
    from junctor.server.sso.single_sign_on import SingleSignOn

FIELD: Final = "sso_user.password"
NICENESS: Final = 19
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a password is right, and whether it should be hashed anew: other rounds, another format, another key."""

    is_right: bool
    is_outdated: bool = False


class Passwords:
    """Hashes of passwords; waiting for one lets the worker go on with others.

    Whatever is verified takes as long as one hash with the current settings, or longer for one that costs more.
    """

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso
        self._thread = CpuThread(NICENESS)
        self._unmatched: Pbkdf2 | None = None
        self._unmatched_stored = ""
        self._seconds_per_round = 0.0

    def settings_changed(self) -> None:
        """Goes by new settings."""
        self._unmatched, self._unmatched_stored = None, ""

    def stop(self) -> None:
        """Ends the thread."""
        self._thread.stop()

    def hashed(self, password: str) -> str:
        """What to store of a new password: PBKDF2-HMAC-SHA512 in passlib's format, sealed for 'sso_user.password'.

        Takes long: nobody should hold a connection meanwhile.  Raises ``ValidationError`` (E005009) if too many wait.
        """
        given, rounds, salt_size = encoded(password), self._rounds, self._salt_size
        return self._sealed(str(self._thread.run(lambda: pbkdf2.made(given, rounds, salt_size))))

    def stored(self, foreign_hash: str) -> str:
        """What to store of a hash that another system made (bcrypt, argon2, scrypt, PBKDF2).  Raises ``ValidationError``."""
        text = foreign_hash.strip()
        if foreign_hashes.parsed(text) is None:
            raise invalid(
                "password_hash",
                "must be a hash by bcrypt, Argon2, scrypt or PBKDF2, which does not cost too much to compare.",
            )
        return self._sealed(text)

    def verify(self, user: User | None, password: str) -> Verdict:
        """Whether this is the password of the user; for None, no, after as much work.

        Raises ``ValidationError`` (E005009) if too many wait.
        """
        stored, unmatched = self._readable(user), self._unmatched_hash()
        found = foreign_hashes.parsed(stored) if stored else None
        hash_: Hash = found or unmatched
        given, rounds = encoded(password), self._rounds
        is_equal = self._thread.run(lambda: self._compared(hash_, given, rounds))
        if user is None or not user.password_is_set or found is None or not is_equal:
            return Verdict(False)
        return Verdict(True, self._is_outdated(user.password, found))

    def _compared(self, hash_: Hash, password: bytes, rounds: int) -> bool:
        """Whether they match, after as much work as a hash of ``rounds`` is; in the thread."""
        started = time.thread_time()
        is_equal = hash_.matches(password)
        spent = time.thread_time() - started
        if isinstance(hash_, Pbkdf2) and hash_.digest == pbkdf2.OWN:
            self._seconds_per_round = spent / hash_.rounds
            done = hash_.rounds
        else:
            done = int(spent / self._seconds_per_round) if self._seconds_per_round else 0
        if done < rounds:
            pbkdf2.derive(password, b"fill", rounds - done)
        return is_equal

    def _readable(self, user: User | None) -> str:
        """The user's hash as it was made; '' if there is none, or no key for it."""
        stored = self._unmatched_text() if user is None or not user.password_is_set else user.password
        if not stored.startswith(PREFIX):
            return stored
        try:
            return self._sso.protection.unseal(stored, FIELD)
        except SecretUnreadable as error:
            # An answer of its own would tell that there is such a user.
            log.error("The password of user %s cannot be verified: %s", user.user_id if user else "-", error)
            return ""

    def _unmatched_hash(self) -> Pbkdf2:
        if self._unmatched is None:
            self._unmatched = pbkdf2.unmatched(self._rounds, self._salt_size)
        return self._unmatched

    def _unmatched_text(self) -> str:
        """A hash of no password, as it would be stored: reading it takes as long as reading a user's."""
        if not self._unmatched_stored:
            self._unmatched_stored = self._sealed(str(self._unmatched_hash()))
        return self._unmatched_stored

    def _is_outdated(self, stored: str, found: Hash) -> bool:
        is_sealed = stored.startswith(PREFIX)
        if is_sealed != self._sso.settings["encrypt_password"]:
            return True
        if is_sealed and not self._sso.protection.is_current(stored):
            return True
        return not (
            isinstance(found, Pbkdf2)
            and found.is_passlib
            and found.digest == pbkdf2.OWN
            and found.rounds == self._rounds
            and len(found.salt) == self._salt_size
        )

    def _sealed(self, text: str) -> str:
        return self._sso.protection.seal(text, FIELD) if self._sso.settings["encrypt_password"] else text

    @property
    def _rounds(self) -> int:
        return int(self._sso.settings["hash_secret_rounds"])

    @property
    def _salt_size(self) -> int:
        return int(self._sso.settings["hash_secret_salt_size"])


def encoded(password: str) -> bytes:
    """The bytes that are hashed of a password: those of its composed characters (NFC; NIST SP 800-63B-4, section 3.1.1.2)."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
