"""Delivery to a service: what its ``handle`` returns from is acknowledged."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import gevent

from junctor.server.pubsub.transports.base import DeliveryFailed, shown
from junctor.server.service.call import Call, new_cid
from junctor.server.service.channel import CHANNEL, DATA_FORMAT, ChannelInfo
from junctor.sql.errors import CallTimeout, ServiceNotFound

if TYPE_CHECKING:
    from junctor.server.context import Context
    from junctor.server.pubsub.live import Subscription
    from junctor.server.pubsub.message import QueuedMessage

log = logging.getLogger(__name__)


class ServiceTransport:
    """Invokes the service of a subscription, which has ``ack_wait`` seconds."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def deliver(self, subscription: Subscription, messages: Sequence[QueuedMessage]) -> None:
        """Invokes it with a list of messages, or with a single one."""
        name = subscription.service
        if not name:
            raise DeliveryFailed("There is no service to deliver to.", is_transient=True)
        call = Call(
            name,
            shown(subscription, messages),
            cid=new_cid(),
            channel=ChannelInfo(CHANNEL.PUBLISH, subscription.id, subscription.name),
            data_format=DATA_FORMAT.DICT,
            timeout=subscription.ack_wait,
        )
        try:
            self._context.invoker.invoke(call)
        except ServiceNotFound as error:
            if name not in self._context.services:
                raise DeliveryFailed(f"There is no service {name!r}.", is_transient=True) from error
            self._fail(call, error)
        except CallTimeout as error:
            raise DeliveryFailed(
                f"Service {name!r} did not finish in {subscription.ack_wait} s (CID {call.cid})."
            ) from error
        except (Exception, gevent.Timeout) as error:  # noqa: BLE001 - boundary: the service of somebody else
            self._fail(call, error)

    def _fail(self, call: Call, error: BaseException) -> None:
        log.error("Service %s failed with messages.", call.service, exc_info=error, extra={"cid": call.cid})
        text = f"Service {call.service!r} failed (CID {call.cid}): {type(error).__name__}: {error}"
        raise DeliveryFailed(text) from error
