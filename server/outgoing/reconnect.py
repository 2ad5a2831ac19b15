"""When to try again to connect."""

from __future__ import annotations

import random
from time import monotonic
from typing import Final

FIRST_PAUSE: Final = 0.25  # seconds
LONGEST_PAUSE: Final = 30.0  # seconds
_MAX_DOUBLINGS: Final = 16


class Pause:
    """The pause before the next attempt: twice as long each time, half of it at random, so that not everybody comes at once."""

    def __init__(self) -> None:
        self.failures = 0
        self._until = 0.0

    def reset(self) -> None:
        """The next attempt is made at once."""
        self.failures, self._until = 0, 0.0

    def failed(self, *, after_success: bool = False) -> None:
        """An attempt has failed, or a connection was lost: one that had worked when ``after_success``, so pauses begin anew."""
        if after_success:
            self.failures = 0
        seconds = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self.failures, _MAX_DOUBLINGS))
        self.failures += 1
        self._until = monotonic() + seconds * random.uniform(0.5, 1.0)  # noqa: S311 - spreads attempts, hides nothing

    @property
    def left(self) -> float:
        """Seconds until the next attempt."""
        return max(0.0, self._until - monotonic())
