"""The one place where errors become HTTP answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from junctor.sql import errors

# The first class that an error is an instance of decides.
STATUS: Mapping[type[BaseException], int] = {
    errors.CallTimeout: 504,
    errors.CallRefused: 400,
    errors.ServiceNotFound: 404,
    errors.UnknownKind: 400,
    errors.InvalidInput: 400,
    errors.NotFound: 404,
    errors.AlreadyExists: 409,
    errors.InUse: 409,
    errors.EditConflict: 409,
    errors.DeploymentRefused: 400,
    errors.StoreUnavailable: 503,
    errors.SchemaOutdated: 503,
}
REASONS = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    409: "Conflict",
    413: "Payload Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
DEFAULT_DETAILS = "An error has occurred"


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """What a client is told: a status, sentences, and headers."""

    status: int
    details: str
    error: str
    problems: tuple[errors.Problem, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, cid: str, *, data_format: str = "json", shape: str = "3.2") -> tuple[bytes, str]:
        """The body and its content type.

        JSON in Zato's 3.2 form, ``{"result", "cid", "details"}``, or its 3.0 form, inside ``zato_env``; with ``problems`` when
        there are some.  Channels of other formats get the bare sentences.
        """
        if data_format != "json":
            return self.details.encode(), "text/plain; charset=utf-8"
        fields: dict[str, Any] = {
            "result": "ZATO_ERROR" if shape == "3.0" else "Error",
            "cid": cid,
            "details": self.details,
        }
        if self.problems:
            fields["problems"] = [{"field": item.field, "message": item.message} for item in self.problems]
        if self.error:
            fields["error"] = self.error
        return orjson.dumps({"zato_env": fields} if shape == "3.0" else fields), "application/json"


def answer(error: BaseException) -> ErrorAnswer:
    """The answer to an error.  Only what is known to be meant for callers is told; everything else is 'An error has occurred'."""
    if isinstance(error, errors.RequestRefused):
        return ErrorAnswer(error.status, error.message, type(error).__name__, headers=_headers(error))
    for cls, status in STATUS.items():
        if isinstance(error, cls):
            problems = error.problems if isinstance(error, errors.InvalidInput) else ()
            headers = {"Retry-After": "1"} if status == 503 else {}
            return ErrorAnswer(status, str(error), type(error).__name__, problems, headers)
    if isinstance(error, errors.RemoteCallFailed):  # what it says is for us, not for our callers
        return ErrorAnswer(502, DEFAULT_DETAILS, "")
    status = getattr(error, "status", 500) if isinstance(error, errors.JunctorError) else 500
    return ErrorAnswer(status, DEFAULT_DETAILS, "")


def is_fault(error: BaseException) -> bool:
    """Whether an error is somebody's fault on this side, and belongs in the log with its traceback.

    That something is not available at the moment is none: whoever is asked says why, and whoever finds it out logs it once.
    """
    expected = errors.CallTimeout | errors.StoreUnavailable | errors.ServiceUnavailable
    return answer(error).status >= 500 and not isinstance(error, expected)


def _headers(error: errors.RequestRefused) -> dict[str, str]:
    if isinstance(error, errors.Unauthorized | errors.CredentialsRefused):
        return {"WWW-Authenticate": error.challenge}
    if isinstance(error, errors.MethodNotAllowed) and error.allowed:
        return {"Allow": ", ".join(error.allowed)}
    return {}
