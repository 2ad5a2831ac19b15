"""The bare WebSocket echo that benchmarks compare with: ws4py on gevent's WSGI server, made fast by wsaccel.

python tests/bench/websocket_echo.py PORT
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import socket
import sys

import wsaccel
from ws4py.server.geventserver import WSGIServer
from ws4py.server.wsgiutils import WebSocketWSGIApplication
from ws4py.websocket import EchoWebSocket

wsaccel.patch_ws4py()


def main(port: int) -> None:
    """Serves until the process is ended."""
    listener = socket.create_server(("127.0.0.1", port), backlog=1000)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    WSGIServer(listener, WebSocketWSGIApplication(handler_cls=EchoWebSocket), log=None).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
