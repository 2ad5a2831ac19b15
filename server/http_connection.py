"""One connection: its requests one after the other, each answered by the application, until either side has enough."""

from __future__ import annotations

import io
import secrets
import sys
from functools import partial
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING

import gevent
import orjson
from gevent import socket
from gunicorn.workers.base_async import ALREADY_HANDLED

from junctor.server.http_body import BUFFER_SIZE, Body, BodyStream, ChunkedBody, LengthBody
from junctor.server.http_environ import connection_environ
from junctor.server.http_proxy import parse_proxy_header
from junctor.server.http_request import CHUNKED, END_OF_HEAD, Environ, RequestHead, check_start
from junctor.server.http_response import Response, plain_response
from junctor.server.http_settings import NEVER
from junctor.server.http_socket import TimedSocket
from junctor.sql.errors import BadRequest, ClientGone, RequestRefused, RequestTimeout

if TYPE_CHECKING:
    from junctor.server.http_server import HTTPServer


def new_cid() -> str:
    """A correlation id: 24 hexadecimal digits."""
    return secrets.token_hex(12)


def _set_complete_body(environ: Environ, body: bytes) -> None:
    environ["junctor.body"] = body
    environ["wsgi.input"] = io.BytesIO(body)


class Connection:
    """A client's connection and what it takes to serve it; ``client`` is its socket."""

    __slots__ = (
        "_body",
        "_body_received",
        "_body_waited",
        "_buffered",
        "_continue_due",
        "_environ",
        "_limits",
        "_lingers",
        "_peer",
        "_request",
        "_served",
        "_server",
        "client",
    )

    def __init__(self, server: HTTPServer, connection: socket.socket, address: object) -> None:
        settings = server.settings
        peer, port = (str(address[0]), int(address[1])) if isinstance(address, tuple) else ("", 0)
        self._server = server
        self._limits = settings.limits
        self._peer = peer
        self._environ = connection_environ(server.environ, connection, peer, port)
        self._request = RequestHead(settings, trusted=peer in settings.forwarders)
        # What was received and belongs to what comes after the present request.
        self._buffered = b""
        # None once all of the present request's body has arrived.
        self._body: Body | None = None
        self._body_received = 0
        self._body_waited = 0.0
        self._continue_due = self._lingers = False
        self._served = 0
        self.client = TimedSocket(connection, settings.limits, server.loop_now)

    def run(self) -> None:
        """Serves the connection until it is closed; what is wrong with it or its client is logged, never raised."""
        client = self.client
        try:
            try:
                self._serve()
            except RequestRefused as refused:
                self._refuse(refused)
            if self._lingers or client.pending():
                client.linger()
        except (ClientGone, OSError) as gone:
            self._server.log.debug("Connection from %s ended: %s", self._peer, gone)
        except Exception:
            self._server.log.exception("Connection from %s failed", self._peer)
        finally:
            client.close()

    def _serve(self) -> None:
        settings = self._server.settings
        if settings.proxy_protocol != "off" and self._peer in settings.proxies:
            self._read_proxy_header()
        take_turns = self.client.take_turns
        while head := self._next_head():
            self._served += 1
            environ = self._environ.copy()
            self._request.parse(head, environ)
            stream = self._attach_body(environ)
            if not self._respond(environ, stream):
                return
            take_turns()

    def _read_proxy_header(self) -> None:
        """Takes the PROXY header that starts the connection, and believes it."""
        self.client.deadline = monotonic() + self._limits.header_timeout
        data = b""
        header = None
        while header is None:
            more = self.client.receive()
            if not more:
                raise ClientGone("it closed before its PROXY protocol header was complete")
            data += more
            header = parse_proxy_header(data, self._server.settings.proxy_protocol)
        self.client.deadline = NEVER
        self._buffered = data[header.consumed :]
        if header.client is not None:
            self._peer = header.client[0]
            self._environ["REMOTE_ADDR"], self._environ["REMOTE_PORT"] = self._peer, str(header.client[1])

    def _next_head(self) -> bytes:
        """The head of the next request, ``b""`` when there is none and the connection is to be closed."""
        data = self._buffered or self._wait_for_request()
        if not data:
            return b""
        # RFC 9112 section 2.2: one empty line before a request is forgiven.
        forgiven = data.startswith(b"\r\n")
        if forgiven:
            data = data[2:]
        end = data.find(END_OF_HEAD)
        if end < 0:
            self.client.deadline = monotonic() + self._limits.header_timeout
            while end < 0:
                data = self._more_of_head(data, forgiven=forgiven)
                if not data:
                    return b""
                if not forgiven and data.startswith(b"\r\n"):
                    forgiven, data = True, data[2:]
                end = data.find(END_OF_HEAD)
            self.client.deadline = NEVER
        end += len(END_OF_HEAD)
        self._buffered = data[end:]
        return data[:end]

    def _wait_for_request(self) -> bytes:
        """The first bytes of the next request, ``b""`` when either side does not want one any more."""
        limits = self._limits
        return self.client.receive_idle(limits.idle_timeout if self._served else limits.header_timeout)

    def _more_of_head(self, data: bytes, *, forgiven: bool) -> bytes:
        """``data`` with what comes next, ``b""`` if the client closed.  Raises RequestRefused if it cannot be a head."""
        if data and (forgiven or data != b"\r"):
            check_start(data, self._limits)
        more = self.client.receive()
        if not more and self.client.expired:
            raise RequestTimeout(msg="the headers did not arrive in time")
        return data + more if more else b""

    def _attach_body(self, environ: Environ) -> BodyStream | None:
        """Gives the request its ``wsgi.input``; the stream behind it if the body is still on its way."""
        request = self._request
        length = request.content_length
        buffered = self._buffered
        if request.upgrades:
            environ["junctor.buffered"] = buffered
            environ["junctor.upgraded"] = partial(self._server.upgraded, self)
        if 0 <= length <= len(buffered):
            self._buffered = buffered[length:]
            _set_complete_body(environ, buffered[:length])
            return None

        self._buffered = b""
        self._body_received, self._body_waited = 0, 0.0
        self._continue_due = request.expects_continue and not buffered
        if length == CHUNKED:
            chunked = ChunkedBody(self._limits, self._receive_body)
            chunked.feed(buffered)
            if chunked.complete:
                self._buffered = chunked.rest
                _set_complete_body(environ, chunked.read(len(buffered)))
                return None
            self._body = chunked
        else:
            self._body = LengthBody(length, buffered, self._receive_body)
        stream = BodyStream(self._body)
        environ["wsgi.input"] = io.BufferedReader(stream, BUFFER_SIZE)
        return stream

    def _receive_body(self, size: int) -> bytes:
        """At least one more byte of the body.

        Raises RequestTimeout if the client is too slow, BadRequest if it is gone.
        """
        if self._continue_due:
            self._continue_due = False
            self.client.transmit(b"HTTP/1.1 100 Continue\r\n\r\n")
        started = monotonic()
        earned = self._body_received / self._limits.body_rate - self._body_waited
        self.client.deadline = started + self._limits.body_timeout + min(earned, 0.0)
        try:
            data = self.client.receive(size)
        except OSError as error:
            raise BadRequest(msg="the connection broke before the end of the body") from error
        self.client.deadline = NEVER
        if not data:
            if self.client.expired:
                raise RequestTimeout(msg="the body did not arrive in time")
            raise BadRequest(msg="the client closed before the end of the body")
        self._body_waited += monotonic() - started
        self._body_received += len(data)
        self.client.take_turns()
        return data

    def _body_complete(self) -> bool:
        """Whether all of the request has arrived, so that what is received next belongs to another one."""
        body = self._body
        if body is None:
            return True
        if not body.complete:
            return False
        if isinstance(body, ChunkedBody):
            self._buffered = body.rest
        self._body = None
        return True

    def _may_keep_alive(self) -> bool:
        """Whether the client may be told that the connection stays open."""
        return (
            self._request.keep_alive
            and self._served < self._limits.requests_per_connection
            and self._body_complete()
            # Of requests that came together the last one is told that the server stops.
            and (not self._server.draining or bool(self._buffered))
            and not self.client.expired
        )

    def _respond(self, environ: Environ, stream: BodyStream | None) -> bool:
        """Whether the connection takes another request, after the application has answered this one."""
        server = self._server
        response = Response(self._request, self.client.transmit, self._may_keep_alive)
        started = monotonic()
        try:
            result = server.app(environ, response.start)
            if result is ALREADY_HANDLED:
                return False
            try:
                response.send(result)
            finally:
                close = getattr(result, "close", None)
                if close is not None:
                    close()
        except ClientGone:
            raise
        except (Exception, SystemExit, gevent.Timeout) as error:  # noqa: BLE001  the request's boundary
            self._fail(error, response, stream)
        if response.problem:
            server.log.error("%s %s: %s", environ["REQUEST_METHOD"], environ["PATH_INFO"], response.problem)
        server.answered(environ, response, monotonic() - started)
        self._lingers = not self._body_complete()
        return response.keep_alive

    def _fail(self, error: BaseException, response: Response, stream: BodyStream | None) -> None:
        """Answers a request that the application did not, or cuts off the response that it did not finish.

        Raises ``error`` if it is the refusal that reading the body ended with.
        """
        if stream is not None and error is stream.failure and not response.head_sent:
            raise error
        cid = new_cid()
        self._server.log.error("The application failed; cid:%s", cid, exc_info=sys.exc_info())
        response.keep_alive = False
        if response.head_sent:
            self.client.reset()
            raise ClientGone("the response was cut off")
        response.status_code = HTTPStatus.INTERNAL_SERVER_ERROR
        self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, cid)

    def _refuse(self, refused: RequestRefused) -> None:
        """Answers with the status of ``refused``; the reason is for the log, not for the client."""
        cid = new_cid()
        status = HTTPStatus(refused.status)
        self._server.log.info(
            "Refused a request from %s: %d, %s; cid:%s", self._peer, status, refused.message, cid
        )
        self._answer(status, cid)
        self._lingers = True

    def _answer(self, status: HTTPStatus, cid: str) -> None:
        """Sends a response of the server's own, which is always the connection's last."""
        body = orjson.dumps({"result": "Error", "cid": cid, "details": status.phrase})
        headers = {"Content-Type": "application/json", "X-Zato-CID": cid}
        self.client.transmit(plain_response(f"{status.value} {status.phrase}", headers, body))
