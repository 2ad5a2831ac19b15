"""Operation on a running cluster: administrators find, explain, correct and move messages; durable calls are made whatever fails."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import orjson
import pytest

from junctor.server.client import RemoteError, RemoteInvalidInput
from tests.helpers.cluster import ClusterUnderTest
from tests.helpers.waiting import wait_until

SERVICES = '''
import json
import os

from zato.server.service import Service


def note(service, what):
    """Appends a line to the file that the payload names."""
    with open(service.request.payload["file"], "a") as file:
        file.write(json.dumps(what) + "\\n")


class Caller(Service):
    """Makes a durable call with the payload that it is given."""

    name = "durable.caller"

    def handle(self):
        payload = self.request.payload
        target = payload.get("target", "durable.target")
        self.response.payload = {
            "cid": self.invoke_async(target, payload, durable=True, environ={"mark": 7}, callback="durable.callback")
        }


class Target(Service):
    """Fails as often as it is told to, and then says what it sees of the call."""

    name = "durable.target"

    def handle(self):
        count = self.environ["junctor.delivery_count"]
        note(self, {"count": count, "cid": self.cid, "mark": self.environ["mark"], "channel": self.channel.type})
        if count < self.request.payload.get("failures", 0):
            raise ValueError("not yet")
        self.response.payload = {"file": self.request.payload["file"], "answer": 42}


class Callback(Service):
    name = "durable.callback"

    def handle(self):
        note(self, {"answer": self.request.payload["answer"], "in_reply_to": self.in_reply_to})


class Receiver(Service):
    """Receives messages, and refuses those that say so."""

    name = "operation.receiver"

    def handle(self):
        for message in self.request.payload:
            if message["data"] == "refuse":
                raise ValueError("refused")
            with open(message["data"], "a") as file:
                file.write(json.dumps([message["msg_id"], message["delivery_count"]]) + "\\n")
'''
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def operated(cluster: ClusterUnderTest) -> ClusterUnderTest:
    """The cluster, with the services of these tests."""
    cluster.deploy(tests_of_operation=SERVICES)
    return cluster


def lines(file: Path) -> list[Any]:
    """What services have written to a file."""
    return [orjson.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []


def subscribed(cluster: ClusterUnderTest, **fields: Any) -> tuple[str, str]:
    """A topic of its own, and the name of a subscription to it that notifies a service."""
    name = f"/operation/{next(_numbers)}"
    topic = {name_: fields.pop(name_) for name_ in ("limit_retention",) if name_ in fields}
    cluster.write("zato.pubsub.topic.create", name=name, **topic)
    cluster.write(
        "zato.pubsub.endpoint.create", name=name, endpoint_type="internal", topic_patterns=["sub=/**"]
    )
    given = {"delivery_method": "notify", "service": "operation.receiver", "delivery_max_retry": 0, **fields}
    cluster.write("zato.pubsub.subscription.create", name=name, endpoint=name, topic=name, **given)
    return name, name


def published(cluster: ClusterUnderTest, topic: str, data: Any, **fields: Any) -> str:
    answer = cluster.invoke("zato.pubsub.publish.publish", {"topic_name": topic, "data": data, **fields})
    return str(answer["msg_id"])


def test_a_durable_call_is_made_until_it_succeeds_and_its_callback_gets_the_response(
    operated: ClusterUnderTest, tmp_path: Path
) -> None:
    file = tmp_path / "notes"
    cid = operated.invoke("durable.caller", {"file": str(file)})["cid"]
    found = wait_until(lambda: lines(file) if len(lines(file)) == 2 else None)
    assert found == [
        {"count": 0, "cid": cid, "mark": 7, "channel": "invoke-async"},
        {"answer": 42, "in_reply_to": cid},
    ]


def test_a_durable_call_of_a_service_that_there_is_not_is_refused(
    operated: ClusterUnderTest, tmp_path: Path
) -> None:
    with pytest.raises(RemoteError, match=r"durable\.absent"):
        operated.invoke("durable.caller", {"file": str(tmp_path / "notes"), "target": "durable.absent"})


def test_a_durable_call_that_fails_waits_with_its_reason(operated: ClusterUnderTest, tmp_path: Path) -> None:
    file = tmp_path / "notes"
    cid = operated.invoke("durable.caller", {"file": str(file), "failures": 99})["cid"]
    wait_until(lambda: lines(file))

    def explained() -> list[dict[str, Any]]:
        (message,) = operated.invoke(
            "zato.pubsub.topic.get-gd-message-list",
            {"topic_name": "zato.internal.invoke-async", "correl_id": cid},
        )["items"]
        told = operated.invoke("zato.pubsub.message.explain", {"msg_id": message["msg_id"]})
        (found,) = [
            item for item in told["messages"][0]["subscriptions"] if item["status"] != "not-addressed"
        ]
        return [found] if found["status"] == "retrying" else []

    (verdict,) = wait_until(explained)
    assert "failed once (Service 'durable.target'" in verdict["sentence"] or "not yet" in verdict["sentence"]
    operated.invoke("zato.pubsub.topic.clear", {"topic_name": "zato.internal.invoke-async"})


def test_a_refused_message_becomes_a_dead_letter_that_is_corrected_and_delivered(
    operated: ClusterUnderTest, tmp_path: Path
) -> None:
    topic, subscription = subscribed(operated)
    msg_id = published(operated, topic, "refuse")
    letters = wait_until(
        lambda: operated.invoke("zato.pubsub.dead-letter.get-list", {"topic_name": topic})["items"]
    )
    assert [letter["msg_id"] for letter in letters] == [msg_id]
    assert "refused" in letters[0]["reason"]
    (verdict,) = operated.invoke("zato.pubsub.message.explain", {"msg_id": msg_id})["messages"][0][
        "subscriptions"
    ]
    assert verdict["status"] == "dead-letter"
    file = tmp_path / "received"
    letter = {"id": letters[0]["id"]}
    assert operated.invoke("zato.pubsub.dead-letter.edit", {**letter, "data": str(file)})["is_edited"] is True
    assert operated.invoke("zato.pubsub.dead-letter.get", letter)["data"] == str(file)
    redriven = operated.invoke("zato.pubsub.dead-letter.redrive", {"subscription": subscription})
    assert redriven == {"count": 1, "is_complete": True}
    wait_until(lambda: lines(file))
    assert lines(file)[0][0] == msg_id
    with pytest.raises(RemoteInvalidInput, match="is required"):
        operated.invoke("zato.pubsub.dead-letter.delete", {})
    assert operated.invoke("zato.pubsub.dead-letter.delete", {"topic_name": topic})["count"] == 0


def test_kept_messages_are_replayed_and_say_that_they_may_have_been_seen(
    operated: ClusterUnderTest, tmp_path: Path
) -> None:
    topic, subscription = subscribed(operated, limit_retention=3600, delivery_max_retry=5)
    file = tmp_path / "received"
    ids = [published(operated, topic, str(file)) for _ in range(3)]
    wait_until(lambda: len(lines(file)) == 3)
    answer = operated.invoke(
        "zato.pubsub.topic.replay", {"subscription": subscription, "from_msg_id": ids[1]}
    )
    assert (answer["count"], answer["is_complete"]) == (2, True)
    found = wait_until(lambda: lines(file) if len(lines(file)) == 5 else None)
    assert found == [*([msg_id, 0] for msg_id in ids), *([msg_id, 1] for msg_id in ids[1:])]


def test_queued_messages_are_browsed_edited_deleted_and_cleared(operated: ClusterUnderTest) -> None:
    topic, subscription = subscribed(operated, active_status="pub-only")
    ids = [published(operated, topic, f"data {number}", correl_id="c") for number in range(4)]
    queue = {"subscription": subscription}
    listed = operated.invoke(
        "zato.pubsub.endpoint.get-endpoint-queue-messages-gd", {**queue, "query": "DATA", "limit": 3}
    )
    assert [item["msg_id"] for item in listed["items"]] == ids[:3]
    rest = operated.invoke(
        "zato.pubsub.endpoint.get-endpoint-queue-messages-gd", {**queue, "cursor": listed["cursor"]}
    )
    assert [item["msg_id"] for item in rest["items"]] == ids[3:]
    changed = {"topic_name": topic, "msg_id": ids[3], "priority": 9, "data": {"n": 1}}
    assert operated.invoke("zato.pubsub.message.update-gd", changed)["data"] == {"n": 1}
    first = operated.invoke("zato.pubsub.message.get-from-queue-gd", {**queue, "msg_id": ids[3]})
    assert (first["priority"], first["delivery_count"]) == (9, 0)
    assert operated.invoke("zato.pubsub.message.queue-delete-gd", {**queue, "msg_id": ids[0]})["count"] == 1
    assert (
        operated.invoke("zato.pubsub.message.topic-delete-gd", {"topic_name": topic, "msg_id": ids[1]})[
            "count"
        ]
        == 1
    )
    assert operated.invoke("zato.pubsub.message.get-from-topic-gd", {"msg_id": ids[2]})["correl_id"] == "c"
    (told,) = operated.invoke("zato.pubsub.stats", {"topic_name": topic})["items"]
    assert (told["depth"], told["active_status"]) == (2, "pub-only")
    (told,) = operated.invoke("zato.pubsub.endpoint.get-endpoint-queue-list", {"endpoint_name": topic})[
        "items"
    ]
    assert told["topic_name"] == topic
    assert operated.invoke("zato.pubsub.endpoint.clear-endpoint-queue", queue)["count"] == 2
    cleared = operated.invoke("zato.pubsub.topic.clear", {"topic_name": topic})
    assert (cleared["count"], cleared["is_complete"]) == (0, True)


@pytest.mark.parametrize(
    ("service", "payload", "status"),
    [
        ("zato.pubsub.topic.get-gd-message-list", {}, 400),
        ("zato.pubsub.topic.get-gd-message-list", {"topic_name": "/none"}, 404),
        ("zato.pubsub.topic.get-gd-message-list", {"topic_name": "/zato/demo/sample", "cursor": "x"}, 400),
        ("zato.pubsub.topic.get-gd-message-list", {"topic_name": "/zato/demo/sample", "since": "soon"}, 400),
        ("zato.pubsub.endpoint.get-endpoint-queue-messages-gd", {}, 400),
        ("zato.pubsub.endpoint.get-endpoint-queue-messages-gd", {"sub_key": "zpsk.none"}, 404),
        ("zato.pubsub.message.get-from-topic-gd", {"msg_id": "zpsm0"}, 404),
        ("zato.pubsub.message.explain", {"msg_id": "zpsm0"}, 404),
        ("zato.pubsub.dead-letter.get", {"id": 0}, 404),
        ("zato.pubsub.dead-letter.get", {}, 400),
        ("zato.pubsub.dead-letter.redrive", {"ids": ["1"]}, 400),
        ("zato.pubsub.endpoint.get-endpoint-queue-list", {}, 400),
        ("zato.pubsub.stats", {"topic_name": "/none"}, 404),
    ],
)
def test_what_is_wrong_is_told(
    operated: ClusterUnderTest, service: str, payload: dict[str, Any], status: int
) -> None:
    with pytest.raises(RemoteInvalidInput if status == 400 else RemoteError) as raised:
        operated.invoke(service, payload)
    assert getattr(raised.value, "status", 400) == status


def test_one_worker_of_the_cluster_does_the_maintenance(operated: ClusterUnderTest) -> None:
    def partitions() -> float:
        return sum(server.metric("junctor_pubsub_partitions") for server in operated.servers)

    wait_until(lambda: partitions() == 3, message="There are as many gauges as workers, or none.")
