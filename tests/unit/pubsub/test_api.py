"""What requests of publish/subscribe may say, and whether their clients are still there."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from junctor.server.pubsub.api import MAX_LIST, amount, messages_of, truth
from junctor.server.pubsub.connection import has_left
from junctor.server.pubsub.message import MILLISECONDS, SECONDS
from junctor.sql.errors import InvalidInput


class TestAmounts:
    @pytest.mark.parametrize(
        ("value", "expected"), [(5, 5.0), ("5", 5.0), ("0.5", 0.5), (None, 7.0), ("", 7.0), (30, 30.0)]
    )
    def test_they_are_numbers_or_texts_of_such_as_a_query_has_them(self, value: Any, expected: float) -> None:
        assert amount({"wait": value}, "wait", 7, 0, 30) == expected

    @pytest.mark.parametrize("value", [-1, 31, "x", True, [], {}, "nan", "inf", float("nan"), "1" * 5000])
    def test_everything_else_is_refused(self, value: Any) -> None:
        with pytest.raises(InvalidInput, match="wait: must be a number from 0 to 30"):
            amount({"wait": value}, "wait", 7, 0, 30)


class TestTruths:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (True, True),
            ("true", True),
            ("1", True),
            (False, False),
            ("false", False),
            (None, False),
            ("", False),
        ],
    )
    def test_they_are_true_or_false_also_as_a_query_has_them(self, value: Any, expected: bool) -> None:
        assert truth({"reuse": value}, "reuse") is expected

    @pytest.mark.parametrize("value", ["yes", 2, [], {}])
    def test_nothing_else_is(self, value: Any) -> None:
        with pytest.raises(InvalidInput, match="must be true or false"):
            truth({"reuse": value}, "reuse")


class TestLists:
    def test_each_message_has_what_all_have_unless_it_says_otherwise(self) -> None:
        common = {"priority": 7, "correl_id": "c"}
        one, two = messages_of("/t", [{"data": 1}, {"data": "x", "priority": 1}], common, SECONDS)
        assert (one.data, one.priority, one.correl_id) == ("1", 7, "c")
        assert (two.data, two.priority, two.correl_id) == ("x", 1, "c")

    def test_times_are_in_the_unit_of_the_surface(self) -> None:
        items = [{"data": 1, "expiration": 60}]
        assert messages_of("/t", items, {}, SECONDS)[0].expiration == 60_000
        assert messages_of("/t", items, {}, MILLISECONDS)[0].expiration == 60

    @pytest.mark.parametrize("items", [[], "x", {"data": 1}, [{}] * (MAX_LIST + 1), 5])
    def test_it_must_be_a_list_of_a_reasonable_length(self, items: Any) -> None:
        with pytest.raises(InvalidInput, match=f"1 to {MAX_LIST} messages"):
            messages_of("/t", items, {}, SECONDS)

    @pytest.mark.parametrize(
        ("items", "problem"),
        [
            ([{"data": 1}, "x"], r"data_list\[1\]: must be an object"),
            ([{"data": 1}, {"data": 1, "priority": 0}], r"data_list\[1\]\.priority"),
            ([{}], r"data_list\[0\]\.data: is required"),
        ],
    )
    def test_what_is_wrong_says_where_it_is(self, items: Any, problem: str) -> None:
        with pytest.raises(InvalidInput, match=problem):
            messages_of("/t", items, {}, SECONDS)


class TestClients:
    def test_who_has_closed_the_connection_has_left_whatever_was_sent_before(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.send(b"the next request")
            assert not has_left({"junctor.socket": ours})
            theirs.close()
            assert has_left({"junctor.socket": ours})

    def test_a_closed_socket_of_ours_is_nobodys(self) -> None:
        ours, theirs = socket.socketpair()
        ours.close()
        theirs.close()
        assert has_left({"junctor.socket": ours})

    def test_who_did_not_come_over_http_has_not_left(self) -> None:
        assert not has_left({})
