"""A client of a WebSocket channel that sends what a test says, and shows what comes back."""

from __future__ import annotations

from typing import Any, Self

import gevent
import orjson

from junctor.server.service.call import new_cid
from junctor.server.websocket.codec import Connection

TIMEOUT = 10.0  # seconds


class ChannelClient:
    """One connection; every wait is bounded, and a test that waits in vain fails."""

    def __init__(
        self, address: str, *, headers: dict[str, str] | None = None, tls_verify: bool = True
    ) -> None:
        self.connection = Connection.connect(address, timeout=TIMEOUT, headers=headers, tls_verify=tls_verify)
        self.token: str | None = None
        self.pings: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Closes the connection, without a word if it is open still."""
        self.connection.abort()
        while self.connection.receive() is not None:
            continue

    def send(self, message: str | bytes) -> None:
        """Sends whatever it is."""
        self.connection.send(message)

    def message(self, action: str, data: Any = None, **meta: Any) -> str:
        """Sends a message of the protocol; its id.  A field that is given as None is left out."""
        fields = {
            "action": action,
            "id": new_cid(),
            "timestamp": "2026-11-24T00:00:00.000000",
            "token": self.token,
        }
        fields |= meta
        document: dict[str, Any] = {
            "meta": {name: value for name, value in fields.items() if value is not None}
        }
        if data is not None:
            document["data"] = data
        self.send(orjson.dumps(document).decode())
        return str(fields["id"])

    def receive(self, timeout: float = TIMEOUT) -> dict[str, Any]:
        """The next message of the server."""
        with gevent.Timeout(timeout, AssertionError(f"no message within {timeout:g} s")):
            message = self.connection.receive()
        assert message is not None, (self.connection.close_code, self.connection.close_reason)
        received: dict[str, Any] = orjson.loads(message)
        return received

    def closed(self, timeout: float = TIMEOUT) -> int:
        """The code with which the server closes the connection, after whatever it sends before."""
        with gevent.Timeout(timeout, AssertionError(f"not closed within {timeout:g} s")):
            while self.connection.receive() is not None:
                continue
        return self.connection.close_code

    def log_in(
        self, username: str = "", secret: str = "", client_id: str = "crm.1", **meta: Any
    ) -> dict[str, Any]:
        """The answer to create-session; the token is kept for what comes next."""
        credentials = {"username": username, "secret": secret, "client_id": client_id}
        self.message("create-session", {}, **credentials, **meta)
        answer = self.receive()
        if answer["meta"]["msg_type"] == "zwsx.rspa":
            self.token = answer["data"]["token"]
        return answer

    def ask(self, data: Any = None, **meta: Any) -> dict[str, Any]:
        """The server's next message after a request to the channel's service."""
        self.message("invoke-service", data, **meta)
        return self.receive()

    def ask_or_none(self, data: Any = None) -> dict[str, Any] | None:
        """The answer to a request; None when the server closes the connection instead."""
        if self.connection.is_open:
            self.message("invoke-service", data)
        with gevent.Timeout(TIMEOUT, AssertionError("neither an answer nor the end")):
            message = self.connection.receive()
        answer: dict[str, Any] | None = None if message is None else orjson.loads(message)
        return answer

    def respond(self, request: dict[str, Any], response: Any, **meta: Any) -> None:
        """Answers a request of the server."""
        self.message("client-response", {"response": response}, in_reply_to=request["meta"]["id"], **meta)


def is_refusal(message: dict[str, Any]) -> bool:
    """Whether the server says that there is no session, or none any more."""
    meta = message["meta"]
    return meta["msg_type"] == "zwsx.merr" and meta["status"] == 403 and "in_reply_to" not in meta
