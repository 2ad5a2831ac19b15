"""Topics, endpoints and subscriptions: which can be made, and which cannot."""

from __future__ import annotations

from typing import Any

import pytest

from junctor.sql.errors import InUse, InvalidInput
from junctor.sql.store import Store
from tests.helpers.objects import add, edit, remove

TOPIC, CRM = "/customer/new", "crm"


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with a topic, and what endpoints and subscriptions refer to."""
    add(store, "service", "orders.get")
    add(store, "security_basic_auth", CRM, username=CRM)
    add(store, "security_basic_auth", "erp", username="erp")
    add(store, "channel_websocket", "clients", address="/ws", service="orders.get")
    add(store, "outgoing_rest", "billing", host="http://127.0.0.1:1", url_path="/")
    add(store, "pubsub_topic", TOPIC)
    return store


def endpoint(store: Store, name: str = CRM, **fields: Any) -> str:
    """The name of a new REST endpoint, or of another one."""
    return add(store, "pubsub_endpoint", name, **{"security": CRM, **fields}).name


def subscription(store: Store, name: str = "one", **fields: Any) -> Any:
    """A new subscription of the REST endpoint, which pulls, or of another one."""
    return add(
        store,
        "pubsub_subscription",
        name,
        **{"topic": TOPIC, "endpoint": CRM, "delivery_method": "pull", **fields},
    )


def refused(field: str, message: str) -> Any:
    """Expects that this field is refused with this message."""
    return pytest.raises(InvalidInput, match=rf"{field}.*{message}")


@pytest.mark.parametrize("name", ["/zażółć", "/all/*"])
def test_the_name_of_a_topic_is_ascii_and_no_pattern(store: Store, name: str) -> None:
    with refused("name", "must be ASCII without"):
        add(store, "pubsub_topic", name)


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"endpoint_type": "rest", "security": ""}, "security", "is required for an endpoint of type rest"),
        (
            {"endpoint_type": "rest", "service": "orders.get"},
            "service",
            "is not for an endpoint of type rest",
        ),
        ({"endpoint_type": "service", "security": ""}, "service", "is required"),
        ({"endpoint_type": "wsx", "security": ""}, "ws_channel", "is required"),
        ({"endpoint_type": "internal"}, "security", "is not for an endpoint of type internal"),
    ],
)
def test_an_endpoint_has_the_identity_of_its_type(
    filled: Store, fields: dict[str, Any], field: str, message: str
) -> None:
    with refused(field, message):
        endpoint(filled, **fields)


def test_an_identity_is_that_of_one_endpoint(filled: Store) -> None:
    endpoint(filled)
    with refused("security", "is that of endpoint 'crm' already"):
        endpoint(filled, "crm-2")
    endpoint(filled, "erp", security="erp")
    edit(filled, "pubsub_endpoint", "erp", role="sub-only")


def test_each_subscription_has_a_key_of_its_own(filled: Store) -> None:
    endpoint(filled)
    pulled = subscription(filled)
    notified = subscription(filled, "two", delivery_method="notify", out_rest="billing")
    assert pulled["sub_key"].startswith("zpsk.rest.")
    assert notified["sub_key"].startswith("zpsk.notify.")
    assert len({pulled["sub_key"], notified["sub_key"]}) == 2


def test_a_key_is_kept_by_edits_and_cannot_be_given(filled: Store) -> None:
    endpoint(filled)
    made = subscription(filled)
    assert edit(filled, "pubsub_subscription", "one", pull_order="oldest")["sub_key"] == made["sub_key"]
    with refused("sub_key", "is set by the server"):
        edit(filled, "pubsub_subscription", "one", sub_key="zpsk.mine")
    with filled.transaction(who="server") as transaction:
        data = {"name": "own", "topic": TOPIC, "endpoint": CRM, "out_rest": "billing"}
        given = transaction.create("pubsub_subscription", data, system={"sub_key": "zpsk.given"})
    assert given["sub_key"] == "zpsk.given"


def test_an_endpoint_pulls_from_a_topic_once(filled: Store) -> None:
    endpoint(filled)
    subscription(filled)
    with refused("topic", "is subscribed to by 'crm' already, as 'one'"):
        subscription(filled, "two")
    add(filled, "pubsub_topic", "/other")
    subscription(filled, "two", topic="/other")


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"delivery_method": "notify"}, "out_rest", "is required, or a service"),
        (
            {"delivery_method": "notify", "out_rest": "billing", "service": "orders.get"},
            "service",
            "together with a REST connection",
        ),
        ({"out_rest": "billing"}, "out_rest", "is for the method notify only"),
        ({"service": "orders.get"}, "service", "is for the method notify only"),
        ({"delivery_method": "web-socket"}, "delivery_method", "for an endpoint of type wsx"),
        ({"delivery_data_format": "raw"}, "delivery_batch_size", "must be 1"),
        ({"max_in_flight": 2}, "max_in_flight", "must be 1 while errors block"),
    ],
)
def test_a_subscription_suits_its_method(
    filled: Store, fields: dict[str, Any], field: str, message: str
) -> None:
    endpoint(filled)
    with refused(field, message):
        subscription(filled, **fields)


def test_who_only_publishes_cannot_subscribe(filled: Store) -> None:
    endpoint(filled, role="pub-only")
    with refused("endpoint", "has the role pub-only"):
        subscription(filled)


def test_the_service_of_an_endpoint_is_notified(filled: Store) -> None:
    endpoint(filled, endpoint_type="service", security="", service="orders.get")
    assert subscription(filled, delivery_method="notify")["service"] is None


def test_clients_of_a_channel_subscribe_as_often_as_they_like(filled: Store) -> None:
    endpoint(filled, endpoint_type="wsx", security="", ws_channel="clients")
    for name in ("one", "two"):
        made = subscription(filled, name, delivery_method="web-socket")
        assert made["sub_key"].startswith("zpsk.websockets.")
    with refused("delivery_method", "must be web-socket"):
        subscription(filled, "three")


def test_what_has_subscriptions_is_not_deleted(filled: Store) -> None:
    endpoint(filled)
    subscription(filled)
    for kind, name in (("pubsub_topic", TOPIC), ("pubsub_endpoint", CRM)):
        with pytest.raises(InUse, match="'one'"):
            remove(filled, kind, name)
