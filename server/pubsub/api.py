"""What the services of publish/subscribe have in common: who is calling, what is given, and what is done with it.

Each of them works over REST, where it finds out itself who is calling, over WebSockets, where the caller is the endpoint of the
channel, and for other services of the cluster, which are trusted: they are the internal endpoint, and no patterns are asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from junctor.server.admin.service import AdminService
from junctor.server.pubsub.connection import has_left
from junctor.server.pubsub.message import SECONDS, NewMessage, QueuedMessage, new_message
from junctor.server.pubsub.pull import MAX_BATCH, MAX_WAIT, Fetch
from junctor.server.pubsub.subscribing import NOT_AUTHORIZED, Subscribed, Wish
from junctor.server.service.channel import CHANNEL
from junctor.server.websocket.caller import ASYNC_MESSAGE, client_of
from junctor.sql.errors import BadRequest, Forbidden, InvalidInput, Problem

if TYPE_CHECKING:
    from junctor.server.pubsub.live import Endpoint, Subscription
    from junctor.server.websocket.session import Session

MAX_LIST: Final = 10_000  # messages that are published together
FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"
NEWEST, OLDEST = "newest", "oldest"
AUTO, EXPLICIT = "auto", "explicit"
OPTIONS: Final = (  # of a subscription, for whoever makes it
    "wrap_one_msg_in_list",
    "unsub_on_wsx_close",
    "delivery_batch_size",
    "ack_mode",
    "ack_wait",
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who uses publish/subscribe: an endpoint, which ``is_trusted`` if it is the cluster itself; ``session`` is its WebSocket, if any."""

    endpoint: Endpoint
    is_trusted: bool = False
    session: Session | None = None


class PubSubService(AdminService):
    """A service of publish/subscribe."""

    zato_dont_import = True

    @cached_property
    def caller(self) -> Caller:
        """Who is calling.  Raises ``Forbidden``."""
        directory = self.context.pubsub.directory
        session = client_of(self.environ)
        if session is not None:
            endpoint = directory.endpoint_of(channel_id=session.channel_id)
            if endpoint is None:
                raise Forbidden(self.cid, NOT_AUTHORIZED)
            return Caller(endpoint, session=session)
        if self._is_of_request:
            return Caller(self._endpoint_of_request())
        return Caller(directory.internal_endpoint, is_trusted=True)

    @property
    def _is_of_request(self) -> bool:
        """Whether it is called by an HTTP client, through a channel of its own or through a gateway."""
        http = self.request.http
        return self.channel.type == CHANNEL.HTTP_SOAP or "zato.orig_channel" in http.environ

    def _endpoint_of_request(self) -> Endpoint:
        security_id = self.channel.security.id if self.channel.type == CHANNEL.HTTP_SOAP else None
        if security_id is None:
            return self.context.pubsub.identities.endpoint(self.wsgi_environ)
        endpoint = self.context.pubsub.directory.endpoint_of(security_id=security_id)
        if endpoint is None:
            raise Forbidden(self.cid, NOT_AUTHORIZED)
        return endpoint

    @cached_property
    def given(self) -> dict[str, Any]:
        """The input: the body, then the query, then the path of a request.

        Raises ``BadRequest``; but ``Forbidden`` first, so that nobody who may not call learns what else is wrong.
        """
        assert self.caller is not None
        http = self.request.http
        if self.channel.type != CHANNEL.HTTP_SOAP:
            return self.fields
        params = dict(http.params)
        if "topic" in params:
            params["topic_name"] = params.pop("topic")
        return {**http.GET, **self.fields, **params}

    @property
    def topic_name(self) -> str:
        """The topic that the call is about.  Raises ``InvalidInput``."""
        return self.text(self.given, "topic_name")

    def subscription(self) -> Subscription:
        """The caller's subscription that ``sub_key`` names.  Raises ``Forbidden``, ``InvalidInput``."""
        subscribing = self.context.pubsub.subscribing
        sub_key = self.text(self.given, "sub_key")
        if self.caller.is_trusted:
            found = subscribing.found(sub_key)
            if found is None:
                raise Forbidden(self.cid, NOT_AUTHORIZED)
            return found
        return subscribing.of(self.caller.endpoint, sub_key, self.text(self.given, "topic_name", ""))

    def own_subscription(self) -> Subscription:
        """The one that the caller pulls from the topic with.  Raises ``Forbidden``."""
        return self.context.pubsub.subscribing.pulled_by(self.caller.endpoint, self.topic_name)

    def publish(self, *, unit: str = SECONDS) -> None:
        """Publishes ``data``, or each of ``data_list``; the answer has ``msg_id``, or ``msg_id_list``."""
        messages, is_list = self._messages(unit)
        caller = self.caller
        ids = self.context.pubsub.publishing.publish(
            caller.endpoint, messages, check_pattern=not caller.is_trusted
        )
        self.response.payload = {"msg_id_list": ids} if is_list else {"msg_id": ids[0] if ids else ""}

    def _messages(self, unit: str) -> tuple[list[NewMessage], bool]:
        given = self._addressed(self.given)
        topic = self.topic_name
        items = given.get("data_list")
        if items is None:
            return [new_message(topic, given, expiration_unit=unit)], False
        return messages_of(topic, items, {**given, "data": None, "msg_id": None}, unit), True

    def _addressed(self, given: dict[str, Any]) -> dict[str, Any]:
        """The fields of a message, with what goes without saying: its type over HTTP, and whom it is for over WebSockets."""
        defaults: dict[str, Any] = {}
        if self.channel.type == CHANNEL.HTTP_SOAP and (mime_type := self.wsgi_environ.get("CONTENT_TYPE")):
            defaults["mime_type"] = JSON if mime_type.partition(";")[0].strip().lower() == FORM else mime_type
        if self.caller.session is not None:
            context = self.environ[ASYNC_MESSAGE]
            defaults |= {name: context[name] for name in ("reply_to_sk", "deliver_to_sk") if name in context}
        return {**defaults, **given}

    def pull(self, subscription: Subscription, *, order: str) -> None:
        """Answers with the next messages of a subscription."""
        wanted = self._fetch(subscription, order)
        found = self.context.pubsub.pull.fetch(subscription, wanted)
        self.response.payload = self.shown(subscription, found)

    def _fetch(self, subscription: Subscription, order: str) -> Fetch:
        given = self.given
        is_explicit = self.choice("ack_mode", (AUTO, EXPLICIT), subscription.ack_mode) == EXPLICIT
        environ = self.wsgi_environ
        return Fetch(
            limit=int(amount(given, "batch_size", subscription.batch_size, 1, MAX_BATCH)),
            is_newest=self.choice("order", (NEWEST, OLDEST), OLDEST if is_explicit else order) == NEWEST,
            is_explicit=is_explicit,
            wait=amount(given, "wait", 0, 0, MAX_WAIT),
            is_gone=lambda: has_left(environ),
        )

    def choice(self, name: str, values: Sequence[str], default: str) -> str:
        """One of a few words among the fields.  Raises ``InvalidInput``."""
        value = self.given.get(name)
        if value in (None, ""):
            return default
        if value not in values:
            raise InvalidInput.one(name, f"must be {' or '.join(values)}.")
        return str(value)

    def shown(self, subscription: Subscription, messages: Sequence[QueuedMessage]) -> list[Any]:
        """Messages as subscribers get them."""
        name = subscription.topic.name if subscription.topic is not None else ""
        return [message.external(name, subscription.sub_key) for message in messages]

    def subscribe(self) -> list[Subscribed]:
        """Subscribes to ``topic_name``, or to each of ``topic_name_list``.

        Messages come over the caller's WebSocket; who has none pulls them.
        """
        given, caller = self.given, self.caller
        fields = {name: given[name] for name in OPTIONS if given.get(name) not in (None, "")}
        wish = Wish(
            fields, is_trusted=caller.is_trusted, session=caller.session, may_exist=truth(given, "reuse")
        )
        if given.get("delivery_method") not in (None, "", wish.delivery_method):
            raise BadRequest(self.cid, f"The delivery method must be {wish.delivery_method} here.")
        return self.context.pubsub.subscribing.subscribe(caller.endpoint, self._topic_names(), wish)

    def _topic_names(self) -> list[str]:
        names = self.given.get("topic_name_list")
        if not names:
            return [self.topic_name]
        if self.given.get("topic_name"):
            raise InvalidInput.one("topic_name", "cannot be given together with topic_name_list.")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InvalidInput.one("topic_name_list", "must be a list of names.")
        return names

    def msg_ids(self) -> list[str]:
        """``msg_id_list``, or the one ``msg_id``.  Raises ``InvalidInput``."""
        ids = self.given.get("msg_id_list")
        if ids is None and "msg_id" in self.given:
            ids = [self.given["msg_id"]]
        if not isinstance(ids, list) or not ids or not all(isinstance(item, str) for item in ids):
            raise InvalidInput.one("msg_id_list", "is required: a list of the ids of messages.")
        return ids


def answer_to(made: Sequence[Subscribed], *, is_list: bool) -> dict[str, Any]:
    """What somebody who has subscribed is told."""
    if is_list:
        sub_data = [
            {
                "topic_name": one.topic.name,
                "sub_key": one.subscription.sub_key,
                "current_depth": one.depth,
            }
            for one in made
        ]
        return {"sub_data": sub_data}
    return {"sub_key": made[0].subscription.sub_key, "queue_depth": made[0].depth}


def messages_of(topic: str, items: Any, common: Mapping[str, Any], unit: str) -> list[NewMessage]:
    """The messages of a list; ``common`` is what they have in common unless they say otherwise.  Raises ``InvalidInput``."""
    if not isinstance(items, list | tuple) or not 0 < len(items) <= MAX_LIST:
        raise InvalidInput.one("data_list", f"must be a list of 1 to {MAX_LIST} messages.")
    messages = []
    for number, item in enumerate(items):
        if not isinstance(item, Mapping):
            raise InvalidInput.one(f"data_list[{number}]", "must be an object with the message's data in it.")
        try:
            messages.append(new_message(topic, {**common, **item}, expiration_unit=unit))
        except InvalidInput as error:
            place = f"data_list[{number}]"
            raise InvalidInput(
                Problem(f"{place}.{item.field}", item.message) for item in error.problems
            ) from None
    return messages


def amount(given: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    """A number among the fields, or in a query.  Raises ``InvalidInput``."""
    value = given.get(name)
    if value in (None, ""):
        return default
    try:
        number = float("nan") if isinstance(value, bool | list | dict) else float(str(value)[:50])
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        raise InvalidInput.one(name, f"must be a number from {low:g} to {high:g}.")
    return number


def truth(given: Mapping[str, Any], name: str) -> bool:
    """A yes or no among the fields, or in a query; no by default.  Raises ``InvalidInput``."""
    value = given.get(name)
    if value in (None, "", False, "false", "False", "0"):
        return False
    if value in (True, "true", "True", "1"):
        return True
    raise InvalidInput.one(name, "must be true or false.")
