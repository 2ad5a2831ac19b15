"""What every way to a receiver of messages has in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from junctor.sql.errors import JunctorError

if TYPE_CHECKING:
    from junctor.server.pubsub.live import Subscription
    from junctor.server.pubsub.message import QueuedMessage

MAX_REASON: Final = 500  # characters of a reason that are kept


class DeliveryFailed(JunctorError):
    """Messages did not reach their receiver, or were not acknowledged.

    ``is_socket``: the receiver could not be reached.  ``is_transient``: the messages are not to blame, and never become dead letters for
    it.  ``retry_after``: for how many seconds the receiver asks not to be tried again.  ``is_final``: there is no use in trying again.
    ``is_over``: the receiver is gone, and whoever comes next gets the messages.
    """

    def __init__(
        self,
        reason: str,
        *,
        is_socket: bool = False,
        is_transient: bool = False,
        retry_after: float | None = None,
        is_final: bool = False,
        is_over: bool = False,
    ) -> None:
        super().__init__(reason[:MAX_REASON])
        self.is_socket = is_socket
        self.is_transient = is_transient or is_socket or is_over
        self.retry_after = retry_after
        self.is_final = is_final
        self.is_over = is_over


class Transport(Protocol):
    """A way to a receiver."""

    def deliver(self, subscription: Subscription, messages: Sequence[QueuedMessage]) -> None:
        """Hands messages over, in this order, and returns once they are acknowledged.

        Blocks for a bounded time.  Raises ``DeliveryFailed``, after which all of them are delivered again.
        """


def shown(subscription: Subscription, messages: Sequence[QueuedMessage]) -> Any:
    """Messages as their receiver gets them: a list, unless the subscription wants single ones without."""
    topic = subscription.topic
    if topic is None:
        raise DeliveryFailed("The topic does not work at the moment.", is_transient=True)
    found = [message.external(topic.name, subscription.sub_key) for message in messages]
    if len(found) == 1 and subscription.batch_size == 1 and not subscription.wrap_one:
        return found[0]
    return found
