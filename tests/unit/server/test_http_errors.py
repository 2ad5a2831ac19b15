"""The table of errors and HTTP answers."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import orjson
import pytest

from junctor.server import http_errors
from junctor.sql import errors
from junctor.sql.errors import Problem

TABLE = [
    (errors.InvalidInput.one("a", "is wrong."), 400, "a: is wrong."),
    (errors.UnknownKind("x", ["a"]), 400, "kind: There is no object type 'x'; there are: a."),
    (errors.NotFound("REST channel", "x"), 404, "There is no REST channel 'x'."),
    (errors.ServiceNotFound("x"), 404, "There is no active service 'x'."),
    (errors.ServiceInactive("x"), 404, "There is no active service 'x'."),
    (errors.AlreadyExists("Topic", "x"), 409, "Topic 'x' exists already."),
    (errors.InUse("Topic", "x", ["y"]), 409, "Topic 'x' is in use by y."),
    (errors.DeploymentRefused("a.py", "why", line=3), 400, "a.py, line 3: why"),
    (errors.CallTimeout("Late."), 504, "Late."),
    (errors.CallRefused("No."), 400, "No."),
    (errors.StoreUnavailable(), 503, "The object database cannot be reached."),
    (errors.BadRequest("cid", "Bad."), 400, "Bad."),
    (errors.Unauthorized(), 401, "You are not authorized to access this resource."),
    (errors.Forbidden("cid", "Not you."), 403, "Not you."),
    (errors.ResourceNotFound("cid", "Not here."), 404, "Not here."),
    (errors.MethodNotAllowed(), 405, "Method not allowed."),
    (errors.NotAcceptable(), 406, "The channel does not produce what the client accepts."),
    (errors.Conflict("cid", "Twice."), 409, "Twice."),
    (errors.PayloadTooLarge(), 413, "The request body is larger than the channel allows."),
    (errors.TooManyRequests(), 429, "Too many requests."),
    (errors.InternalServerError("cid", "Told."), 500, "Told."),
    (errors.ServiceUnavailable("cid", "Later."), 503, "Later."),
]
SILENT = [
    KeyError("canary"),
    ValueError("canary"),
    gevent.Timeout(1),
    errors.JunctorError("canary"),
    errors.SecretUnreadable("canary"),
    errors.InvalidOutput("canary", [Problem("a", "canary")]),
    errors.ConnectionFailed("canary"),
    errors.ConnectionTimeout("canary"),
    errors.CallFailed("canary"),
    errors.Inactive("canary"),
]


@pytest.mark.parametrize(("error", "status", "details"), TABLE, ids=lambda item: type(item).__name__)
def test_what_is_meant_for_callers_is_told(error: errors.JunctorError, status: int, details: str) -> None:
    answer = http_errors.answer(error)
    assert (answer.status, answer.details, answer.error) == (status, details, type(error).__name__)


@pytest.mark.parametrize("error", SILENT, ids=lambda item: type(item).__name__)
def test_everything_else_is_an_error_that_has_occurred(error: BaseException) -> None:
    answer = http_errors.answer(error)
    assert (answer.status, answer.details, answer.error) == (500, "An error has occurred", "")
    for data_format in ("json", "form", ""):
        for shape in ("3.2", "3.0"):
            body, _ = answer.body("cid", data_format=data_format, shape=shape)
            assert b"canary" not in body
    assert http_errors.is_fault(error)


def every_error(cls: type[BaseException]) -> Iterator[type[BaseException]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from every_error(sub)


def test_every_status_has_a_reason_phrase() -> None:
    refused = {cls.status for cls in every_error(errors.RequestRefused)}  # type: ignore[attr-defined]
    assert set(http_errors.STATUS.values()) <= set(http_errors.REASONS) | refused


@pytest.mark.parametrize(
    "error",
    [error for error, status, _ in TABLE if status < 500]
    + [errors.StoreUnavailable(), errors.ServiceUnavailable(msg="Full."), errors.CallTimeout("Late.")],
    ids=lambda item: type(item).__name__,
)
def test_what_callers_do_wrong_is_no_fault_of_the_server(error: BaseException) -> None:
    assert not http_errors.is_fault(error)


def test_headers_go_with_the_errors_that_need_them() -> None:
    headers = [
        http_errors.answer(error).headers
        for error in (
            errors.Unauthorized(challenge='Basic realm="x"'),
            errors.MethodNotAllowed(allowed=["GET", "POST"]),
            errors.MethodNotAllowed(),
            errors.StoreUnavailable(),
            errors.BadRequest(),
            errors.NotFound("a", "b"),
        )
    ]
    assert headers == [
        {"WWW-Authenticate": 'Basic realm="x"'},
        {"Allow": "GET, POST"},
        {},
        {"Retry-After": "1"},
        {},
        {},
    ]


def test_the_32_form() -> None:
    answer = http_errors.answer(errors.InvalidInput([Problem("a", "is wrong."), Problem("", "is odd.")]))
    body, content_type = answer.body("the-cid")
    assert content_type == "application/json"
    assert orjson.loads(body) == {
        "result": "Error",
        "cid": "the-cid",
        "details": "a: is wrong.; is odd.",
        "problems": [{"field": "a", "message": "is wrong."}, {"field": "", "message": "is odd."}],
        "error": "InvalidInput",
    }


def test_the_30_form() -> None:
    body, content_type = http_errors.answer(KeyError("x")).body("the-cid", shape="3.0")
    assert content_type == "application/json"
    assert orjson.loads(body) == {
        "zato_env": {"result": "ZATO_ERROR", "cid": "the-cid", "details": "An error has occurred"}
    }


def test_other_formats_get_the_sentences_alone() -> None:
    body, content_type = http_errors.answer(errors.Forbidden("cid", "Nö.")).body("cid", data_format="form")
    assert (body, content_type) == ("Nö.".encode(), "text/plain; charset=utf-8")
