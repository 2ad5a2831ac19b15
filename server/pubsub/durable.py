"""Durable calls of services: stored like any message before the caller goes on, and made as often as it takes until one succeeds.

They are messages of an internal topic with eight subscriptions, the lanes.  A call goes to one of them by chance; the workers of the
cluster share the lanes as they share all subscriptions, and take over those of a worker that dies.  A call that fails is made again, later
and later, while others go on; after ``MAX_RETRY`` failures it is a dead letter, see ``junctor pubsub dead-letters``.

A call may be made twice: when a worker dies after the service has done its work and before that is known.  ``self.environ`` of
the service has how often it was made before, as ``DELIVERY_COUNT``.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from junctor.server.admin.service import AdminService
from junctor.server.pubsub.message import MILLISECONDS, NewMessage, new_message
from junctor.server.service.call import Call, new_cid
from junctor.server.service.channel import CHANNEL, DATA_FORMAT, ChannelInfo, ChannelSecurityInfo
from junctor.server.service.link import LINK, current_link
from junctor.sql.errors import DuplicateMessage, InvalidInput, ServiceUnavailable
from junctor.sql.objects.pubsub import INTERNAL, NOTIFY

if TYPE_CHECKING:
    from junctor.server.context import Context
    from junctor.sql.store import Store
    from junctor.sql.transaction import Transaction

TOPIC: Final = "zato.internal.invoke-async"
LANES: Final = 8
CONCURRENT: Final = 16  # calls of each lane at a time
MAX_RETRY: Final = 10
MAX_SECONDS: Final = 3600  # that a call may take
MAX_WAITING: Final = 1_000_000  # calls in each lane
DELIVERY_COUNT: Final = "junctor.delivery_count"
MAX_RUN_ID: Final = 150  # characters
_LANE_NAMES: Final = [f"{TOPIC}.{number}" for number in range(1, LANES + 1)]


def store_call(
    context: Context,
    call: Call,
    *,
    callbacks: Sequence[str] = (),
    expiration: float = 0.0,
    delay: float = 0.0,
    run_id: str = "",
) -> str:
    """Stores a call of a service, and returns its CID once it cannot be lost any more.

    Of ``call``, the payload, the CID, the channel, the data format, the transport, the environ and ``in_reply_to`` are kept; both must
    be JSON types, or what becomes one (a time becomes text).  Its response goes to the ``callbacks``, each a durable call itself.
    ``expiration`` and ``delay`` are in seconds: a call that has not been made after the one, 0 = never, is not made at all, and before
    the other it is not made.

    This is the way for runs of the scheduler, too: ``run_id`` names a run, such as 'job.12.2026-11-24T10:00:00', and of several calls
    with the same one, on whatever servers, within a day, one is made; the others return ''.

    Raises ``ServiceNotFound``, for a callback, too; ``InvalidInput`` for what cannot be stored; ``ServiceUnavailable`` and
    ``StoreUnavailable``, and then it is not stored, or the message says that this is not known.
    """
    for name in (call.service, *callbacks):
        context.services.get(name)
    call.cid = call.cid or new_cid()
    message = _message(context, call, callbacks)
    message.expiration, message.delay = round(expiration * 1000), round(delay * 1000)
    if run_id:
        if len(run_id) > MAX_RUN_ID or not run_id.isprintable():
            raise InvalidInput.one("run_id", f"must be one line of up to {MAX_RUN_ID} characters.")
        message.msg_id, message.is_own_id = f"{TOPIC}.{run_id}", True
    pubsub = context.pubsub
    try:
        pubsub.publishing.publish(pubsub.directory.internal_endpoint, [message], check_pattern=False)
    except DuplicateMessage:
        if not run_id:
            raise
        return ""
    return call.cid


class RunDurably(AdminService):
    """Makes a stored call; the lanes' messages come here."""

    name = TOPIC

    def handle(self) -> None:
        """A message whose data is a stored call.  Whatever the called service raises is raised, and the call is made again."""
        message = self.fields
        stored = message["data"]
        call = _call(stored)
        call.environ[DELIVERY_COUNT] = message["delivery_count"]
        call.deadline, call.greenlet, call.depth = (
            self._call.deadline,
            self._call.greenlet,
            self._call.depth + 1,
        )
        response = self.context.invoker.invoke(call).payload
        for name in _callbacks(self.context, call.service, stored["callbacks"]):
            answered = Call(
                name,
                response,
                channel=ChannelInfo(CHANNEL.INVOKE_ASYNC_CALLBACK),
                data_format=call.data_format,
                in_reply_to=call.cid,
            )
            store_call(self.context, answered)


def has_objects(store: Store) -> bool:
    """Whether the topic, the lanes and their endpoints are there."""
    for kind in ("pubsub_endpoint", "pubsub_subscription"):
        found = {item.name for item in store.find(kind, query=TOPIC, internal=True).objects}
        if not found.issuperset(_LANE_NAMES):
            return False
    return store.id_of("pubsub_topic", TOPIC) is not None


def create_objects(transaction: Transaction) -> None:
    """Creates those that are not there; what an administrator has changed stays as it is."""
    system = {"is_internal": True}
    if transaction.find("pubsub_topic", TOPIC) is None:
        transaction.create("pubsub_topic", {"name": TOPIC, "max_depth_gd": MAX_WAITING}, system=system)
    for name in _LANE_NAMES:
        if transaction.find("pubsub_endpoint", name) is None:
            transaction.create(
                "pubsub_endpoint",
                {
                    "name": name,
                    "endpoint_type": INTERNAL,
                    "role": "sub-only",
                    "topic_patterns": [f"sub={TOPIC}"],
                },
                system=system,
            )
        if transaction.find("pubsub_subscription", name) is None:
            transaction.create("pubsub_subscription", _lane(name), system=system)


def _lane(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "endpoint": name,
        "topic": TOPIC,
        "delivery_method": NOTIFY,
        "service": RunDurably.name,
        "delivery_batch_size": 1,
        "wrap_one_msg_in_list": False,
        "delivery_max_retry": MAX_RETRY,
        "delivery_err_should_block": False,
        "max_in_flight": CONCURRENT,
        "wait_sock_err": 5,
        "wait_non_sock_err": 5,
        "ack_wait": MAX_SECONDS,
    }


def _message(context: Context, call: Call, callbacks: Sequence[str]) -> NewMessage:
    environ = dict(call.environ)
    if LINK not in environ and (link := current_link.get()) is not None:
        environ[LINK] = dict(link)
    security = call.channel.security
    stored = {
        "service": call.service,
        "cid": call.cid,
        "channel": call.channel.type,
        "security": [security.id, security.name, security.type, security.username],
        "data_format": call.data_format,
        "transport": call.transport,
        "in_reply_to": call.in_reply_to,
        "environ": environ,
        "callbacks": list(callbacks),
    }
    fields = {"data": stored | _payload(call), "has_gd": True, "correl_id": call.cid}
    message = new_message(TOPIC, fields, expiration_unit=MILLISECONDS)
    message.deliver_to_sk = [_any_lane(context)]
    return message


def _any_lane(context: Context) -> str:
    """The key of one of the lanes.  Raises ``ServiceUnavailable`` if an administrator has deleted all of them."""
    directory = context.pubsub.directory
    topic = directory.topic(TOPIC)
    lanes = [] if topic is None else directory.subscriptions_of(topic.id)
    if not lanes:
        raise ServiceUnavailable(
            msg=f"There are no subscriptions to topic {TOPIC}; they are made when a server starts."
        )
    return random.choice(lanes).sub_key  # noqa: S311 - nobody gains anything by guessing it


def _payload(call: Call) -> dict[str, Any]:
    """The payload as it is stored: as the text or the bytes that it came as, or else as JSON."""
    raw = call.raw_request
    if isinstance(raw, bytes) and raw:
        return {"base64": base64.b64encode(raw).decode()}
    if raw:
        return {"text": raw}
    return {"payload": call.payload}


def _call(stored: Mapping[str, Any]) -> Call:
    """The call that was stored."""
    raw: bytes | str = base64.b64decode(stored["base64"]) if "base64" in stored else stored.get("text", b"")
    payload: Any = raw or stored.get("payload", "")
    if raw and stored["data_format"] == DATA_FORMAT.JSON:
        payload = orjson.loads(raw)
    return Call(
        stored["service"],
        payload,
        raw,
        cid=stored["cid"],
        channel=ChannelInfo(stored["channel"], security=ChannelSecurityInfo(*stored["security"])),
        data_format=stored["data_format"],
        transport=stored["transport"],
        environ=dict(stored["environ"]),
        in_reply_to=stored["in_reply_to"],
    )


def _callbacks(context: Context, service: str, given: Sequence[str]) -> list[str]:
    """The services that get the response, with the one that is such by its name."""
    own = f"{service}-async-callback"
    return [*given, *([own] if own in context.services and own not in given else [])]
