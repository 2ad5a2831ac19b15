"""Attributes of users and of sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from junctor.server.sso.attributes import EntityAttributes
from junctor.server.sso.errors import ValidationError
from junctor.sql.errors import SecretUnreadable
from junctor.sql.tables.sso import SsoAttribute
from tests.helpers.sso import SsoUnderTest

Attr = EntityAttributes


def refusal(call: Callable[[], Any]) -> list[str]:
    """The codes that a call is refused with."""
    with pytest.raises(ValidationError) as caught:
        call()
    return caught.value.shown


@pytest.fixture
def alice(sso: SsoUnderTest) -> Attr:
    """A user's attributes, for that user."""
    sso.user("alice")
    return sso.sso.attributes.of_user(sso.caller(sso.log_in("alice")))


@pytest.fixture(params=["user", "session"])
def attr(request: pytest.FixtureRequest, sso: SsoUnderTest) -> Attr:
    """A user's attributes, or a session's; they are used alike."""
    sso.user("alice")
    caller = sso.caller(sso.log_in("alice"))
    parts = sso.sso.attributes
    return parts.of_user(caller) if request.param == "user" else parts.of_session(caller)


def age(sso: SsoUnderTest, name: str) -> None:
    """Has an attribute expire now."""
    with sso.store.engine.begin() as connection:
        statement = text(
            "UPDATE sso_attribute SET expiration_time = now() - interval '1s' WHERE name = :name"
        )
        connection.execute(statement, {"name": name})


def stored(sso: SsoUnderTest, name: str) -> Any:
    """An attribute in the database."""
    with sso.store.engine.connect() as connection:
        wanted = select(SsoAttribute.__table__).where(SsoAttribute.name == name)
        return connection.execute(wanted.order_by(SsoAttribute.id.desc())).first()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=10,
)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=JSON, encrypt=st.booleans())
def test_what_is_set_is_what_is_got(alice: Attr, value: Any, encrypt: bool) -> None:
    alice.set("name", value, encrypt=encrypt)

    found = alice.get("name")

    assert found is not None
    assert found.value == value


def test_an_attribute_is_created_once(attr: Attr) -> None:
    attr.create("colour", "blue")

    assert refusal(lambda: attr.create("colour", "red")) == ["E009001"]
    assert attr.exists("colour")
    assert attr.get("colour").value == "blue"  # type: ignore[union-attr]  # it exists, as the line above says


def test_an_attribute_that_is_not_there_cannot_be_updated(attr: Attr) -> None:
    assert refusal(lambda: attr.update("colour", "red")) == ["E009002"]
    assert refusal(lambda: attr.set_expiry("colour", 5)) == ["E009002"]
    assert attr.get("colour") is None
    attr.delete("colour")


def test_an_expired_attribute_is_not_there(attr: Attr, sso: SsoUnderTest) -> None:
    attr.create("colour", "blue", expiration=60)
    age(sso, "colour")

    assert attr.get("colour") is None
    assert not attr.exists("colour")
    assert attr.names() == []
    assert attr.to_dict() == {}
    assert refusal(lambda: attr.update("colour", "red")) == ["E009002"]
    attr.create("colour", "green")
    assert attr.names() == ["colour"]


def test_an_update_keeps_the_expiry_and_a_set_does_not(attr: Attr) -> None:
    attr.create("colour", "blue", expiration=60)
    attr.update("colour", "red")
    assert attr.get_many(["colour"])["colour"]["expiration_time"] is not None

    attr.set("colour", "red")

    assert attr.get_many(["colour"])["colour"]["expiration_time"] is None


def test_an_expiry_can_be_set_and_taken_away(attr: Attr) -> None:
    attr.create_many([{"name": "a", "value": 1}, {"name": "b", "value": 2, "expiration": 60}])

    attr.set_expiry("a", 60)
    attr.set_expiry_many([{"name": "b", "expiration": None}])

    found = attr.get_many(["a", "b"])
    assert [found[name]["expiration_time"] is None for name in "ab"] == [False, True]


def test_many_are_written_together_or_not_at_all(attr: Attr) -> None:
    attr.create("b", 0)

    assert refusal(lambda: attr.create_many([{"name": "a", "value": 1}, {"name": "b", "value": 2}])) == [
        "E009001"
    ]
    assert refusal(lambda: attr.update_many([{"name": "b", "value": 1}, {"name": "c", "value": 2}])) == [
        "E009002"
    ]

    assert attr.names() == ["b"]
    assert attr.exists_many(["a", "b"]) == {"a": False, "b": True}
    attr.set_many([{"name": "a", "value": 1}, {"name": "b", "value": 2}], expiration=60)
    attr.update_many([{"name": "a", "value": 3}])
    assert {name: made.value for name, made in attr.to_dict().items()} == {"a": 3, "b": 2}
    attr.delete_many(["a", "b", "c"])
    assert attr.to_dict() == {}


def test_an_encrypted_value_is_not_in_the_database(attr: Attr, sso: SsoUnderTest) -> None:
    attr.create("iban", {"number": "DE89 3704"}, encrypt=True)

    assert "3704" not in stored(sso, "iban").value
    assert attr.get("iban").value == {"number": "DE89 3704"}  # type: ignore[union-attr]  # it exists
    assert attr.get("iban", decrypt=False).value == stored(sso, "iban").value  # type: ignore[union-attr]  # it exists


def test_what_was_encrypted_once_stays_so(attr: Attr, sso: SsoUnderTest) -> None:
    attr.create("iban", "1", encrypt=True)

    attr.set("iban", "2")
    attr.update("iban", "3")

    assert stored(sso, "iban").is_encrypted
    assert attr.get("iban").value == "3"  # type: ignore[union-attr]  # it exists


def test_an_encrypted_value_cannot_be_moved_to_another_user_or_name(sso: SsoUnderTest, alice: Attr) -> None:
    alice.create("bound", "1", encrypt=True)
    alice.create("moving", "2", encrypt=True)
    bob = sso.user("bob")
    bobs = sso.sso.attributes.of_user(sso.caller(sso.log_in("bob")))
    with sso.store.engine.begin() as connection:
        connection.execute(text("UPDATE sso_attribute SET name = 'moved' WHERE name = 'moving'"))
        statement = text("UPDATE sso_attribute SET user_id = :bob WHERE name = 'bound'")
        connection.execute(statement, {"bob": bob.id})

    for attributes, name in ((bobs, "bound"), (alice, "moved")):
        with pytest.raises(SecretUnreadable):
            attributes.get(name)


def test_attributes_of_a_user_and_of_a_session_may_have_the_same_name(sso: SsoUnderTest, alice: Attr) -> None:
    session = sso.sso.attributes.of_session(alice._caller)
    alice.create("colour", "blue")
    session.create("colour", "red")

    assert alice.get("colour").value == "blue"  # type: ignore[union-attr]  # it exists
    assert session.get("colour").value == "red"  # type: ignore[union-attr]  # it exists


def test_attributes_end_with_their_session(sso: SsoUnderTest, alice: Attr) -> None:
    sso.sso.attributes.of_session(alice._caller).create("cart", [1])
    sso.sso.sessions.log_out(alice._caller)

    assert refusal(lambda: alice.get("cart")) == ["E007001"]
    assert stored(sso, "cart") is None


def test_nobody_but_a_super_user_reaches_the_attributes_of_others(sso: SsoUnderTest, alice: Attr) -> None:
    alice.create("colour", "blue")
    user_id = sso.session(alice._caller.current_ust).user.user_id
    sso.user("bob")
    bob = sso.caller(sso.log_in("bob"))
    parts = sso.sso.attributes

    assert refusal(lambda: parts.of_user(bob, user_id).get("colour")) == ["E005005"]
    assert refusal(lambda: parts.of_user(bob).get("colour", user_id=user_id)) == ["E005005"]
    assert refusal(lambda: parts.of_user(bob).set_many([{"name": "x", "value": 1, "user_id": user_id}])) == [
        "E005005"
    ]
    assert refusal(lambda: parts.of_session(bob, alice._caller.current_ust).names()) == ["E005005"]
    root = sso.super_user_caller()
    assert parts.of_user(root, user_id).names() == ["colour"]
    parts.of_session(root, alice._caller.current_ust).set("x", 1)
    assert parts.of_user(sso.trusted(), user_id).get("colour").value == "blue"  # type: ignore[union-attr]  # it exists


@pytest.mark.parametrize(
    ("item", "code"),
    [
        ({"name": "x" * 201, "value": 1}, "E008002"),
        ({"name": "a\x00", "value": 1}, "E008002"),
        ({"name": 5, "value": 1}, "E008002"),
        ({"name": "", "value": 1}, "E008003"),
        ({"name": "a"}, "E008003"),
        ({"name": "a", "value": "x" * 70_000}, "E008002"),
        ({"name": "a", "value": object()}, "E008002"),
        ({"name": "a", "value": "\ud800"}, "E008002"),
        ({"name": "a", "value": 1, "expiration": 0}, "E008002"),
        ({"name": "a", "value": 1, "expiration": True}, "E008002"),
        ({"name": "a", "value": 1, "expiration": 1e300}, "E008002"),
        ({"name": "a", "value": 1, "encrypt": "yes"}, "E008002"),
        ({"name": "a", "value": 1, "user_id": 7}, "E008002"),
        ({"name": "a", "value": 1, "colour": "blue"}, "E008002"),
        ("a", "E008002"),
    ],
)
def test_what_cannot_be_an_attribute_is_refused(alice: Attr, item: Any, code: str) -> None:
    assert refusal(lambda: alice.set_many([item])) == [code]


@pytest.mark.parametrize("data", ["abc", 5, {"name": "a", "value": 1}, [{"name": "a", "value": 1}] * 1001])
def test_many_are_a_list_that_is_not_too_long(alice: Attr, data: Any) -> None:
    assert refusal(lambda: alice.set_many(data)) == ["E008002"]


def test_nobody_has_more_than_a_thousand_attributes(alice: Attr) -> None:
    alice.create_many([{"name": f"n{number}", "value": 1} for number in range(1000)])

    assert refusal(lambda: alice.set("one more", 1)) == ["E008002"]
    alice.set("n1", 2)


def test_names_are_audited_and_values_are_not(sso: SsoUnderTest, alice: Attr) -> None:
    alice.create("colour", "ultramarine")
    alice.get("colour")
    refusal(lambda: alice.create("colour", "ultramarine"))

    events = sso.events("attr.create") + sso.events("attr.get")
    assert [(event["outcome"], event["extra"]) for event in events] == [
        ("ok", {"of": "user", "names": ["colour"]}),
        ("refused", {"of": "user", "names": ["colour"]}),
        ("ok", {"of": "user", "names": ["colour"]}),
    ]
    assert "ultramarine" not in str(sso.events())
