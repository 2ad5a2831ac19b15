"""A client of Junctor servers for any Python application."""

from junctor_client.client import Client
from junctor_client.errors import (
    BadRequest,
    ClientError,
    Conflict,
    ConnectionFailed,
    Forbidden,
    GatewayTimeout,
    HTTPError,
    InvalidResponse,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    ServerError,
    ServiceUnavailable,
    Timeout,
    TooManyRequests,
    Unauthorized,
)
from junctor_client.pubsub import Subscription
from junctor_client.response import Response

__all__ = [
    "BadRequest",
    "Client",
    "ClientError",
    "Conflict",
    "ConnectionFailed",
    "Forbidden",
    "GatewayTimeout",
    "HTTPError",
    "InvalidResponse",
    "MethodNotAllowed",
    "NotFound",
    "PayloadTooLarge",
    "Response",
    "ServerError",
    "ServiceUnavailable",
    "Subscription",
    "Timeout",
    "TooManyRequests",
    "Unauthorized",
]
