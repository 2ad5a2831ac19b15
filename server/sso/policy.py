"""What user names, e-mail addresses and passwords must be like."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from email_validator import EmailNotValidError, validate_email

from junctor.server.sso import password_strength
from junctor.server.sso.codes import status_code
from junctor.server.sso.cpu_thread import CpuThread
from junctor.server.sso.protection import username_key

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

MOST_SCORED: Final = 50  # at a time
MAX_USERNAME: Final = 200  # characters
MAX_USERNAME_KEY: Final = 800  # characters
NO_CHARACTERS: Final = frozenset(
    {"Cc", "Cf", "Cs", "Co", "Cn"}
)  # control, format, surrogate, private, unassigned


class Policy:
    """The rules of the settings."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso
        self._scorer = CpuThread(most_waiting=MOST_SCORED)
        self._rejected: frozenset[str] | None = None

    def settings_changed(self) -> None:
        """Goes by new settings."""
        self._rejected = None

    def stop(self) -> None:
        """Ends the thread in which passwords are scored."""
        self._scorer.stop()

    def password_problems(self, password: str, *, about: Sequence[str] = ()) -> list[str]:
        """Sub-status codes; ``about`` are words that everybody knows of the user, such as the name and the e-mail address.

        Others run while it computes.  Raises ``ValidationError`` (E005009) if too many wait for that.
        """
        if has_surrogates(password):
            return [status_code.password.invalid]
        password = unicodedata.normalize("NFC", password)
        problems = self._shape_problems(password)
        if status_code.password.too_long in problems:
            return problems
        words = password_strength.known_words([*about, self._sso.settings["site_name"]])
        if password_strength.is_common(password) or password_strength.is_made_of(password, words):
            problems.append(status_code.password.too_common)
        least = int(self._sso.settings["password_min_complexity"])
        if least:
            score = self._scorer.run(lambda: password_strength.score(password, words, least))
            if score < least:
                problems.append(status_code.password.not_complex_enough)
        return problems

    def username_problems(self, username: str, *, is_reserved_allowed: bool = False) -> list[str]:
        """Sub-status codes of a user name, but for whether it is taken; super-users may give one with a reserved word, such as admin."""
        settings, codes = self._sso.settings, status_code.username
        name = unicodedata.normalize("NFC", username)
        if len(name) > min(settings["signup_max_length_username"], MAX_USERNAME):
            return [codes.too_long]
        if any(letter.isspace() for letter in name):
            return [codes.has_whitespace]
        if not name or any(unicodedata.category(letter) in NO_CHARACTERS for letter in name):
            return [codes.invalid]
        key = username_key(name)
        if len(key) > MAX_USERNAME_KEY:
            return [codes.too_long]
        reserved = () if is_reserved_allowed else settings["user_validation_reject_username"]
        return [codes.invalid] if _has_any(key, reserved) else []

    def email_problems(self, email: str, *, is_reserved_allowed: bool = False) -> list[str]:
        """Sub-status codes of an e-mail address, but for whether it is taken; reserved words as with user names."""
        settings, codes = self._sso.settings, status_code.email
        if len(email) > settings["signup_max_length_email"]:
            return [codes.too_long]
        if any(letter.isspace() for letter in email):
            return [codes.has_whitespace]
        try:
            local = validate_email(email, check_deliverability=False).local_part
        except EmailNotValidError:
            return [codes.invalid]
        reserved = () if is_reserved_allowed else settings["user_validation_reject_email"]
        return [codes.invalid] if _has_any(username_key(local), reserved) else []

    def _shape_problems(self, password: str) -> list[str]:
        settings, codes = self._sso.settings, status_code.password
        problems = []
        if len(password) < settings["password_min_length"]:
            problems.append(codes.too_short)
        if len(password) > settings["password_max_length"]:
            problems.append(codes.too_long)
        is_space_allowed = settings["signup_password_allow_whitespace"]
        if password.casefold() in self._rejected_passwords() or (
            not is_space_allowed and any(letter.isspace() for letter in password)
        ):
            problems.append(codes.invalid)
        return problems

    def _rejected_passwords(self) -> frozenset[str]:
        if self._rejected is None:
            listed = self._sso.settings["password_reject_list"]
            self._rejected = frozenset(unicodedata.normalize("NFC", word).casefold() for word in listed)
        return self._rejected


def has_surrogates(text: str) -> bool:
    """Whether there are halves of surrogate pairs in it, which are no characters."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def _has_any(key: str, words: Iterable[str]) -> bool:
    """Whether a case-folded name has any of these words in it."""
    return any(username_key(word) in key for word in words if word)
