"""Searching users: what matches, in which order, page by page."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text

from junctor.server.sso import search_pages
from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.search import SearchCtx
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from junctor.sql.store import Store
from tests.helpers.sso import SsoUnderTest

_numbers = itertools.count(1)
PEOPLE = (
    {"username": "anna", "first_name": "Anna", "last_name": "Müller", "email": "anna@example.com"},
    {"username": "ben", "first_name": "Ben", "middle_name": "Anna", "last_name": "Stein"},
    {"username": "cleo", "first_name": "Cleo", "last_name": "Annason", "is_locked": True},
    {"username": "dora", "display_name": "Anna Müller", "sign_up_status": "before_confirmation"},
    {"username": "100%", "first_name": "100%_\\'", "last_name": "Ox"},
)


def populated(engine: Engine) -> SsoUnderTest:
    """A cluster of its own with these people."""
    keyring = Keyring(parse_keys(new_key_line()))
    made = SsoUnderTest(Store.create(engine, f"search{next(_numbers)}", keyring))
    made.sso.personal_data.import_users(made.trusted(), PEOPLE)
    return made


@pytest.fixture(scope="module")
def people(module_engine: Engine) -> Iterator[SsoUnderTest]:
    """People whom no test changes."""
    made = populated(module_engine)
    yield made
    made.stop()


@pytest.fixture
def own(module_engine: Engine) -> Iterator[SsoUnderTest]:
    """People of one test."""
    made = populated(module_engine)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def many_people(module_engine: Engine) -> Iterator[SsoUnderTest]:
    """300 users more."""
    made = populated(module_engine)
    statement = text(
        "INSERT INTO sso_user (cluster_id, user_id, username, username_key, password, approval_status, approval_status_mod_by,"
        " sign_up_status, display_name, first_name, search_names) SELECT :cluster_id, 'id' || n, 'u' || n, 'u' || n, '', 'approved',"
        " 'auto', CASE WHEN mod(n, 4) = 0 THEN 'before_confirmation' ELSE 'final' END, name, name, name || E'\\n' || name || E'\\n\\n'"
        " FROM (SELECT n, chr(97 + mod(n * 7, 26)) || CASE WHEN mod(n, 3) = 0 THEN 'zoe' ELSE 'kim' END || n AS name"
        " FROM generate_series(1, 300) AS n) AS people"
    )
    with made.store.engine.begin() as connection:
        connection.execute(statement, {"cluster_id": made.store.cluster_id})
        connection.execute(text("ANALYZE sso_user"))
    yield made
    made.stop()


@pytest.fixture
def crowd(many_people: SsoUnderTest, monkeypatch: pytest.MonkeyPatch) -> SsoUnderTest:
    """So many match that a sample is taken."""
    for name, value in (("EXACT_LIMIT", 10), ("COUNT_UP_TO", 20), ("SAMPLE", 20)):
        monkeypatch.setattr(search_pages, name, value)
    return many_people


def search(people: SsoUnderTest, **wanted: Any) -> dict[str, Any]:
    return people.sso.search.search(people.trusted(), SearchCtx(**wanted))


def found(people: SsoUnderTest, **wanted: Any) -> list[str]:
    return [user["username"] for user in search(people, **wanted)["result"]]


def test_without_criteria_all_users_come_in_their_order(people: SsoUnderTest) -> None:
    answer = search(people)
    assert [user["username"] for user in answer["result"]] == ["100%", "anna", "dora", "ben", "cleo"]
    del answer["result"]
    assert answer == {
        "total": 5,
        "total_is_exact": True,
        "num_pages": 1,
        "page_size": 50,
        "cur_page": 1,
        "has_next_page": False,
        "has_prev_page": False,
        "next_page": None,
        "prev_page": None,
        "next_cursor": None,
    }


@pytest.mark.parametrize(
    ("wanted", "usernames"),
    [
        ({"username": "ANNA", "first_name": "Ben"}, ["anna"]),
        ({"username": "nobody"}, []),
        ({"email": "Anna@EXAMPLE.com"}, ["anna"]),
        ({"email": "ann@example.com"}, []),
        ({"first_name": "anna"}, ["anna"]),
        ({"first_name": "ann"}, []),
        ({"last_name": "MÜLLER"}, ["anna"]),
        ({"last_name": " mu\u0308ller "}, ["anna"]),
        ({"first_name": "Anna", "last_name": "Stein"}, []),
        ({"first_name": "Anna", "last_name": "Stein", "name_op": "or"}, ["anna", "ben"]),
        ({"display_name": "anna", "is_name_exact": False}, ["anna", "dora", "ben", "cleo"]),
        ({"last_name": "nn", "is_name_exact": False}, ["cleo"]),
        ({"last_name": "tei", "is_name_exact": False}, ["ben"]),
        ({"last_name": "nnas", "is_name_exact": False}, ["cleo"]),
        ({"last_name": "nasnas", "is_name_exact": False}, []),
        ({"first_name": "0%", "is_name_exact": False}, ["100%"]),
        ({"first_name": "%_\\'", "is_name_exact": False}, ["100%"]),
        ({"first_name": "%%", "is_name_exact": False}, []),
        ({"sign_up_status": "before_confirmation"}, ["dora"]),
        ({"sign_up_status": "final", "approval_status": "approved"}, ["100%", "anna", "ben", "cleo"]),
        ({"approval_status": "rejected"}, []),
        (
            {"display_name": "anna", "is_name_exact": False, "sign_up_status": "final"},
            ["anna", "ben", "cleo"],
        ),
        ({"first_name": ""}, ["100%", "anna", "dora", "ben", "cleo"]),
    ],
)
def test_what_is_looked_for_is_found(
    people: SsoUnderTest, wanted: dict[str, Any], usernames: list[str]
) -> None:
    assert found(people, **wanted) == usernames


def test_names_that_are_changed_are_found_by_the_new_ones(own: SsoUnderTest) -> None:
    (anna,) = search(own, username="anna")["result"]
    assert search(own, user_id=anna["user_id"], username="ben")["result"] == [anna]
    own.sso.users.update(own.trusted(), {"last_name": "Smith"}, anna["user_id"])
    assert found(own, last_name="smith") == ["anna"]
    assert found(own, last_name="müller") == []
    assert found(own, first_name="anna") == ["anna"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"user_id": "a"},
        {"username": "x"},
        {"email": "@"},
        {"first_name": " a "},
        {"last_name": "x" * 201},
        {"display_name": "a\0b"},
        {"first_name": 12},
        {"name_op": "xor", "first_name": "Anna"},
        {"sign_up_status": "maybe"},
        {"approval_status": "maybe"},
        {"is_name_exact": "yes"},
        {"page_size": "50"},
        {"cur_page": 10**12},
        {"cursor": "none"},
        {"cursor": "junctor.1.x.y"},
        {"cursor": "ü"},
    ],
)
def test_what_cannot_be_looked_for_is_refused(people: SsoUnderTest, wanted: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        search(people, **wanted)
    assert caught.value.shown == [status_code.common.invalid_input]


def test_super_users_alone_search_and_what_they_look_for_is_not_audited(own: SsoUnderTest) -> None:
    own.user("eve")
    with pytest.raises(ValidationError):
        own.sso.search.search(own.caller(own.log_in("eve")), SearchCtx())
    answer = own.sso.search.search(own.super_user_caller(), SearchCtx(first_name="Anna"))
    assert answer["total"] == 1
    refused, done = own.events("user.search")
    assert (refused["outcome"], done["outcome"]) == ("refused", "ok")
    assert done["extra"] == {"criteria": ["first_name"]}


def test_pages_have_numbers_and_cursors(people: SsoUnderTest) -> None:
    first = search(people, page_size=2)
    assert (first["total"], first["num_pages"], first["has_prev_page"]) == (5, 3, False)
    second = search(people, page_size=2, cur_page=2)
    assert (second["cur_page"], second["prev_page"], second["next_page"]) == (2, 1, 3)
    followed = search(people, page_size=2, cursor=first["next_cursor"])
    assert followed.pop("next_cursor")
    assert second.pop("next_cursor")
    assert followed == second
    last = search(people, page_size=2, cur_page=3)
    assert [user["username"] for user in last["result"]] == ["cleo"]
    assert (last["has_next_page"], last["next_cursor"]) == (False, None)
    assert search(people, page_size=2, cur_page=9)["result"] == []
    assert search(people, page_size=2, cur_page=-9)["cur_page"] == 1
    assert "anna" not in first["next_cursor"].casefold()
    with pytest.raises(ValidationError):
        search(people, page_size=2, cursor=first["next_cursor"], first_name="Anna")


def test_pages_are_as_large_as_the_settings_say(own: SsoUnderTest) -> None:
    own.settings(search_default_page_size=2, search_max_page_size=3)
    assert search(own)["page_size"] == 2
    assert search(own, page_size=1000)["page_size"] == 3
    assert len(search(own, paginate=False)["result"]) == 5


def walked(crowd: SsoUnderTest, **wanted: Any) -> list[str]:
    """All that a search finds, from cursor to cursor."""
    names: list[str] = []
    answer = search(crowd, page_size=7, **wanted)
    while True:
        names += [user["username"] for user in answer["result"]]
        if not answer["next_cursor"]:
            return names
        answer = search(crowd, page_size=7, cursor=answer["next_cursor"], **wanted)


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({}, 305),
        ({"first_name": "zoe", "is_name_exact": False}, 100),
        ({"first_name": "oe", "is_name_exact": False}, 100),
        ({"first_name": "kim", "display_name": "zo", "name_op": "or", "is_name_exact": False}, 300),
        ({"sign_up_status": "final", "first_name": "kim", "is_name_exact": False}, 150),
        ({"sign_up_status": "before_confirmation"}, 76),
        ({"approval_status": "approved"}, 305),
        ({"first_name": "azoe78"}, 1),
    ],
)
def test_a_walk_through_many_pages_finds_each_user_once_and_in_order(
    crowd: SsoUnderTest, wanted: dict[str, Any], count: int
) -> None:
    names = walked(crowd, **wanted)
    assert len(names) == len(set(names)) == count
    by_number = [
        user["username"]
        for number in range(1, -(-count // 7) + 1)
        for user in search(crowd, page_size=7, cur_page=number, **wanted)["result"]
    ]
    assert by_number == names


def test_a_total_that_is_not_exact_says_so(crowd: SsoUnderTest) -> None:
    many = search(crowd, first_name="kim", is_name_exact=False)
    assert (many["total_is_exact"], many["has_next_page"]) == (False, True)
    assert many["total"] > 10
    few = search(crowd, last_name="Stein")
    assert (few["total"], few["total_is_exact"]) == (1, True)


def test_a_page_very_far_away_is_reached_by_cursor(
    crowd: SsoUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_pages, "MAX_SCATTERED", 50)
    with pytest.raises(ValidationError, match="next_cursor"):
        search(crowd, first_name="kim", is_name_exact=False, cur_page=8, page_size=10)
