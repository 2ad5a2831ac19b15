"""The pipeline around the writer: who may publish what, and what becomes of it before it is stored."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from junctor.server.metrics import Metrics
from junctor.server.pubsub import publishing as pipeline
from junctor.server.pubsub.directory import Directory
from junctor.server.pubsub.match import Patterns
from junctor.server.pubsub.message import MILLISECONDS, NewMessage, new_message
from junctor.server.pubsub.publishing import Publishing
from junctor.sql.errors import (
    DuplicateMessage,
    Forbidden,
    InvalidInput,
    JunctorError,
    ResourceNotFound,
    ServiceUnavailable,
)


def topic(name: str = "/orders", **fields: Any) -> Any:
    defaults = {
        "id": 7, "name": name, "is_active": True, "has_gd": True, "is_relaxed": False, "limit_message_expiry": 0, "hook_service": "",
    }  # fmt: skip
    return Object({**defaults, **fields})


class Object:
    """Something with these attributes, that can be a key."""

    def __init__(self, attributes: dict[str, Any]) -> None:
        vars(self).update(attributes)


def endpoint(*lines: str, **fields: Any) -> Any:
    return Object(
        {
            "id": 3,
            "name": "CRM",
            "role": "pub-sub",
            "can_publish": True,
            "patterns": Patterns(lines),
            **fields,
        }
    )


def new(data: Any = "x", topic: str = "/orders", **fields: Any) -> NewMessage:
    return new_message(topic, {"data": data, **fields}, expiration_unit=MILLISECONDS)


class Worker:
    """The other parts of the worker: they remember what they were asked."""

    def __init__(self) -> None:
        self.stored: list[tuple[list[NewMessage], bool]] = []
        self.offered: list[Any] = []
        self.checked: list[tuple[str, int]] = []
        self.error: JunctorError | None = None
        self.caught_up = 0
        self.metrics = Metrics()
        context: Any = SimpleNamespace(
            metrics=self.metrics, listener=SimpleNamespace(catch_up=self._catch_up)
        )
        self.directory = Directory(context)
        hooks = SimpleNamespace(before_publish=self._before_publish)
        context.pubsub = SimpleNamespace(directory=self.directory, writer=self, hooks=hooks)
        self.publishing = Publishing(context)
        self.publishing.depths = SimpleNamespace(
            check=lambda topic, count: self.checked.append((topic.name, count))
        )  # type: ignore[assignment]  # a stand-in
        self.publishing._unguaranteed = SimpleNamespace(offer=self._offer)  # type: ignore[assignment]  # a stand-in
        self.publish = self.publishing.publish

    def write(self, messages: list[NewMessage], *, is_relaxed: bool = False) -> None:
        if self.error is not None:
            raise self.error
        if not messages:
            return
        self.stored.append((list(messages), is_relaxed))

    def _offer(self, _: Any, message: NewMessage) -> NewMessage | None:
        self.offered.append(message.data)
        return None if message.data == "taken" else message

    def _catch_up(self) -> None:
        self.caught_up += 1

    def _before_publish(self, _: Any, message: NewMessage) -> NewMessage | None:
        if message.data == "edit me":
            return new("edited", msg_id="edited")
        return None if message.data == "skip me" else message

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.counter(name, **labels).value


@pytest.fixture
def worker() -> Worker:
    made = Worker()
    made.directory.put_topic(topic())
    return made


def test_a_message_is_stored_with_its_publisher_topic_and_pattern(worker: Worker) -> None:
    message = new()
    assert worker.publish(endpoint("pub=/no", "pub=/or*"), [message]) == [message.msg_id]
    ((stored, is_relaxed),) = worker.stored
    assert stored == [message]
    assert not is_relaxed
    assert (message.topic_id, message.endpoint_id, message.endpoint_name, message.pub_pattern) == (
        7,
        3,
        "CRM",
        "pub=/or*",
    )
    assert message.has_gd is True
    assert worker.checked == [("/orders", 1)]
    assert worker.counted("junctor_pubsub_published_total", topic="/orders") == 1


@pytest.mark.parametrize(
    "publisher",
    [endpoint("sub=/**"), endpoint("pub=/other"), endpoint("pub=/**", can_publish=False)],
    ids=["no pattern", "another pattern", "role or inactive"],
)
@pytest.mark.parametrize("name", ["/orders", "/unknown"])
def test_who_may_not_publish_does_not_learn_whether_there_is_the_topic(
    worker: Worker, publisher: Any, name: str
) -> None:
    with pytest.raises(Forbidden, match=r"^You are not authorized to access this resource\.$"):
        worker.publish(publisher, [new(topic=name)])
    assert worker.stored == []
    assert worker.counted("junctor_pubsub_refused_total", reason="forbidden") == 1


def test_an_unknown_topic_is_told_to_whoever_might_publish_to_it(worker: Worker) -> None:
    with pytest.raises(ResourceNotFound, match=r"^No such topic$"):
        worker.publish(endpoint("pub=/**"), [new(topic="/unknown")])
    assert worker.counted("junctor_pubsub_refused_total", reason="no-topic") == 1


def test_a_topic_that_another_worker_has_just_made_is_found_and_looked_for_seldom(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def catch_up() -> None:
        worker.caught_up += 1
        worker.directory.put_topic(topic("/new", id=8))

    with pytest.raises(ResourceNotFound):
        worker.publish(endpoint("pub=/**"), [new(topic="/unknown")])
    with pytest.raises(ResourceNotFound):
        worker.publish(endpoint("pub=/**"), [new(topic="/unknown")])
    assert worker.caught_up == 1
    monkeypatch.setattr(pipeline, "CATCH_UP_INTERVAL", 0.0)
    monkeypatch.setattr(worker.publishing._context.listener, "catch_up", catch_up)
    worker.publish(endpoint("pub=/**"), [new(topic="/new")])
    assert worker.stored[0][0][0].topic_id == 8


def test_an_inactive_topic_takes_nothing(worker: Worker) -> None:
    worker.directory.put_topic(topic(is_active=False))
    with pytest.raises(ServiceUnavailable, match=r"^Topic is inactive$"):
        worker.publish(endpoint("pub=/**"), [new()])


def test_those_whom_patterns_do_not_bind_publish_anywhere(worker: Worker) -> None:
    worker.publish(endpoint(can_publish=False), [new()], check_pattern=False)
    assert worker.stored[0][0][0].pub_pattern == ""


def test_a_list_for_several_topics_is_one_unit_and_refused_as_a_whole(worker: Worker) -> None:
    worker.directory.put_topic(topic("/relaxed", id=8, is_relaxed=True))
    worker.publish(endpoint("pub=/**"), [new("1"), new("2", "/relaxed"), new("3")])
    ((stored, is_relaxed),) = worker.stored
    assert [message.data for message in stored] == ["1", "2", "3"]
    assert not is_relaxed, "one of them has to wait for the disk"
    assert worker.checked == [("/orders", 2), ("/relaxed", 1)]
    with pytest.raises(Forbidden):
        worker.publish(endpoint("pub=/orders"), [new("1"), new("2", "/relaxed")])
    worker.publish(endpoint("pub=/**"), [new("4", "/relaxed")])
    assert [relaxed for _, relaxed in worker.stored] == [False, True]


def test_hooks_edit_and_skip(worker: Worker) -> None:
    worker.directory.put_topic(topic(hook_service="my.hook"))
    messages = [new("as it is"), new("skip me"), new("edit me")]
    ids = worker.publish(endpoint("pub=/**"), messages)
    assert [message.data for message in worker.stored[0][0]] == ["as it is", "edited"]
    assert ids == [messages[0].msg_id, messages[1].msg_id, "edited"]
    assert worker.counted("junctor_pubsub_published_total", topic="/orders") == 2


@pytest.mark.parametrize(
    ("given", "limit", "expected"),
    [(0, 0, 0), (5000, 0, 5000), (0, 3, 3000), (5000, 3, 3000), (2000, 3, 2000)],
)
def test_the_topic_limits_how_long_messages_live(
    worker: Worker, given: int, limit: int, expected: int
) -> None:
    worker.directory.put_topic(topic(limit_message_expiry=limit))
    message = new(expiration=given)
    worker.publish(endpoint("pub=/**"), [message])
    assert message.expiration == expected


def test_too_many_messages_are_refused(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "MAX_MESSAGES", 1)
    with pytest.raises(InvalidInput, match="data_list: has 2 messages"):
        worker.publish(endpoint("pub=/**"), [new(), new()])


@pytest.mark.parametrize(
    ("of_topic", "of_message", "is_offered"),
    [(True, None, False), (True, False, True), (False, None, True), (False, True, False)],
)
def test_the_message_or_else_the_topic_says_whether_delivery_is_guaranteed(
    worker: Worker, of_topic: bool, of_message: bool | None, *, is_offered: bool
) -> None:
    worker.directory.put_topic(topic(has_gd=of_topic))
    worker.publish(endpoint("pub=/**"), [new("taken", has_gd=of_message)])
    assert worker.offered == (["taken"] if is_offered else [])
    assert bool(worker.stored) is not is_offered
    assert worker.counted("junctor_pubsub_published_total", topic="/orders") == 1


def test_what_nobody_takes_at_once_is_stored_and_so_is_what_is_delayed(worker: Worker) -> None:
    messages = [
        new("taken", has_gd=False),
        new("left", has_gd=False),
        new("late", has_gd=False, delay=5),
        new("sure"),
    ]
    ids = worker.publish(endpoint("pub=/**"), messages)
    assert worker.offered == ["taken", "left"]
    assert [[message.data for message in stored] for stored, _ in worker.stored] == [
        ["late", "sure"],
        ["left"],
    ]
    assert ids == [message.msg_id for message in messages]


def test_nothing_is_published_of_an_empty_list(worker: Worker) -> None:
    assert worker.publish(endpoint("pub=/**"), []) == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [(DuplicateMessage(), "duplicate"), (ServiceUnavailable(), "unavailable"), (JunctorError("?"), "failed")],
)
def test_refusals_are_counted_by_their_reasons(worker: Worker, error: JunctorError, reason: str) -> None:
    worker.error = error
    with pytest.raises(type(error)):
        worker.publish(endpoint("pub=/**"), [new()])
    assert worker.counted("junctor_pubsub_refused_total", reason=reason) == 1
    assert worker.counted("junctor_pubsub_published_total", topic="/orders") == 0
