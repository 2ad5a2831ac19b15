"""server/service/payload.py"""

from collections import namedtuple
from dataclasses import dataclass

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, insert, select

from junctor.server.service.bunch import Bunch
from junctor.server.service.payload import OutputPayload, content

NAMES = frozenset(("id", "name", "count"))
Tuple = namedtuple("Tuple", "id name")


@dataclass
class Customer:
    id: int
    name: str
    secret: str = "x"


class Plain:
    id = 1

    def __init__(self):
        self.name = "n"


def rows():
    """Two real rows of SQLAlchemy, with a column which is named like a method of tuples."""
    table = Table("t", MetaData(), Column("id", Integer), Column("name", String), Column("count", Integer))
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(
            insert(table), [{"id": 1, "name": "n", "count": 3}, {"id": 2, "name": "m", "count": 4}]
        )
        found = connection.execute(select(table).order_by(table.c.id)).all()
    engine.dispose()
    return found


@pytest.mark.parametrize(
    "value", [{"id": 1, "name": "n", "x": 2}, Bunch(id=1, name="n"), Tuple(1, "n"), Customer(1, "n"), Plain()]
)
def test_objects_of_any_kind_fill_what_was_declared(value):
    assert content(OutputPayload.of(NAMES, value)) == {"id": 1, "name": "n"}
    assert content(OutputPayload.of(NAMES, [value, value])) == [{"id": 1, "name": "n"}] * 2


def test_rows_of_a_database_are_read_when_they_are_assigned():
    first, second = rows()
    assert content(OutputPayload.of(NAMES, first)) == {"id": 1, "name": "n", "count": 3}
    payload = OutputPayload(NAMES)
    payload[:] = [first, second]
    assert content(payload)[1] == {"id": 2, "name": "m", "count": 4}


def test_another_payload_fills_a_payload():
    assert content(OutputPayload.of(NAMES, OutputPayload.of(NAMES, {"id": 1}))) == {"id": 1}


def test_iterables_are_lists_of_objects():
    assert content(OutputPayload.of(NAMES, ({"id": i} for i in range(2)))) == [{"id": 0}, {"id": 1}]


def test_elements_are_attributes_and_keys():
    payload = OutputPayload(NAMES)
    payload.id = 1
    payload["name"] = "n"
    payload.update({"count": 2})
    assert (payload.id, payload["name"], payload.count) == (1, "n", 2)
    assert sorted(payload) == ["count", "id", "name"]
    assert len(payload) == 3
    assert payload


def test_what_was_not_set_is_empty_and_what_was_not_declared_is_an_error():
    payload = OutputPayload(NAMES)
    assert payload.id == payload["id"] == ""
    assert not payload
    with pytest.raises(
        AttributeError, match="'other' is not in the service's declared output: count, id, name"
    ):
        _ = payload.other
    with pytest.raises(KeyError):
        _ = payload["other"]


def test_appending_makes_it_a_list():
    payload = OutputPayload(NAMES)
    payload.append({"id": 1})
    payload.append(Tuple(2, "n"))
    payload.extend([{"id": 3}])
    payload[0] = {"id": 0}
    assert [row["id"] for row in payload] == [0, 2, 3]
    assert payload[1] == {"id": 2, "name": "n"}
    assert len(payload) == 3


def test_an_empty_list_is_a_list():
    payload = OutputPayload(NAMES)
    payload[:] = []
    assert content(payload) == []
