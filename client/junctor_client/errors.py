"""Every error of the client.

ClientError
+-- ConnectionFailed        there is no response: the server cannot be reached, or hung up
|   +-- Timeout             ... or did not answer in time
+-- InvalidResponse         what came back is too large, or says it is JSON and is not
+-- HTTPError               the server answered with a status of 300 and above
    +-- BadRequest 400, Unauthorized 401, Forbidden 403, NotFound 404, MethodNotAllowed 405, Conflict 409,
    |   PayloadTooLarge 413, TooManyRequests 429
    +-- ServerError         any 5xx
        +-- ServiceUnavailable 503, GatewayTimeout 504
"""

from __future__ import annotations

from typing import Any


class ClientError(Exception):
    """A call did not succeed.

    ``status`` is the HTTP status, or 0 without a response.  ``cid`` is the correlation id under which the server
    logged the call, or empty.  ``details`` is what the server said, or the reason why there is no response.
    """

    def __init__(self, what: str, *, status: int = 0, cid: str = "", details: Any = "") -> None:
        self.status, self.cid, self.details = status, cid, details
        text = f"{what}: {details}" if details else what
        super().__init__(f"{text} (cid {cid})" if cid else text)


class ConnectionFailed(ClientError):
    """There is no response.  Unless it was refused, the server may or may not have run the service."""


class Timeout(ConnectionFailed):
    """The server did not answer in time.  It may have run the service, or be running it still."""


class InvalidResponse(ClientError):
    """The response cannot be read."""


class HTTPError(ClientError):
    """The server answered with an error."""


class BadRequest(HTTPError):
    """The request is not what the service expects."""


class Unauthorized(HTTPError):
    """Credentials are missing or wrong."""


class Forbidden(HTTPError):
    """The credentials do not permit this."""


class NotFound(HTTPError):
    """There is no such channel, service or object."""


class MethodNotAllowed(HTTPError):
    """The channel does not take this HTTP method."""


class Conflict(HTTPError):
    """The request conflicts with the current state."""


class PayloadTooLarge(HTTPError):
    """The request is larger than the channel allows."""


class TooManyRequests(HTTPError):
    """There were too many requests."""


class ServerError(HTTPError):
    """The service failed; the server's log has the reason under ``cid``."""


class ServiceUnavailable(ServerError):
    """The server cannot take the request now."""


class GatewayTimeout(ServerError):
    """The service did not finish within the time limit of its channel."""


_BY_STATUS: dict[int, type[HTTPError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    409: Conflict,
    413: PayloadTooLarge,
    429: TooManyRequests,
    503: ServiceUnavailable,
    504: GatewayTimeout,
}


def for_status(status: int) -> type[HTTPError]:
    """The class of the error for a status."""
    return _BY_STATUS.get(status, ServerError if status >= 500 else HTTPError)
