import json
from datetime import UTC, datetime, timedelta

import pytest

from junctor.cli.exit_codes import ExitCode
from tests.helpers.admin_server import Refused

PUBLISH = "zato.pubsub.publish.publish"
PULL = "zato.pubsub.queue.get-messages"
ACKNOWLEDGE = "zato.pubsub.queue.acknowledge-delivery"
STATS = "zato.pubsub.stats"
OF_TOPIC = "zato.pubsub.topic.get-gd-message-list"
OF_QUEUE = "zato.pubsub.endpoint.get-endpoint-queue-messages-gd"
SHOW = "zato.pubsub.message.get-from-topic-gd"
SHOW_QUEUED = "zato.pubsub.message.get-from-queue-gd"
EXPLAIN = "zato.pubsub.message.explain"
UPDATE = "zato.pubsub.message.update-gd"
DELETE_QUEUED = "zato.pubsub.message.queue-delete-gd"
DELETE = "zato.pubsub.message.topic-delete-gd"
CLEAR_TOPIC = "zato.pubsub.topic.clear"
CLEAR_QUEUE = "zato.pubsub.endpoint.clear-endpoint-queue"
REPLAY = "zato.pubsub.topic.replay"
LETTERS = "zato.pubsub.dead-letter.get-list"
LETTER = "zato.pubsub.dead-letter.get"
EDIT_LETTER = "zato.pubsub.dead-letter.edit"
REDRIVE = "zato.pubsub.dead-letter.redrive"
DELETE_LETTERS = "zato.pubsub.dead-letter.delete"
SUBSCRIPTION = "zato.pubsub.subscription.get"
KEY = "zpsk.rest.1"


def message(number, **more):
    return {
        "msg_id": f"zpsm{number}",
        "pub_time_iso": "2026-11-24T10:00:00.123456",
        "priority": 5,
        "delivery_count": 0,
        "data": f"data {number}",
        "size": 6,
        "queues": 2,
        "last_error": "",
        "not_before_iso": None,
        **more,
    }


def letter(number, **more):
    return {
        "id": number,
        "died_at_iso": "2026-11-24T10:00:00.123456",
        "topic_name": "/orders",
        "subscription": "Orders",
        "msg_id": f"zpsm{number}",
        "delivery_count": 3,
        "reason": "HTTP 500",
        "data": {"n": number},
        **more,
    }


def paged(total, make):
    """Answers with pages of ``total`` items, whose cursors are their numbers."""

    def answer(payload):
        start = int(payload["cursor"] or 0)
        end = min(total, start + payload["limit"])
        return {
            "items": [make(number) for number in range(start, end)],
            "cursor": str(end) if end < total else "",
        }

    return answer


def test_a_message_is_published_with_what_belongs_to_it(cluster, server):
    server.answers[PUBLISH] = {"msg_id": "zpsm1"}
    ran = cluster(
        *(
            "pubsub",
            "publish",
            "/orders",
            '{"n": 1}',
            "--priority",
            "7",
            "--expiration",
            "2h",
            "--delay",
            "90",
        ),
        *("--msg-id", "own", "--correl-id", "c", "--in-reply-to", "r", "--mime-type", "application/json"),
    )
    assert ran.out == "Published zpsm1.\n"
    assert server.payload(PUBLISH) == {
        "topic_name": "/orders",
        "data": {"n": 1},
        "priority": 7,
        "expiration": 7_200_000,
        "delay": 90_000,
        "msg_id": "own",
        "correl_id": "c",
        "in_reply_to": "r",
        "mime_type": "application/json",
    }


def test_data_comes_from_the_command_line_a_file_or_standard_input(cluster, server, tmp_path):
    server.answers[PUBLISH] = {"msg_id": "zpsm1"}
    file = tmp_path / "order.txt"
    file.write_text("from a file")
    cluster("pubsub", "publish", "/orders", "plain text", "--json")
    cluster("pubsub", "publish", "/orders", "--data=-5 degrees")
    cluster("pubsub", "publish", "/orders", f"@{file}")
    cluster("pubsub", "publish", "/orders", "-", stdin="from a pipe")
    found = [payload["data"] for _, payload in server.calls]
    assert found == ["plain text", "-5 degrees", "from a file", "from a pipe"]
    for wrong in ((), ("a", "--data", "b"), ("a", "--expiration", "soon")):
        cluster("pubsub", "publish", "/orders", *wrong, code=ExitCode.INVALID)


def test_messages_are_acknowledged_once_they_are_printed(cluster, server):
    server.answers[SUBSCRIPTION] = {"sub_key": KEY}
    server.answers[PULL] = [message(1), message(2, data={"a": "é"}, delivery_count=1)]
    server.answers[ACKNOWLEDGE] = {"count": 2}
    ran = cluster("pubsub", "pull", "--subscription", "Orders")
    assert server.payload(SUBSCRIPTION) == {"name": "Orders"}
    assert server.payload(PULL) == {"sub_key": KEY, "batch_size": 10}
    assert server.payload(ACKNOWLEDGE) == {"sub_key": KEY, "msg_id_list": ["zpsm1", "zpsm2"]}
    lines = ran.out.splitlines()
    assert lines[:2] == ["zpsm1  2026-11-24T10:00:00  priority 5  delivered before: 0", "data 1"]
    assert "é" in ran.out


def test_messages_can_be_looked_at_without_acknowledging_them(cluster, server):
    server.answers[PULL] = lambda payload: [message(n) for n in range(payload["batch_size"])]
    ran = cluster("pubsub", "pull", "--subscription", KEY, "--no-ack", "--limit", "700", "--json")
    assert [payload["batch_size"] for _, payload in server.calls] == [500, 200]
    assert len([json.loads(line) for line in ran.out.splitlines()]) == 700
    server.answers[PULL] = []
    assert cluster("pubsub", "pull", "--subscription", KEY).out == "There are no messages.\n"
    assert "is required" in cluster("pubsub", "pull", code=ExitCode.INVALID).err


def test_statistics_have_the_longest_wait_first(cluster, server):
    def item(number, **more):
        return {
            "topic_name": f"/t{number}",
            "subscription": f"S{number}",
            "endpoint_name": "E",
            "delivery_method": "pull",
            "active_status": "pub-sub",
            "depth": number,
            "oldest_seconds": number * 100.0,
            "dead_letters": 0,
            "in_flight": 0,
            "published_per_second": 1.5,
            "delivered_per_second": 2.5,
            "owner_server": None,
            "owner_pid": None,
            **more,
        }

    unsubscribed = [{"topic_name": "/lonely", "depth": 3, "oldest_seconds": 1.0}]
    server.answers[STATS] = {"items": [item(0), item(2), item(1)], "unsubscribed": unsubscribed}
    ran = cluster("pubsub", "stats", "--topic", "/t", "--endpoint", "E")
    assert server.payload(STATS) == {"sample": 1.0, "topic_name": "/t", "endpoint_name": "E"}
    lines = ran.out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["Topic", "/t2", "/t1", "/t0"]
    assert "3 min 20 s" in lines[1]
    assert "2.5" in lines[1]
    assert lines[4] == "3 messages in topic /lonely, to which nobody subscribes."
    server.calls.clear()
    ran = cluster("pubsub", "stats", "--subscription", KEY, "--sample", "0")
    assert server.payload(STATS) == {"sample": 0.0, "sub_key": KEY}
    assert "In/s" not in ran.out
    assert cluster("pubsub", "stats", "--json").json["unsubscribed"] == unsubscribed


def test_a_topic_is_browsed_page_by_page(cluster, server):
    server.answers[OF_TOPIC] = paged(500, message)
    ran = cluster("pubsub", "browse", "--topic", "/orders", "--limit", "450", "--query", "x", "--json")
    assert [item["msg_id"] for item in ran.json["items"]] == [f"zpsm{n}" for n in range(450)]
    assert ran.json["has_more"] is True
    assert [payload["limit"] for _, payload in server.calls] == [200, 200, 50]
    assert all(payload["topic_name"] == "/orders" and payload["query"] == "x" for _, payload in server.calls)
    ran = cluster("pubsub", "browse", "--topic", "/orders")
    assert "2026-11-24T10:00:00 " in ran.out
    assert ran.out.endswith("There are more; see --limit.\n")


def test_pages_without_any_match_are_passed_over(cluster, server):
    pages = iter([([], "1"), ([], "2"), ([message(7, data="x\ny" * 50)], "")])

    def answer(payload):
        items, cursor = next(pages)
        return {"items": items, "cursor": cursor}

    server.answers[OF_QUEUE] = answer
    ran = cluster("pubsub", "browse", "--subscription", KEY, "--msg-id", "zpsm7")
    assert len(ran.out.splitlines()) == 2
    assert "…" in ran.out
    assert [payload["cursor"] for _, payload in server.calls] == ["", "1", "2"]


def test_times_are_given_as_ages_or_in_iso_8601(cluster, server):
    server.answers[OF_QUEUE] = {"items": [], "cursor": ""}
    cluster(
        "pubsub",
        "browse",
        "--topic",
        "/orders",
        "--unsubscribed",
        "--since",
        "10m",
        "--until",
        "2026-11-24T10:00:00+01:00",
    )
    payload = server.payload(OF_QUEUE)
    age = datetime.now(UTC) - datetime.fromisoformat(payload["since"])
    assert timedelta(minutes=10) <= age < timedelta(minutes=11)
    assert payload["until"] == "2026-11-24T09:00:00+00:00"
    for wrong in ("soon", "1.2.3h", "9999999999d"):
        ran = cluster("pubsub", "browse", "--topic", "/orders", "--since", wrong, code=ExitCode.USAGE)
        assert "is no time" in ran.err


@pytest.mark.parametrize("command", ["browse", "clear", "delete"])
def test_a_topic_or_a_subscription_must_be_given(cluster, command):
    arguments = ["zpsm1"] if command == "delete" else []
    for choice in ([], ["--topic", "/orders", "--subscription", KEY]):
        ran = cluster("pubsub", command, *arguments, *choice, code=ExitCode.INVALID)
        assert "must be given, and not both" in ran.err


def test_a_message_is_shown_with_all_that_is_known_of_it(cluster, server):
    server.answers[SHOW] = message(1, correl_id="c", reply_to_sk=[], data={"n": 1})
    ran = cluster("pubsub", "show", "zpsm1", "--topic", "/orders")
    assert server.payload(SHOW) == {"msg_id": "zpsm1", "topic_name": "/orders"}
    head, _, data = ran.out.partition("\n\n")
    assert "correl_id" in head
    assert "reply_to_sk" not in head
    assert json.loads(data) == {"n": 1}
    server.answers[SHOW_QUEUED] = message(1, data="\x1b[31mred", last_error="HTTP 500")
    ran = cluster("pubsub", "show", "zpsm1", "--subscription", KEY)
    assert server.payload(SHOW_QUEUED) == {"msg_id": "zpsm1", "sub_key": KEY}
    assert "HTTP 500" in ran.out
    assert "\x1b" not in ran.out


def test_the_reason_why_a_message_waits_is_told_for_each_subscription(cluster, server):
    server.answers[EXPLAIN] = {
        "msg_id": "zpsm1",
        "sentence": "",
        "messages": [
            {
                "topic_name": "/orders",
                "pub_time_iso": "2026-11-24T10:00:00",
                "sentence": "It can be replayed.",
                "subscriptions": [
                    {
                        "subscription": "Orders",
                        "endpoint_name": "CRM",
                        "status": "behind",
                        "sentence": "It waits behind 3 others.",
                    }
                ],
            }
        ],
    }
    ran = cluster("pubsub", "explain", "zpsm1", "--topic", "/orders", "--subscription", KEY)
    assert server.payload(EXPLAIN) == {"msg_id": "zpsm1", "topic_name": "/orders", "sub_key": KEY}
    assert ran.out.splitlines() == [
        "Topic /orders, published 2026-11-24T10:00:00. It can be replayed.",
        "  Orders (CRM): It waits behind 3 others.",
    ]
    server.answers[EXPLAIN] = {"msg_id": "own", "sentence": "It was delivered.", "messages": []}
    assert cluster("pubsub", "explain", "own").out == "It was delivered.\n"


def test_what_is_not_known_is_not_found(cluster, server):
    def refuse(_payload):
        raise Refused(404, "There is no message 'zpsm1'.", error="NotFound")

    server.answers[SHOW] = server.answers[EXPLAIN] = refuse
    for command in ("show", "explain"):
        assert "no message" in cluster("pubsub", command, "zpsm1", code=ExitCode.NOT_FOUND).err


def test_a_queued_message_is_changed(cluster, server):
    server.answers[UPDATE] = message(1)
    ran = cluster(
        "pubsub",
        "edit",
        "zpsm1",
        "--topic",
        "/orders",
        "--data",
        "[1]",
        "--priority",
        "9",
        "--expiration",
        "0",
    )
    assert server.payload(UPDATE) == {
        "msg_id": "zpsm1",
        "topic_name": "/orders",
        "data": [1],
        "priority": 9,
        "expiration": 0,
    }
    assert ran.out == "Changed zpsm1.\n"
    assert (
        "is required" in cluster("pubsub", "edit", "zpsm1", "--topic", "/orders", code=ExitCode.INVALID).err
    )


def test_a_message_is_deleted_from_a_queue_or_a_topic(cluster, server):
    server.answers[DELETE_QUEUED] = server.answers[DELETE] = {"count": 2}
    assert cluster("pubsub", "delete", "zpsm1", "--topic", "/orders").out == "Deleted zpsm1 from 2 queues.\n"
    cluster("pubsub", "delete", "zpsm1", "--subscription", KEY)
    assert server.payload(DELETE) == {"msg_id": "zpsm1", "topic_name": "/orders"}
    assert server.payload(DELETE_QUEUED) == {"msg_id": "zpsm1", "sub_key": KEY}


def test_long_work_goes_on_until_it_is_complete_and_says_how_far_it_is(cluster, server):
    answers = iter(
        [
            {"count": 5000, "last": 9, "is_complete": False},
            {"count": 5000, "last": 9, "is_complete": False},
            {"count": 7, "last": 9, "is_complete": True},
        ]
    )
    server.answers[CLEAR_TOPIC] = lambda _payload: next(answers)
    ran = cluster("pubsub", "clear", "--topic", "/orders", "--yes")
    assert ran.out == "Deleted 10007 messages of topic /orders.\n"
    assert ran.err.splitlines() == ["5000 messages deleted so far", "10000 messages deleted so far"]
    assert [payload.get("last") for _, payload in server.calls] == [None, 9, 9]
    server.answers[CLEAR_QUEUE] = {"count": 1, "last": 9, "is_complete": True}
    assert cluster("pubsub", "clear", "--subscription", KEY, "-y", "--json").json["count"] == 1
    assert "say --yes" in cluster("pubsub", "clear", "--topic", "/orders", code=ExitCode.USAGE).err


def test_somebody_who_is_there_is_asked_before_messages_go(cluster, server, somebody_there):
    server.answers[CLEAR_TOPIC] = {"count": 1, "last": 9, "is_complete": True}
    assert cluster("pubsub", "clear", "--topic", "/orders", stdin="n\n", code=ExitCode.INTERRUPTED)
    assert server.calls == []
    cluster("pubsub", "clear", "--topic", "/orders", stdin="y\n")
    assert server.payload(CLEAR_TOPIC) == {"topic_name": "/orders"}


def test_what_a_topic_has_kept_is_replayed(cluster, server):
    answers = iter(
        [
            {"count": 2, "after": 3, "last": 9, "is_complete": False},
            {"count": 1, "after": 9, "last": 9, "is_complete": True},
        ]
    )
    server.answers[REPLAY] = lambda _payload: next(answers)
    ran = cluster("pubsub", "replay", "--subscription", KEY, "--from-msg-id", "zpsm1")
    assert ran.out == "Queued 3 messages.\n"
    assert [payload for _, payload in server.calls] == [
        {"sub_key": KEY, "from_msg_id": "zpsm1"},
        {"sub_key": KEY, "from_msg_id": "zpsm1", "after": 3, "last": 9},
    ]


def test_dead_letters_are_listed_shown_and_changed(cluster, server):
    server.answers[LETTERS] = paged(3, letter)
    ran = cluster("pubsub", "dead-letters", "--topic", "/orders", "--subscription", KEY, "--limit", "2")
    assert "HTTP 500" in ran.out
    assert ran.out.endswith("There are more; see --limit.\n")
    asked = {"topic_name": "/orders", "sub_key": KEY, "limit": 2, "cursor": ""}
    assert server.payload(LETTERS) == asked
    server.answers[LETTER] = server.answers[EDIT_LETTER] = letter(2)
    assert '"n": 2' in cluster("pubsub", "dead-letter", "2").out
    assert cluster("pubsub", "edit-dead-letter", "2", "--data", '{"n": 3}').out == "Changed dead letter 2.\n"
    assert server.payload(EDIT_LETTER) == {"id": 2, "data": {"n": 3}}
    cluster("pubsub", "edit-dead-letter", "2", code=ExitCode.INVALID)


def test_dead_letters_are_delivered_after_all_or_deleted(cluster, server):
    server.answers[REDRIVE] = server.answers[DELETE_LETTERS] = {"count": 2, "is_complete": True}
    assert (
        cluster("pubsub", "redrive", "4", "5", "--to", "zpsk.other").out == "Queued 2 dead letters again.\n"
    )
    assert server.payload(REDRIVE) == {"ids": [4, 5], "to_sub_key": "zpsk.other"}
    assert cluster("pubsub", "delete-dead-letters", "--query", "x").out == "Deleted 2 dead letters.\n"
    assert server.payload(DELETE_LETTERS) == {"query": "x"}
    server.calls.clear()
    cluster("pubsub", "redrive", "--all")
    assert server.payload(REDRIVE) == {"all": True}
    for command in ("redrive", "delete-dead-letters"):
        assert "Say which" in cluster("pubsub", command, code=ExitCode.USAGE).err
