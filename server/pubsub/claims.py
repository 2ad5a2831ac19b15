"""Taking subscriptions and giving them back, so that none is left with a worker that does not know of it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Container, Sequence
from time import monotonic
from typing import Final

from junctor.server.pubsub.ownership import Claimed, Ownership
from junctor.sql.errors import JunctorError

CHECK_INTERVAL: Final = 30.0  # seconds between two looks at what the worker owns
log = logging.getLogger(__name__)


class Claims:
    """What a worker claims and releases.

    Whether a claim or a release has happened is not known when the database goes away in the middle of it.  What the worker owns
    without delivering it would be delivered by nobody for as long as the worker lives; ``tidy`` finds that, and gives it back.
    """

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self._under_way: Counter[int] = Counter()
        self._unreleased: list[tuple[int, int, list[int]]] = []
        self._is_in_doubt = False
        self._next_check = 0.0

    def claim(self, sub_ids: Sequence[int], *, by_force: bool = False) -> list[Claimed]:
        """Those that are this worker's from now on, see ``Ownership.claim``.  Whoever gets them must deliver them at once, or release them.

        Raises ``StoreUnavailable``.
        """
        self._under_way.update(sub_ids)
        try:
            return self._ownership.claim(sub_ids, by_force=by_force)
        except BaseException:  # its transaction may have been committed
            self._is_in_doubt = True
            raise
        finally:
            self._under_way.subtract(sub_ids)

    def release(self, released: Sequence[tuple[int, int, list[int]]]) -> None:
        """Gives subscriptions back, see ``Ownership.release``; those that cannot be given back now are by ``tidy``."""
        try:
            self._ownership.release(released)
        except JunctorError as error:
            log.info("%d subscriptions cannot be given back yet: %s", len(released), error)
            self._unreleased += released

    def tidy(self, delivered: Container[int], ending: Container[int]) -> None:
        """Gives back what should have been, and what the worker owns without knowing.

        ``delivered`` are the subscriptions that it delivers, ``ending`` those that it is about to give back.  Raises ``StoreUnavailable``,
        and then the next call does it.
        """
        if self._unreleased:
            again, self._unreleased = self._unreleased, []
            self.release([one for one in again if one[0] not in delivered])
        now = monotonic()
        if not self._is_in_doubt and now < self._next_check:
            return
        owned = self._ownership.owned()
        later = {sub_id for sub_id, _, _ in self._unreleased}
        unknown = [
            one
            for one in owned  # what is claimed from now on has another epoch
            if not (one[0] in delivered or one[0] in ending or one[0] in later or self._under_way[one[0]] > 0)
        ]
        self._ownership.release(unknown)
        self._is_in_doubt, self._next_check = False, now + CHECK_INTERVAL
        self._under_way = +self._under_way
        if unknown:
            log.info(
                "%d subscriptions that this worker had without knowing it were given back.", len(unknown)
            )
