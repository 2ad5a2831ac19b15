"""Addresses of object databases, and what database errors become."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from junctor.sql.engine import connect, database_errors, driver_url
from junctor.sql.errors import InvalidInput, SchemaOutdated, StoreUnavailable


class DriverError(Exception):
    def __init__(self, message: str, pgcode: str | None = None) -> None:
        super().__init__(message)
        self.pgcode = pgcode


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_all_usual_schemes_mean_the_one_driver(scheme: str) -> None:
    assert driver_url(f"{scheme}://u:p@h:5432/d") == "postgresql+psycopg2://u:p@h:5432/d"


@pytest.mark.parametrize(
    "url",
    ["", "mysql://u:hunter2@h/d", "postgresql:", "postgresql://", "postgresql://u:hunter2@h:port/d", "x\n"],
)
def test_an_address_of_something_else_is_refused_without_repeating_its_password(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        connect(url)
    assert caught.value.problems[0].field == "odb_url"
    assert "hunter2" not in str(caught.value)


def test_an_engine_does_not_show_its_password() -> None:
    assert "hunter2" not in repr(connect("postgresql://u:hunter2@127.0.0.1:1/d"))


@pytest.mark.parametrize(
    ("error", "becomes", "message"),
    [
        (PoolTimeout("QueuePool limit"), StoreUnavailable, "no connection became free"),
        (
            OperationalError("s", {}, DriverError("refused\nmore")),
            StoreUnavailable,
            "cannot be used: refused$",
        ),
        (OperationalError("s", {}, DriverError("")), StoreUnavailable, "cannot be used: DriverError$"),
        (InterfaceError("s", {}, DriverError("closed")), StoreUnavailable, "cannot be used: closed"),
        (
            DBAPIError("s", {}, DriverError("gone"), connection_invalidated=True),
            StoreUnavailable,
            "went away: gone",
        ),
        (
            InternalError("s", {}, DriverError("standby", "25006")),
            StoreUnavailable,
            "cannot be used: standby",
        ),
        (ProgrammingError("s", {}, DriverError("no table", "42P01")), SchemaOutdated, "junctor odb upgrade"),
        (ProgrammingError("s", {}, DriverError("no column", "42703")), SchemaOutdated, "junctor odb upgrade"),
    ],
)
def test_what_went_wrong_in_the_database_becomes_one_plain_sentence(
    error: Exception, becomes: type[Exception], message: str
) -> None:
    with pytest.raises(becomes, match=message), database_errors():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        ProgrammingError("s", {}, DriverError("syntax", "42601")),
        DataError("s", {}, DriverError("too long", "22001")),
        ValueError("not ours"),
    ],
)
def test_errors_of_our_own_making_are_not_hidden(error: Exception) -> None:
    with pytest.raises(type(error)), database_errors():
        raise error
