"""A worker in this process, with a channel that clients can connect to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from junctor.server.service.base import Service
from tests.helpers.one_worker import OneWorker
from tests.helpers.ports import LOOPBACK, free_port
from tests.helpers.websocket_client import ChannelClient

LONGEST = 60.0  # seconds that a test may take


class Echo(Service):
    name = "t.echo"

    def handle(self) -> None:
        self.response.payload = self.request.payload


class Seen(Service):
    """Answers with what it sees of its caller."""

    name = "t.seen"

    def handle(self) -> None:
        seen = self.wsgi_environ["zato.request_ctx.async_msg"]["environ"]
        self.response.payload = {
            "type": self.channel.type,
            "channel": self.channel.name,
            "security": self.channel.security.name,
            "names": sorted(seen),
            "pub_client_id": seen["pub_client_id"],
            "ext_client_id": seen["ext_client_id"],
            "token": seen["ws_token"],
            "is_same": seen is self.environ["zato.request_ctx.async_msg"]["environ"],
            "peer": seen["peer_host"],
            "agent": seen["initial_http_wsgi_environ"].get("HTTP_USER_AGENT"),
            "config": seen["ws_channel_config"].name,
            "link": self.environ.get("junctor.link"),
            "reply_to_sk": self.environ["zato.request_ctx.async_msg"].get("reply_to_sk"),
            "raw": self.request.raw_request,
        }


class CallBack(Service):
    """Asks its own caller."""

    name = "t.call-back"

    def handle(self) -> None:
        client = self.wsgi_environ["zato.request_ctx.async_msg"]["environ"]["web_socket"]
        timeout = self.request.payload.get("timeout", 5)
        self.response.payload = client.invoke_client(self.cid, self.request.payload["ask"], timeout=timeout)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[OneWorker]:
    made = OneWorker(tmp_path)
    made.deploy(Echo, Seen, CallBack)
    with gevent.Timeout(LONGEST, AssertionError(f"the test takes longer than {LONGEST:g} s")):
        yield made
        made.stop()


@pytest.fixture
def connect() -> Iterator[Callable[..., ChannelClient]]:
    """Makes clients, which are gone after the test."""
    made: list[ChannelClient] = []

    def connect(address: str, **options: Any) -> ChannelClient:
        made.append(ChannelClient(address, **options))
        return made[-1]

    yield connect
    for client in made:
        client.end()


@pytest.fixture
def address() -> str:
    """An address for a channel of its own."""
    return f"ws://{LOOPBACK}:{free_port()}/ws"
