"""Looking at messages: nothing is consumed by it, pages fit together, and an answer to 'why is it not delivered?' is the right one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from junctor.server.pubsub import browse, browse_sql, dead_letters, replay, stats
from junctor.server.pubsub.browse import Wanted
from junctor.server.pubsub.dead_letters import Chosen
from junctor.server.pubsub.explain import explain
from junctor.server.pubsub.replay import Range
from junctor.sql.errors import Conflict, InvalidInput, NotFound
from junctor.sql.store import Store
from tests.helpers.objects import edit
from tests.helpers.queues import Queues

HOUR = 3600.0


def moment(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def ids(page: browse.Page) -> list[str]:
    return [item["msg_id"] for item in page.items]


def all_ids(look: Any, **wanted: Any) -> list[str]:
    """What all pages have together."""
    page = look(Wanted(**wanted))
    found = ids(page)
    while page.cursor:
        page = look(Wanted(**wanted, cursor=page.cursor))
        found += ids(page)
    return found


def test_a_topic_is_browsed_page_by_page_newest_first(
    queues: Queues, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browse_sql, "SCANNED", 4)
    topic, other = queues.topic(), queues.topic("/other")
    sub = queues.subscription()
    made = [
        queues.publish(
            topic, [sub] if n % 2 else [], f"Order {n} of 100%_", age=100 - n, correl_id=f"c{n % 3}"
        )[1]
        for n in range(10)
    ]
    queues.publish(other)

    def look(wanted: Wanted) -> browse.Page:
        return browse.topic_messages(store, topic, wanted)

    assert all_ids(look, limit=3) == all_ids(look, limit=100) == made[::-1]
    assert all_ids(look, query="order 7") == all_ids(look, msg_id=made[7]) == [made[7]]
    assert all_ids(look, query="100%_") == made[::-1]
    assert all_ids(look, query="100_%") == all_ids(look, query="no such") == all_ids(look, msg_id="\0") == []
    assert all_ids(look, correl_id="c1", limit=2) == [made[7], made[4], made[1]]
    assert all_ids(look, since=moment(-97.5), until=moment(-94.5)) == [made[5], made[4], made[3]]
    assert [item["queues"] for item in look(Wanted(limit=4)).items] == [1, 0, 1, 0]
    assert len(queues.queue(sub)) == 5
    for cursor in (
        "x",
        "é",
        "W10",
        browse.encode_cursor("queue", (1, 2)),
        browse.encode_cursor("topic", (-1,)),
    ):
        with pytest.raises(InvalidInput):
            look(Wanted(cursor=cursor))


def test_a_queue_is_browsed_in_the_order_of_its_delivery(
    queues: Queues, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browse_sql, "SCANNED", 4)
    topic = queues.topic()
    sub, other = queues.subscription(), queues.subscription()
    made = [queues.publish(topic, [sub, other], f"data {n}", priority=1 + n % 3 * 4)[1] for n in range(9)]
    order = [made[n] for n in (2, 5, 8, 1, 4, 7, 0, 3, 6)]
    queues.publish(topic, [other], correl_id="c")

    def look(wanted: Wanted) -> browse.Page:
        return browse.queue_messages(store, sub, topic, wanted)

    for limit in (1, 2, 3, 4, 9, 1000):
        assert all_ids(look, limit=limit) == order
    assert all_ids(look, msg_id=made[3]) == all_ids(look, query="DATA 3") == [made[3]]
    assert all_ids(look, correl_id="c") == all_ids(look, msg_id="other") == []
    assert len(queues.queue(sub)) == 9


def test_a_list_has_the_beginning_of_large_data_and_one_message_has_it_all(
    queues: Queues, store: Store
) -> None:
    topic = queues.topic()
    sub = queues.subscription()
    _, large = queues.publish(topic, [sub], "x" * 5000, attempts=2, last_error="HTTP 503", expires_in=HOUR)
    _, structured = queues.publish(topic, [sub], {"a": [1]})
    listed = browse.queue_messages(store, sub, topic, Wanted()).items
    assert [(len(item["data"]), item["is_cut"]) for item in listed] == [
        (2048, True),
        (len('{"a":[1]}'), False),
    ]
    whole = browse.queued_message(store, sub, topic, large)
    assert (whole["data"], whole["delivery_count"], whole["last_error"]) == ("x" * 5000, 2, "HTTP 503")
    assert whole["expiration_time_iso"] > whole["pub_time_iso"]
    assert browse.message(store, structured)["data"] == {"a": [1]}
    for absent in ("zpsm0", "\0"):
        with pytest.raises(NotFound):
            browse.message(store, absent)
    with pytest.raises(NotFound):
        browse.queued_message(store, -topic, topic, large)


def test_a_queued_message_is_edited_in_all_of_its_queues(queues: Queues, store: Store) -> None:
    topic = queues.topic()
    one, two = queues.subscription(), queues.subscription()
    first, _ = queues.publish(topic, [one, two])
    edited, msg_id = queues.publish(topic, [one, two], {"a": 1}, correl_id="c", age=10)
    changes = {"data": {"a": 2}, "priority": 8, "expiration": 3_600_000}
    assert sorted(browse.edit(store, topic, msg_id, changes)) == [one, two]
    assert queues.queue(one) == queues.queue(two) == [edited, first]
    found = browse.queued_message(store, one, topic, msg_id)
    assert (found["data"], found["correl_id"], found["priority"], found["size"]) == ({"a": 2}, "c", 8, 7)
    assert found["expiration"] == 3_600_000
    browse.edit(store, topic, msg_id, {"expiration": 0})
    assert browse.message(store, msg_id)["expiration_time_iso"] is None
    with pytest.raises(InvalidInput) as raised:
        browse.edit(store, topic, msg_id, {"priority": 10, "expiration": -1})
    assert {problem.field for problem in raised.value.problems} == {"priority", "expiration"}
    with pytest.raises(InvalidInput, match="pub_time"):
        browse.edit(store, topic, msg_id, {"pub_time": 1})


def test_a_message_that_is_being_delivered_is_not_edited(queues: Queues, store: Store) -> None:
    topic = queues.topic()
    sub = queues.subscription()
    message_id, msg_id = queues.publish(topic, [sub])
    queues.own(sub, queues.worker(), [message_id])
    with pytest.raises(Conflict, match="being delivered"):
        browse.edit(store, topic, msg_id, {"data": "other"})
    queues.run("UPDATE pubsub_state SET in_flight = '{}'")
    browse.edit(store, topic, msg_id, {"data": "other"})
    queues.run("DELETE FROM pubsub_queue")
    with pytest.raises(Conflict, match="in no queue"):
        browse.edit(store, topic, msg_id, {"data": "another"})
    with pytest.raises(NotFound):
        browse.edit(store, topic, "zpsm0", {"data": "other"})


def test_messages_are_deleted_from_one_queue_or_from_the_topic(queues: Queues, store: Store) -> None:
    topic = queues.topic()
    one, two = queues.subscription(), queues.subscription()
    message_id, msg_id = queues.publish(topic, [one, two, -topic], kept_for=HOUR)
    assert browse.delete(store, [one], topic, msg_id) == 1
    assert (queues.queue(one), queues.queue(two)) == ([], [message_id])
    assert browse.delete_everywhere(store, topic, msg_id) == 2
    assert queues.queue(two) == queues.queue(-topic) == []
    assert browse.message(store, msg_id)["keep_until_iso"] is None
    with pytest.raises(NotFound):
        browse.delete(store, [one], topic, "zpsm0")


def test_queues_and_topics_are_cleared_of_what_was_published_before(
    queues: Queues, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = queues.topic()
    one, two = queues.subscription(), queues.subscription()
    for _ in range(3):
        queues.publish(topic, [one, two, -topic], kept_for=HOUR)
    monkeypatch.setattr(browse, "CLEAR_SECONDS", -1.0)
    begun = browse.clear_queue(store, one)
    assert (begun.count, begun.is_complete) == (3, False)
    later, _ = queues.publish(topic, [one, two])
    monkeypatch.undo()
    assert browse.clear_queue(store, one, begun.last) == browse.Cleared(0, begun.last, is_complete=True)
    assert queues.queue(one) == [later]
    cleared = browse.clear_topic(store, topic, begun.last)
    assert (cleared.count, cleared.is_complete) == (6, True)
    assert queues.queue(two) == [later]
    kept = queues.one("SELECT count(*) FROM pubsub_message WHERE keep_until IS NOT NULL")
    assert kept == 0


def test_dead_letters_are_browsed_edited_and_delivered_after_all(queues: Queues, store: Store) -> None:
    topic = queues.topic()
    sub, other = queues.subscription(), queues.subscription(delivery_max_retry=0)
    first, msg_id = queues.bury(sub, topic, {"n": 1}, correl_id="c", expires_in=-5, deliver_to_sk=["zpsk.1"])
    second, _ = queues.bury(sub, topic, "two", priority=7)
    queues.bury(other, topic, "three")
    listed = dead_letters.dead_letters(store, Chosen(sub_id=sub)).items
    assert [item["id"] for item in listed] == [second, first]
    assert (listed[1]["reason"], listed[1]["delivery_count"], listed[1]["topic_name"]) == (
        "HTTP 500",
        3,
        "/orders",
    )
    page = dead_letters.dead_letters(store, Chosen(search=Wanted(limit=2)))
    rest = dead_letters.dead_letters(store, Chosen(search=Wanted(limit=2, cursor=page.cursor)))
    assert len(page.items) + len(rest.items) == 3
    for search in (Wanted(query='"N":1'), Wanted(correl_id="c"), Wanted(msg_id=msg_id)):
        assert [item["id"] for item in dead_letters.dead_letters(store, Chosen(search=search)).items] == [
            first
        ]
    dead_letters.edit(store, first, {"data": {"n": 2}})
    found = dead_letters.dead_letter(store, first)
    assert (found["data"], found["is_edited"], found["correl_id"]) == ({"n": 2}, True, "c")
    with pytest.raises(InvalidInput, match="expiration"):
        dead_letters.edit(store, first, {"expiration": 1})
    assert dead_letters.redrive(store, Chosen(sub_id=sub)) == {sub: 2}
    assert dead_letters.redrive(store, Chosen(sub_id=sub)) == {}
    message = browse.queue_messages(store, sub, topic, Wanted()).items
    assert [(item["data"], item["priority"], item["delivery_count"]) for item in message] == [
        ("two", 7, 1),
        ('{"n":2}', 5, 1),
    ]
    assert message[1]["msg_id"] == msg_id
    assert message[1]["expiration_time_iso"] is None  # it had expired meanwhile
    assert message[1]["deliver_to_sk"] == ["zpsk.1"]


def test_dead_letters_may_go_to_another_subscription_or_be_deleted(queues: Queues, store: Store) -> None:
    topic = queues.topic()
    sub, other = queues.subscription(), queues.subscription(delivery_max_retry=0)
    letters = [queues.bury(sub, topic)[0] for _ in range(3)]
    assert dead_letters.redrive(store, Chosen(ids=letters[:1]), target=other) == {other: 1}
    assert [
        item["delivery_count"] for item in browse.queue_messages(store, other, topic, Wanted()).items
    ] == [0]
    assert dead_letters.redrive(store, Chosen(ids=letters[:1]), target=other) == {}
    assert dead_letters.delete(store, Chosen(ids=letters[1:2])) == 1
    with pytest.raises(NotFound):
        dead_letters.dead_letter(store, letters[1])
    assert dead_letters.delete(store, Chosen(search=Wanted(since=moment(60)))) == 0
    assert dead_letters.delete(store, Chosen(topic_id=topic)) == 1


def test_what_is_kept_is_replayed_from_a_time_or_a_message_on(
    queues: Queues, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "BATCH", 2)
    topic = queues.topic()
    sub, other = queues.subscription(), queues.subscription()
    kept = [queues.publish(topic, age=100 - n, kept_for=HOUR) for n in range(5)]
    queues.publish(topic, age=50)  # delivered, not kept
    queues.publish(topic, age=50, kept_for=HOUR, expires_in=-1)
    queues.publish(topic, age=50, kept_for=HOUR, deliver_to_sk=[queues.sub_key(other)])
    waiting, _ = queues.publish(topic, [sub], kept_for=HOUR)

    def replayed(**wanted: Any) -> int:
        given = Range(**wanted)
        begin = replay.start(store, topic, given)
        return sum(step.added for step in replay.replay(store, topic, sub, given, begin))

    assert replayed(msg_id=kept[3][1]) == 2
    assert queues.queue(sub) == [kept[3][0], kept[4][0], waiting]
    assert replayed(since=moment(-98.5), until=moment(-96.5)) == 1
    assert replayed() == 2
    assert replayed() == 0
    assert queues.queue(sub) == [*(message_id for message_id, _ in kept), waiting]
    counts = [item["delivery_count"] for item in browse.queue_messages(store, sub, topic, Wanted()).items]
    assert counts == [1, 1, 1, 1, 1, 0]
    with pytest.raises(NotFound):
        replayed(msg_id="zpsm0")


def test_statistics_say_what_waits_where_since_when_and_for_whom(queues: Queues, store: Store) -> None:
    topic, quiet = queues.topic(), queues.topic("/quiet")
    sub, idle = queues.subscription(name="Orders"), queues.subscription("/quiet")
    ids_ = [
        queues.publish(topic, [sub], age=age, priority=priority)[0] for age, priority in ((100, 9), (200, 1))
    ]
    queues.publish(quiet, [-quiet], age=50)
    queues.bury(idle, quiet)
    queues.own(sub, queues.worker(), ids_)
    found = stats.statistics(store, stats.Wanted())
    by_id = {item["id"]: item for item in found["items"]}
    orders = by_id[sub]
    assert (orders["subscription"], orders["topic_name"], orders["depth"], orders["in_flight"]) == (
        "Orders",
        "/orders",
        2,
        2,
    )
    assert 100 <= orders["oldest_seconds"] < 200  # the oldest is what came first, not what is delivered first
    assert (orders["owner_server"], orders["owner_pid"]) == ("server1", 4711)
    assert (by_id[idle]["depth"], by_id[idle]["dead_letters"], by_id[idle]["owner_server"]) == (0, 1, None)
    assert [(item["topic_name"], item["depth"]) for item in found["unsubscribed"]] == [("/quiet", 1)]
    assert "published_per_second" not in orders
    queues.run("UPDATE lease SET expires = now()")
    only = stats.statistics(store, stats.Wanted(topic="/orders", sample=0.01))
    assert [item["id"] for item in only["items"]] == [sub]
    assert only["items"][0]["owner_server"] is None
    assert only["items"][0]["published_per_second"] == only["items"][0]["delivered_per_second"] == 0
    assert only["unsubscribed"] == []


def told(store: Store, msg_id: str, number: int = 0) -> tuple[str, str]:
    (message,) = explain(store, msg_id)["messages"]
    found = message["subscriptions"][number]
    return found["status"], found["sentence"]


def test_why_a_message_waits(queues: Queues, store: Store) -> None:
    topic = queues.topic()
    sub = queues.subscription()
    first, _ = queues.publish(topic, [sub])
    message_id, msg_id = queues.publish(topic, [sub])
    assert told(store, msg_id) == (
        "waiting",
        "It waits to be pulled behind 1 other; the subscriber's last contact: never.",
    )
    queues.run(
        "UPDATE pubsub_queue SET not_before = now() + interval '1 hour' WHERE message_id = :id", id=message_id
    )
    assert told(store, msg_id)[0] == "delayed"
    queues.run(
        "UPDATE pubsub_queue SET attempts = 2, last_error = 'HTTP 503' WHERE message_id = :id", id=message_id
    )
    status, sentence = told(store, msg_id)
    assert status == "retrying"
    assert "failed 2 times (HTTP 503); the next attempt is at 20" in sentence
    edit(store, "pubsub_subscription", sub, active_status="pub-only")
    assert told(store, msg_id)[0] == "inactive"
    queues.run("UPDATE pubsub_queue SET expires_at = now() WHERE message_id = :id", id=message_id)
    assert told(store, msg_id)[0] == "expired"
    assert queues.queue(sub) == [first, message_id]


def test_why_a_message_that_is_to_be_sent_is_not(queues: Queues, store: Store) -> None:
    topic = queues.topic()
    queues.run(
        "INSERT INTO service (cluster_id, name, impl_name, is_active, slow_threshold) VALUES (:c, 's', 's', true, 0)",
        c=store.cluster_id,
    )
    sub = queues.subscription(delivery_method="notify", service="s")
    first, _ = queues.publish(topic, [sub])
    message_id, msg_id = queues.publish(topic, [sub])
    assert told(store, msg_id)[0] == "no-owner"
    worker = queues.worker()
    queues.own(sub, worker, [first])
    assert told(store, msg_id) == ("behind", "It waits behind 1 other in strict order.")
    queues.run(
        "UPDATE pubsub_queue SET attempts = 1, last_error = 'HTTP 500', not_before = now() + interval '1 hour' WHERE message_id = :id",
        id=first,
    )
    status, sentence = told(store, msg_id)
    assert status == "behind"
    assert "the first of which failed once (HTTP 500), and is due again 20" in sentence
    queues.run("DELETE FROM pubsub_queue WHERE message_id = :id", id=first)
    assert told(store, msg_id) == ("next", "It is the next to be delivered, at once.")
    queues.run("UPDATE pubsub_state SET in_flight = array[:id]", id=message_id)
    assert told(store, msg_id) == (
        "in-flight",
        "It is being delivered, or is about to be, by server server1, process 4711.",
    )
    queues.run("DELETE FROM worker")
    status, sentence = told(store, msg_id)
    assert status == "no-owner"
    assert "another one takes over" in sentence


def test_what_has_become_of_a_message_that_is_in_no_queue(queues: Queues, store: Store) -> None:
    topic = queues.topic()
    sub = queues.subscription()
    key = queues.sub_key(sub)
    for fields, status in (
        ({}, "delivered"),
        ({"deliver_to_sk": ["zpsk.other"]}, "not-addressed"),
        ({"age": HOUR}, "younger"),
        ({"expires_in": -1}, "expired"),
    ):
        _, msg_id = queues.publish(topic, **fields)
        assert told(store, msg_id)[0] == status
    letter, msg_id = queues.bury(sub, topic)
    status, sentence = told(store, msg_id)
    assert status == "dead-letter"
    assert f"dead letter {letter} " in sentence
    assert sentence.endswith("after 3 times: HTTP 500")
    assert explain(store, msg_id, sub_key=key)["messages"][0]["subscriptions"][0]["sub_key"] == key
    assert explain(store, msg_id, sub_key="other")["messages"][0]["subscriptions"] == []


def test_why_a_message_is_in_no_subscription_at_all(queues: Queues, store: Store) -> None:
    topic = queues.topic()
    _, parked = queues.publish(topic, [-topic])
    _, nobodys = queues.publish(topic)
    _, expired = queues.publish(topic, [-topic], expires_in=-1)
    sentences = [explain(store, msg_id)["messages"][0]["sentence"] for msg_id in (parked, nobodys, expired)]
    assert sentences[0].startswith("It waits in the topic")
    assert sentences[1] == "Nobody subscribes to the topic."
    assert "until it expired" in sentences[2]
    queues.run("INSERT INTO pubsub_dedupe (cluster_id, msg_id) VALUES (:c, 'own')", c=store.cluster_id)
    assert "is not stored any more" in explain(store, "own")["sentence"]
    for absent in ("", "zpsm0", "\0"):
        with pytest.raises(NotFound):
            explain(store, absent)
