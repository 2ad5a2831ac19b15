"""Calls to a cluster's administrative services: what the CLI and the web-admin use."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import orjson
import requests

from junctor.sql.errors import InvalidInput, JunctorError, Problem, Unauthorized

PATH = "/zato/admin/invoke"


class ClusterUnreachable(JunctorError):
    """No server of the cluster can be reached."""


class RemoteError(JunctorError):
    """The server answered with an error; ``status`` is its HTTP status, ``cid`` what to look for in its log, ``error`` its class."""

    def __init__(self, message: str, *, status: int, cid: str, error: str) -> None:
        super().__init__(message)
        self.status, self.cid, self.error = status, cid, error


class RemoteInvalidInput(InvalidInput):
    """The server found problems with the input."""


class AdminClient:
    """Invokes services on one address, as the user ``admin.invoke``; one connection, kept open.

    ``timeout`` is in seconds, for connecting and for each wait for data.
    """

    def __init__(
        self, address: str, password: str, *, username: str = "admin.invoke", timeout: float = 30.0
    ) -> None:
        self.address = address.rstrip("/")
        self._timeout = timeout
        self._session = requests.Session()
        self._session.auth = (username, password)
        self._session.trust_env = False

    def invoke(self, service: str, payload: Any = None, *, timeout: float | None = None) -> Any:
        """What the service answers, parsed from JSON when it is JSON.

        Raises ``ClusterUnreachable``, ``Unauthorized``, ``RemoteInvalidInput`` with each problem, or ``RemoteError``.
        """
        request = {
            "name": service,
            "data_format": "json",
            "payload": b64encode(orjson.dumps(payload or {})).decode(),
        }
        try:
            response = self._session.post(
                self.address + PATH,
                data=orjson.dumps(request),
                headers={"Content-Type": "application/json"},
                timeout=timeout or self._timeout,
            )
        except requests.RequestException as error:
            raise ClusterUnreachable(f"No server answers at {self.address}: {_reason(error)}") from error
        body = _parsed(response.content)
        if not response.ok:
            raise _error(response, body)
        return _parsed(b64decode(body["zato_service_invoke_response"]))

    def close(self) -> None:
        """Closes the connection."""
        self._session.close()


def _parsed(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return content.decode(errors="replace")


def _reason(error: BaseException) -> str:
    """The innermost cause, which is the one that says something."""
    reason = getattr(error.args[0], "reason", error) if error.args else error
    return str(reason).rpartition(": ")[2] or type(error).__name__


def _error(response: requests.Response, body: Any) -> JunctorError:
    cid = response.headers.get("X-Zato-CID", "")
    if response.status_code == requests.codes.unauthorized:
        return Unauthorized(cid, "The cluster does not accept the credentials of admin.invoke.")
    fields = body if isinstance(body, dict) else {}
    fields = fields.get("zato_env", fields)
    if problems := fields.get("problems"):
        return RemoteInvalidInput([Problem(problem["field"], problem["message"]) for problem in problems])
    details = str(fields.get("details") or body or response.reason)
    return RemoteError(details, status=response.status_code, cid=cid, error=str(fields.get("error", "")))
