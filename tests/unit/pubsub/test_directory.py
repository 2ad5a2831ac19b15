"""The directory of topics, endpoints and subscriptions follows whatever changes."""

from __future__ import annotations

from typing import Any

import pytest

from junctor.server.pubsub.directory import INTERNAL_ENDPOINT, Directory
from junctor.sql.errors import NotFound


class Object:
    """Something with these attributes."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


def topic(id_: int, name: str) -> Any:
    return Object(id=id_, name=name)


def endpoint(
    id_: int, name: str, *, security_id: int | None = None, service: str = "", channel_id: int | None = None
) -> Any:
    return Object(id=id_, name=name, security_id=security_id, service=service, channel_id=channel_id)


def subscription(
    id_: int, *, topic_id: int = 1, endpoint_id: int = 1, sub_key: str = "", method: str = "pull"
) -> Any:
    return Object(
        id=id_,
        topic_id=topic_id,
        endpoint_id=endpoint_id,
        sub_key=sub_key or f"zpsk.{id_}",
        delivery_method=method,
    )


@pytest.fixture
def directory() -> Directory:
    nothing: Any = None
    return Directory(nothing)


def test_a_topic_is_found_by_its_name_and_its_id_until_it_is_gone(directory: Directory) -> None:
    made = topic(1, "/a")
    directory.put_topic(made)
    assert directory.topic("/a") is directory.topic_by_id(1) is made
    directory.remove_topic(made)
    assert directory.topic("/a") is directory.topic_by_id(1) is None


def test_a_renamed_topic_is_found_under_its_new_name_alone(directory: Directory) -> None:
    directory.put_topic(topic(1, "/a"))
    renamed = topic(1, "/b")
    directory.put_topic(renamed)
    assert directory.topic("/a") is None
    assert directory.topic("/b") is renamed


def test_topics_may_exchange_their_names(directory: Directory) -> None:
    directory.put_topic(topic(1, "/a"))
    directory.put_topic(topic(2, "/b"))
    one, two = topic(1, "/b"), topic(2, "/a")
    directory.put_topic(one)
    directory.put_topic(two)
    assert directory.topic("/b") is one
    assert directory.topic("/a") is two


def test_an_endpoint_is_found_by_each_identity(directory: Directory) -> None:
    by_security, by_service = endpoint(1, "a", security_id=5), endpoint(2, "b", service="my.service")
    by_channel = endpoint(3, "c", channel_id=5)
    for made in (by_security, by_service, by_channel):
        directory.put_endpoint(made)
    assert directory.endpoint_of(security_id=5) is by_security
    assert directory.endpoint_of(service_name="my.service") is by_service
    assert directory.endpoint_of(channel_id=5) is by_channel
    assert directory.endpoint_of(name="b") is directory.endpoint_by_id(2) is by_service
    assert directory.endpoint_of(security_id=6) is None


def test_an_endpoint_that_becomes_another_one_is_not_found_as_the_old_one(directory: Directory) -> None:
    directory.put_endpoint(endpoint(1, "a", security_id=5))
    changed = endpoint(1, "b", service="my.service")
    directory.put_endpoint(changed)
    assert directory.endpoint_of(security_id=5) is directory.endpoint_of(name="a") is None
    assert directory.endpoint_of(service_name="my.service") is changed
    directory.remove_endpoint(changed)
    assert directory.endpoint_of(name="b") is None


def test_services_publish_as_the_internal_endpoint(directory: Directory) -> None:
    with pytest.raises(NotFound, match="internal"):
        _ = directory.internal_endpoint
    made = endpoint(1, INTERNAL_ENDPOINT)
    directory.put_endpoint(made)
    assert directory.internal_endpoint is made


def test_subscriptions_are_found_by_key_id_topic_and_endpoint(directory: Directory) -> None:
    one, two, other = subscription(1), subscription(2, endpoint_id=2), subscription(3, topic_id=2)
    for made in (one, two, other):
        directory.put_subscription(made)
    assert directory.subscription("zpsk.2") is directory.subscription_by_id(2) is two
    assert directory.subscriptions_of(1) == [one, two]
    assert directory.subscriptions_by(1) == [one, other]
    directory.remove_subscription(one)
    assert directory.subscription("zpsk.1") is None
    assert directory.subscriptions_of(1) == [two]
    assert directory.subscriptions_by(1) == [other]
    assert directory.subscriptions_of(9) == []


def test_an_edited_subscription_takes_the_place_of_the_old_one(directory: Directory) -> None:
    directory.put_subscription(subscription(1, topic_id=1))
    moved = subscription(1, topic_id=2)
    directory.put_subscription(moved)
    assert directory.subscriptions_of(1) == []
    assert directory.subscriptions_of(2) == [moved]


def test_only_those_that_some_worker_sends_are_pushed(directory: Directory) -> None:
    pushed = subscription(1, method="notify")
    for made in (pushed, subscription(2, method="pull"), subscription(3, method="web-socket")):
        directory.put_subscription(made)
    assert list(directory.pushed()) == [pushed]
