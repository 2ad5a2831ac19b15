"""How messages get to their receivers, and what counts as an acknowledgement."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest

from junctor.server.pubsub.transports import rest
from junctor.server.pubsub.transports.base import DeliveryFailed, shown
from junctor.server.pubsub.transports.service import ServiceTransport
from junctor.server.pubsub.transports.websocket import WebSocketTransport
from junctor.sql.errors import CallFailed, CallTimeout, InvalidOutput, ServiceNotFound, WebSocketClosed
from tests.helpers.receivers import SubscriptionUnderTest, queued_message

TOPIC = SimpleNamespace(name="/orders")


class FakeClient:
    """A WebSocket client that answers as a test says; an exception is raised."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.answers_deliveries: bool | None = None
        self.connection = SimpleNamespace(peer_code=1006)
        self.sent: list[tuple[str, Any, float]] = []
        self.pushed: list[str] = []

    def deliver(self, message_id: str, data: Any, timeout: float) -> Any:
        """As ``Client.deliver``."""
        self.sent.append((message_id, data, timeout))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def push(self, message_id: str, _data: Any, _timeout: float) -> None:
        """As ``Client.push``."""
        self.pushed.append(message_id)
        if isinstance(self.answer, WebSocketClosed):
            raise self.answer


def subscribed(**how: Any) -> Any:
    """A subscription to a topic that works."""
    return SubscriptionUnderTest(1, topic=TOPIC, **how)


def deliver(client: Any, count: int = 2, **how: Any) -> None:
    """Delivers messages to a client."""
    WebSocketTransport(client).deliver(subscribed(**how), [queued_message(id_) for id_ in range(count)])


def failure(client: Any, **how: Any) -> DeliveryFailed:
    """How a delivery to a client fails."""
    with pytest.raises(DeliveryFailed) as caught:
        deliver(client, **how)
    return caught.value


def test_messages_come_in_a_list_unless_single_ones_are_wanted() -> None:
    one = [queued_message(1)]
    assert [item["msg_id"] for item in shown(subscribed(), one)] == ["zpsm1"]
    assert isinstance(shown(subscribed(batch_size=1), one), list)
    assert isinstance(shown(subscribed(wrap_one=False), one), list)
    assert shown(subscribed(batch_size=1, wrap_one=False), one)["topic_name"] == "/orders"
    with pytest.raises(DeliveryFailed):
        shown(SubscriptionUnderTest(1), one)


class TestWebSocket:
    def test_the_answer_acknowledges(self) -> None:
        client = FakeClient()
        deliver(client)
        [(message_id, data, timeout)] = client.sent
        assert message_id.startswith("zpsm")
        assert [item["msg_id"] for item in data] == ["zpsm0", "zpsm1"]
        assert timeout == 5
        assert client.answers_deliveries is True
        deliver(client)
        assert client.sent[1][2] == 30

    def test_a_single_message_has_its_own_id(self) -> None:
        client = FakeClient()
        deliver(client, 1, batch_size=1, wrap_one=False)
        assert client.sent[0][0] == "zpsm0"

    def test_who_does_not_answer_the_first_message_is_not_waited_for_again(self) -> None:
        client = FakeClient(CallTimeout("no answer"))
        deliver(client)
        deliver(client)
        assert (len(client.sent), len(client.pushed)) == (1, 1)
        client.answers_deliveries = True  # it did, later
        assert not failure(client).is_transient

    def test_unless_it_has_to_answer(self) -> None:
        client = FakeClient(CallTimeout("no answer"))
        failed = failure(client, ack_mode="explicit", ack_wait=7)
        assert client.sent[0][2] == 7
        assert not failed.is_transient

    def test_on_send_nothing_is_waited_for(self) -> None:
        client = FakeClient()
        deliver(client, ack_mode="on-send")
        assert client.sent == []
        client.answer = WebSocketClosed("gone")
        assert failure(client, ack_mode="on-send").is_over

    @pytest.mark.parametrize(
        ("answer", "delay"),
        [
            ({"nack": True, "delay": 3}, 3.0),
            ({"nack": True, "delay": 0.5}, 0.5),
            ({"nack": True}, None),
            ({"nack": True, "delay": "soon"}, None),
            ({"nack": True, "delay": float("nan")}, None),
            ({"nack": True, "delay": -1}, 0.0),
            ({"nack": True, "delay": 10**9}, 86_400.0),
        ],
    )
    def test_an_answer_may_be_a_rejection(self, answer: Any, delay: float | None) -> None:
        failed = failure(FakeClient(answer))
        assert failed.retry_after == delay
        assert not failed.is_transient

    @pytest.mark.parametrize("answer", [None, "", {"nack": False}, {"nack": 1}, ["nack"], {"error": "x"}])
    def test_any_other_answer_is_none(self, answer: Any) -> None:
        deliver(FakeClient(answer))

    def test_a_client_that_is_gone_ends_the_delivery(self) -> None:
        failed = failure(FakeClient(WebSocketClosed("gone")))
        assert failed.is_over
        assert failed.is_transient

    def test_too_many_calls_are_no_fault_of_the_message_and_what_is_no_json_is(self) -> None:
        assert failure(FakeClient(CallFailed("too many"))).is_transient
        assert failure(FakeClient(InvalidOutput("response", []))).is_final


class TestRest:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [("0", 0.0), ("120", 120.0), ("", None), ("soon", None), ("-5", None), ("9" * 50, None)],
    )
    def test_retry_after_is_understood(self, value: str, seconds: float | None) -> None:
        assert rest._retry_after(value) == seconds

    def test_retry_after_may_be_a_date(self) -> None:
        when = datetime.now(UTC) + timedelta(seconds=100)
        assert 90 < (rest._retry_after(format_datetime(when, usegmt=True)) or 0) <= 100
        assert rest._retry_after(format_datetime(when - timedelta(days=1), usegmt=True)) == 0

    @pytest.mark.parametrize(
        ("status", "is_transient"),
        [
            (302, False),
            (400, False),
            (404, False),
            (408, True),
            (425, True),
            (429, True),
            (500, True),
            (503, True),
        ],
    )
    def test_some_statuses_say_later_and_others_no(self, status: int, is_transient: bool) -> None:
        response: Any = SimpleNamespace(status_code=status, headers={"Retry-After": "7"})
        failed = rest._refused("api", response, "cid")
        assert failed.is_transient is is_transient
        assert failed.retry_after == 7
        assert str(status) in failed.message

    def test_headers_of_raw_data_are_plain(self) -> None:
        message = queued_message(1, data="zażółć", correl_id="ź", attempts=2, mime_type="text/csv")
        body, headers = rest._raw(subscribed(), message)
        assert body.decode() == "zażółć"
        assert headers["X-Junctor-Delivery-Count"] == "2"
        assert headers["Content-Type"] == "text/csv"
        assert all(value.isascii() for value in headers.values())

    def test_what_a_hook_has_made_replaces_the_data(self) -> None:
        message = queued_message(1, correl_id="ź")
        message.serialized = {"n": 1}
        body, headers = rest._raw(subscribed(), message)
        assert body == b'{"n":1}'
        assert all(value.isascii() for value in headers.values())


class TestService:
    def transport(self, error: Exception | None) -> Any:
        def invoke(call: Any) -> None:
            self.call = call
            if error is not None:
                raise error

        context: Any = SimpleNamespace(services={"orders.take": 1}, invoker=SimpleNamespace(invoke=invoke))
        return ServiceTransport(context)

    def test_a_service_gets_messages_as_a_publication(self) -> None:
        self.transport(None).deliver(subscribed(service="orders.take"), [queued_message(1)])
        assert self.call.payload[0]["msg_id"] == "zpsm1"
        assert self.call.channel.type == "publish"
        assert self.call.timeout == 30

    @pytest.mark.parametrize(
        ("service", "error", "is_transient"),
        [
            ("orders.take", ValueError("What?"), False),
            ("orders.take", CallTimeout("late"), False),
            ("orders.take", ServiceNotFound("another"), False),
            ("orders.gone", ServiceNotFound("orders.gone"), True),
            ("", None, True),
        ],
    )
    def test_only_a_service_that_is_not_there_is_no_fault_of_the_message(
        self, service: str, error: Exception | None, is_transient: bool
    ) -> None:
        with pytest.raises(DeliveryFailed) as caught:
            self.transport(error).deliver(subscribed(service=service), [queued_message(1)])
        assert caught.value.is_transient is is_transient
