"""What publishers give, and what subscribers get."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junctor.server.pubsub import message as messages
from junctor.server.pubsub.message import (
    MILLISECONDS,
    NEVER,
    SECONDS,
    QueuedMessage,
    encode_data,
    iso,
    new_message,
)
from junctor.sql.errors import InvalidInput

TOPIC = "/customer/new"


def queued(**fields: Any) -> QueuedMessage:
    """A message in a queue."""
    values: dict[str, Any] = {
        "id": 1,
        "sub_id": 2,
        "priority": 5,
        "attempts": 0,
        "topic_id": 3,
        "msg_id": "zpsm1",
        "data": "hello",
        "data_type": "text",
        "size": 5,
        "mime_type": "text/plain",
        "pub_time": 1_535_972_338.28547,
    }
    return QueuedMessage(**values | fields)


def problems(fields: dict[str, Any]) -> set[str]:
    """The fields that are wrong."""
    with pytest.raises(InvalidInput) as refused:
        new_message(TOPIC, {"data": "x"} | fields, expiration_unit=SECONDS)
    return {problem.field for problem in refused.value.problems}


class TestPublished:
    def test_a_message_with_nothing_but_data_has_the_defaults(self) -> None:
        made = new_message(TOPIC, {"data": "zażółć"}, expiration_unit=SECONDS)
        assert (made.topic, made.data, made.data_type, made.size) == (TOPIC, "zażółć", "text", 10)
        assert (made.priority, made.expiration, made.has_gd, made.mime_type) == (5, 0, None, "text/plain")
        assert made.msg_id.startswith("zpsm")
        assert not made.is_own_id

    def test_two_messages_never_have_one_id(self) -> None:
        made = {new_message(TOPIC, {"data": ""}, expiration_unit=SECONDS).msg_id for _ in range(1000)}
        assert len(made) == 1000

    def test_an_id_that_is_given_is_kept_and_known_as_such(self) -> None:
        made = new_message(TOPIC, {"data": "x", "msg_id": "order-1"}, expiration_unit=SECONDS)
        assert (made.msg_id, made.is_own_id) == ("order-1", True)

    @pytest.mark.parametrize(("unit", "expected"), [(SECONDS, 2500), (MILLISECONDS, 3)])
    def test_expiration_is_in_seconds_over_the_wire_and_in_milliseconds_in_python(
        self, unit: str, expected: int
    ) -> None:
        value = 2.5 if unit == SECONDS else 3
        assert (
            new_message(TOPIC, {"data": "x", "expiration": value}, expiration_unit=unit).expiration
            == expected
        )

    def test_numbers_may_come_as_text(self) -> None:
        made = new_message(TOPIC, {"data": "x", "priority": "9", "has_gd": "true"}, expiration_unit=SECONDS)
        assert (made.priority, made.has_gd) == (9, True)

    def test_what_is_no_text_is_json_and_comes_back_as_it_was(self) -> None:
        data = {"a": [1, None, "x"]}
        made = new_message(TOPIC, {"data": data}, expiration_unit=SECONDS)
        assert made.data_type == "json"
        assert queued(data=made.data, data_type=made.data_type).payload() == data

    @pytest.mark.parametrize("data", ["", 0, False, [], {}])
    def test_data_may_be_empty(self, data: Any) -> None:
        made = new_message(TOPIC, {"data": data}, expiration_unit=SECONDS)
        assert queued(data=made.data, data_type=made.data_type).payload() == data

    @pytest.mark.parametrize(
        "fields",
        [
            {"priority": 0},
            {"priority": 10},
            {"priority": "high"},
            {"priority": 5.5},
            {"priority": True},
            {"priority": "1" * 5000},
            {"expiration": -1},
            {"expiration": "inf"},
            {"expiration": "nan"},
            {"expiration": 2**40},
            {"delay": -1},
            {"has_gd": "maybe"},
            {"has_gd": [1]},
            {"msg_id": "x" * 201},
            {"msg_id": "two\nlines"},
            {"correl_id": {"a": 1}},
            {"ext_pub_time": "yesterday"},
            {"ext_pub_time": 1e300},
            {"ext_pub_time": [1]},
            {"position_in_group": -1},
            {"deliver_to_sk": "x" * 201},
            {"deliver_to_sk": 5},
            {"reply_to_sk": ["ok", 5]},
            {"reply_to_sk": ["x"] * 1001},
            {"data": None},
            {"data": b"\xff"},
            {"data": "nul\0"},
            {"data": "\ud800"},
        ],
    )
    def test_what_is_wrong_is_named(self, fields: dict[str, Any]) -> None:
        assert problems(fields) == set(fields)

    def test_everything_that_is_wrong_is_named_at_once(self) -> None:
        assert problems({"priority": 11, "expiration": -5, "data": None}) == {
            "priority",
            "expiration",
            "data",
        }

    def test_data_has_a_largest_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(messages, "MAX_SIZE", 4)
        assert encode_data("four")[2] == 4
        with pytest.raises(InvalidInput, match="has 5 bytes, more than the 4"):
            encode_data("fives")

    @pytest.mark.parametrize(
        "given_time",
        [1_535_972_338.5, "1535972338.5", "2018-09-03T10:58:58.5", datetime(2018, 9, 3, 10, 58, 58, 500_000)],
    )
    def test_a_time_is_seconds_or_iso_8601(self, given_time: Any) -> None:
        made = new_message(TOPIC, {"data": "x", "ext_pub_time": given_time}, expiration_unit=SECONDS)
        assert made.ext_pub_time == 1_535_972_338.5

    def test_keys_may_be_a_list_or_have_commas(self) -> None:
        made = new_message(
            TOPIC, {"data": "x", "deliver_to_sk": "a, b", "reply_to_sk": ["c"]}, expiration_unit=SECONDS
        )
        assert (made.deliver_to_sk, made.reply_to_sk) == (["a", "b"], ["c"])

    @given(
        st.dictionaries(
            st.sampled_from(sorted(messages.NewMessage.__struct_fields__)),
            st.from_type(object) | st.text() | st.floats(),
        )
    )
    def test_whatever_is_given_is_a_message_or_invalid_input(self, fields: dict[str, Any]) -> None:
        try:
            made = new_message(TOPIC, fields, expiration_unit=MILLISECONDS)
        except InvalidInput:
            return
        assert 1 <= made.priority <= 9
        assert 0 <= made.expiration <= NEVER


class TestDelivered:
    def test_a_message_has_the_fields_of_the_contract(self) -> None:
        assert queued().external(TOPIC, "zpsk.websockets.1") == {
            "msg_id": "zpsm1",
            "topic_name": TOPIC,
            "sub_key": "zpsk.websockets.1",
            "data": "hello",
            "size": 5,
            "mime_type": "text/plain",
            "priority": 5,
            "expiration": 2_147_483_647_000,
            "has_gd": True,
            "delivery_count": 0,
            "pub_time_iso": "2018-09-03T10:58:58.285470",
            "expiration_time_iso": "2086-09-21T14:13:05.285470",
        }

    def test_what_a_publisher_added_is_there_if_it_was_given(self) -> None:
        shown = queued(
            correl_id="c",
            in_reply_to="r",
            group_id="g",
            position_in_group=2,
            ext_pub_time=1.5,
            reply_to_sk=["k"],
        ).external(TOPIC, "k")
        assert {key: shown[key] for key in ("correl_id", "in_reply_to", "group_id", "position_in_group")} == {
            "correl_id": "c",
            "in_reply_to": "r",
            "group_id": "g",
            "position_in_group": 2,
        }
        assert (shown["ext_pub_time"], shown["ext_pub_time_iso"]) == (1.5, "1970-01-01T00:00:01.500000")
        assert shown["ctx"] == {"reply_to_sk": ["k"]}

    def test_a_message_that_expires_says_when(self) -> None:
        shown = queued(expiration=5000, expires_at=1_535_972_343.28547).external(TOPIC, "k")
        assert (shown["expiration"], shown["expiration_time_iso"]) == (5000, "2018-09-03T10:59:03.285470")

    def test_a_hook_may_replace_the_whole(self) -> None:
        assert queued(serialized={"own": 1}).external(TOPIC, "k") == {"own": 1}

    def test_a_hook_sees_the_message_and_where_it_goes(self) -> None:
        view = queued(attempts=2).hook_view(TOPIC, "k")
        assert (view.data, view.topic_name, view.sub_key, view.delivery_count, view.pub_msg_id) == (
            "hello",
            TOPIC,
            "k",
            2,
            "zpsm1",
        )

    def test_times_are_utc(self) -> None:
        assert iso(datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC).timestamp()) == "2026-01-02T03:04:05.000006"
