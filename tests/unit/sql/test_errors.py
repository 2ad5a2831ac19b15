"""The tree of errors."""

from __future__ import annotations

import inspect
import re

import pytest

from junctor.sql import errors
from junctor.sql.errors import (
    AlreadyExists,
    BadRequest,
    ConnectionNotFound,
    DeploymentRefused,
    EditConflict,
    Inactive,
    InUse,
    InvalidInput,
    InvalidOutput,
    JunctorError,
    MethodNotAllowed,
    NotFound,
    Problem,
    RequestRefused,
    ServiceInactive,
    ServiceNotFound,
    StoreUnavailable,
    Unauthorized,
)

ALL = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, JunctorError)]


def test_every_error_is_drawn_in_the_tree() -> None:
    drawn = set(re.findall(r"[A-Z]\w+", errors.__doc__ or ""))
    assert {cls.__name__ for cls in ALL} <= drawn


@pytest.mark.parametrize("cls", ALL)
def test_the_docstring_of_an_error_is_a_sentence(cls: type[JunctorError]) -> None:
    assert re.search(r"[.;].*$", (cls.__doc__ or "").partition("\n")[0])


def test_an_error_without_a_message_has_that_of_its_class() -> None:
    assert str(StoreUnavailable()) == "The object database cannot be reached."
    assert str(StoreUnavailable("It is away.")) == "It is away."
    assert str(NotFound()) == "There is no such object."


def test_an_error_with_two_arguments_has_a_cid_and_a_message() -> None:
    error = JunctorError("K05A", "Out of stock")
    assert (error.cid, error.message, str(error)) == ("K05A", "Out of stock", "Out of stock")


def test_an_invalid_input_tells_every_problem_with_its_field() -> None:
    error = InvalidInput([Problem("port", "is required."), Problem("", "must be an object.")])
    assert str(error) == "port: is required.; must be an object."
    assert [problem.field for problem in error.problems] == ["port", ""]
    assert InvalidInput.one("port", "is required.").problems == (Problem("port", "is required."),)
    assert str(InvalidOutput("orders.get", [Problem("id", "is required.")])) == "orders.get: id: is required."


def test_errors_about_objects_name_them() -> None:
    assert str(NotFound("REST channel", "x")) == "There is no REST channel 'x'."
    assert str(AlreadyExists("REST channel", "x")) == "REST channel 'x' exists already."
    conflict = EditConflict("Server", "s1", given=1, current=3)
    assert "you edited version 1, it is at 3 now" in str(conflict)
    assert (conflict.given, conflict.current) == (1, 3)
    assert isinstance(ServiceInactive("a"), ServiceNotFound)
    assert isinstance(ServiceInactive("a"), Inactive)


def test_a_connection_that_is_not_there_suggests_those_with_close_names() -> None:
    error = ConnectionNotFound("Outgoing REST connection", "crn", ["crm", "crab"])
    assert str(error) == "There is no Outgoing REST connection 'crn'. Did you mean 'crm' or 'crab'?"
    assert error.similar == ("crm", "crab")
    assert isinstance(error, KeyError)
    assert (
        str(ConnectionNotFound("Outgoing REST connection", "x"))
        == "There is no Outgoing REST connection 'x'."
    )


def test_an_object_in_use_names_its_first_users_and_counts_the_rest() -> None:
    few, many = InUse("Service", "s", ["a", "b"]), InUse("Service", "s", [f"u{n}" for n in range(13)])
    assert str(few) == "Service 's' is in use by a, b."
    assert str(many).endswith("u9 and 3 more.")
    assert len(many.users) == 13


def test_a_refused_file_names_the_line() -> None:
    assert str(DeploymentRefused("a.py", "invalid syntax", line=3)) == "a.py, line 3: invalid syntax"
    assert str(DeploymentRefused("a.py", "is empty")) == "a.py: is empty"


def test_errors_that_services_raise_take_a_cid_and_a_message_and_have_a_status() -> None:
    error = BadRequest("K05A", "No such customer", "more", even="more")
    assert (error.cid, error.msg, error.status, str(error)) == (
        "K05A",
        "No such customer",
        400,
        "No such customer",
    )
    assert Unauthorized("K05A", challenge='Basic realm="x"').challenge == 'Basic realm="x"'
    assert MethodNotAllowed(allowed=["GET"]).allowed == ("GET",)
    statuses = {cls.__name__: cls.status for cls in ALL if issubclass(cls, RequestRefused)}
    assert all(400 <= status <= 599 for status in statuses.values()), statuses
