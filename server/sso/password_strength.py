"""How hard a password is to guess: lists of common ones, words that everybody knows of a user, and zxcvbn's estimate."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

import zxcvbn
from zxcvbn.matching import RANKED_DICTIONARIES

SCORED: Final = 100  # characters, of the beginning
PIECE: Final = 32  # characters; what an estimate costs grows with more than their square
LEAST_WORD: Final = 4  # characters
MOST_WORDS: Final = 50
LONGEST_WORD: Final = 320  # characters
REST: Final = 3  # letters that may be left beside words that everybody knows

# Passwords that were seen most often in real breaches, in lower case; zxcvbn comes with them.
_COMMON: Final = RANKED_DICTIONARIES["passwords"]


def is_common(password: str) -> bool:
    """Whether the whole password, in any case, is among those that are tried first."""
    return password.casefold() in _COMMON


def is_made_of(password: str, words: Iterable[str]) -> bool:
    """Whether nothing much but these words is in a password, in any case, whatever digits and punctuation are with them."""
    rest = unicodedata.normalize("NFKC", password).casefold()
    found = False
    for word in sorted(words, key=len, reverse=True):
        if word in rest:
            rest, found = rest.replace(word, " "), True
    return found and sum(letter.isalpha() for letter in rest) <= REST


def known_words(about: Iterable[str]) -> list[str]:
    """The words in what everybody knows of a user, such as names and e-mail addresses, and their parts, case-folded."""
    words: dict[str, None] = {}
    for known in about:
        folded = unicodedata.normalize("NFKC", known[:LONGEST_WORD]).casefold()
        parts = "".join(letter if letter.isalpha() else " " for letter in folded).split()
        words.update(dict.fromkeys([folded.strip(), *parts]))
    return [word for word in words if len(word) >= LEAST_WORD][:MOST_WORDS]


def score(password: str, words: Sequence[str], enough: int) -> int:
    """Zxcvbn's estimate from 0 to 4, of the strongest piece, which is not more than that of the whole; ``enough`` ends it.

    Computes for up to a second, and holds the interpreter's lock for turns.
    """
    best, password = 0, password[:SCORED]
    for start in range(0, len(password), PIECE):
        found = zxcvbn.zxcvbn(password[start : start + PIECE], user_inputs=list(words))
        best = max(best, int(found["score"]))
        if best >= enough:
            break
    return best
