"""REST channels: from an HTTP request to a call of a service, and back."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import falcon
import gevent
import orjson

from junctor.server.access_log import CALLER
from junctor.server.channels.router import Route
from junctor.server.metrics import Counter
from junctor.server.runtime.live import Live
from junctor.server.security.authenticate import authenticate
from junctor.server.service.call import Call
from junctor.server.service.channel import CHANNEL, ChannelInfo, ChannelSecurityInfo
from junctor.server.service.request import HTTPRequest, parse_query
from junctor.sql.config import Config
from junctor.sql.errors import BadRequest, InvalidOutput, PayloadTooLarge, Problem
from junctor.sql.objects.rest import methods

if TYPE_CHECKING:
    from junctor.server.context import Context
    from junctor.server.service.response import Response

OK = 200
UST_HEADER = "X-Zato-SSO-UST"
JSON_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z
REQUESTS = "junctor_requests_total"
CONTENT_TYPES = {"json": "application/json", "form": "application/x-www-form-urlencoded", "": "text/plain"}
STATUS = re.compile(r"[2-5]\d\d( [\t\x20-\x7e]*)?", re.ASCII)
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110, section 5.1
HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
NO_WEIGHT = re.compile(r"q=0(\.0{1,3})?")  # RFC 9110, section 12.4.2
GZIP_FROM = 1024  # bytes; smaller responses would not get smaller
GZIP_INLINE = 65_536  # bytes; larger ones are compressed in a thread, so that others go on


class RestChannel(Live):
    """An HTTP endpoint that works."""

    kind = "channel_rest"

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.name = config.name
        self.is_active: bool = config["is_active"]
        self.data_format: str = config["data_format"]
        self.error_format: str = config["error_format"]
        self._service: str = config["service"]
        self._security_id: int | None = config["security_id"]
        self._content_type: str = config["content_type"] or CONTENT_TYPES[self.data_format]
        self._timeout: int = config["timeout"]
        self._max_body_size: int = config["max_body_size"]
        self._gzip = config["content_encoding"] == "gzip"
        self._merge: bool = config["merge_url_params_req"]
        self._path_wins = config["url_params_pri"] == "path-over-qs"
        self._params_priority: str = config["params_pri"]
        self._info = ChannelInfo(
            CHANNEL.HTTP_SOAP, config.id, self.name, self.data_format, config["is_internal"]
        )
        self._answered: dict[int, Counter] = {}
        self._seconds = context.metrics.histogram("junctor_request_seconds", channel=self.name)
        self._route = Route(
            id=config.id,
            pattern=config["url_path"],
            target=self,
            methods=methods(config["method"]) if config["method"] else (),
            name=self.name,
            is_internal=config["is_internal"],
            match_slash=config["match_slash"],
        )

    def take_over(self, previous: Live | None) -> None:
        """Is found by its path, unless it is not active."""
        del previous
        router = self.context.router
        if self.is_active:
            router.replace(self._route)
        elif self.config.id in router:
            router.remove(self.config.id)

    def leave(self) -> None:
        """Is not found any more."""
        if self.config.id in self.context.router:
            self.context.router.remove(self.config.id)

    def respond(
        self, request: falcon.Request, response: falcon.Response, params: dict[str, str], cid: str
    ) -> int:
        """The status of the answer; authenticates the request, invokes the service and fills ``response``.

        Any error is raised: ``app.App`` turns it into an answer.
        """
        environ = request.env
        caller = authenticate(self.context.registry, self._security_id, environ)
        environ[CALLER] = caller.name
        if caller.id in self.context.linked and (
            ust := self.context.sso.linked.calls.on_call(caller, environ, cid)
        ):
            response.set_header(UST_HEADER, ust)
        body = read_body(environ, self._max_body_size or self.context.cluster.max_body_size)
        text = environ.get("QUERY_STRING")
        query = parse_query(text) if text else {}
        call = Call(
            service=self._service,
            payload=self._payload(body),
            raw_request=body,
            cid=cid,
            channel=self._info if self._info.security is caller else self._info_for(caller),
            data_format=self.data_format or None,
            transport="plain_http",
            channel_params=self._channel_params(query, params) if query else params,
            merge_channel_params=self._merge,
            params_priority=self._params_priority,
            http=HTTPRequest(environ, params=params, query=query, body=body),
            timeout=self._timeout,
        )
        result = self.context.invoker.invoke(call)
        return self._render(environ, response, result.response, result.payload)

    def _info_for(self, caller: ChannelSecurityInfo) -> ChannelInfo:
        """What services see of the channel when ``caller`` calls; kept, as it is the same for all requests."""
        self._info = replace(self._info, security=caller)
        return self._info

    def answered(self, status: int, seconds: float) -> None:
        """Counts an answer with a status, and how long it took."""
        counter = self._answered.get(status)
        if counter is None:
            counter = self.context.metrics.counter(REQUESTS, channel=self.name, status=str(status))
            self._answered[status] = counter
        counter.value += 1
        self._seconds.observe(seconds)

    def _channel_params(self, query: dict[str, Any], params: dict[str, str]) -> dict[str, Any]:
        return {**query, **params} if self._path_wins else {**params, **query}

    def _payload(self, body: bytes) -> Any:
        if not body:
            return ""
        if self.data_format == "json":
            try:
                return orjson.loads(body)
            except orjson.JSONDecodeError as error:
                raise BadRequest(msg=f"The body is not valid JSON: {error}.") from error
        if self.data_format == "form":
            return parse_query(body.decode("utf-8", "replace"))
        return body

    def _render(
        self, environ: Mapping[str, Any], response: falcon.Response, made: Response, payload: Any
    ) -> int:
        data = encode(payload)
        response.content_type = self._content_type
        status = OK if made.is_plain else self._render_head(response, made)
        if made.is_private:
            response.set_header("Cache-Control", "no-store")
        if self._gzip and not made.content_encoding:
            data = self._compressed(environ, response, data)
        response.data = data
        return status

    def _render_head(self, response: falcon.Response, made: Response) -> int:
        """The status that a service gives, and its headers."""
        status: int | str = made.status_code  # services may also give a whole status line
        headers = {name: str(value) for name, value in made.headers.items()} if made.has_headers else {}
        if made.has_content_type:
            headers["Content-Type"] = made.content_type
        if made.content_encoding:
            headers["Content-Encoding"] = made.content_encoding
        self._check(status, headers)
        response.status = status
        for name, value in headers.items():
            if name.lower() == "set-cookie":
                response.append_header(name, value)
            else:
                response.set_header(name, value)
        return response.status_code

    def _check(self, status: int | str, headers: Mapping[str, str]) -> None:
        """Raises ``InvalidOutput`` for what cannot be sent: better here, where the error has its CID, than on the wire."""
        problems = [
            Problem("headers", f"{name!r}: {value!r} is no header.")
            for name, value in headers.items()
            if not (HEADER_NAME.fullmatch(name) and HEADER_VALUE.fullmatch(value))
        ]
        text = str(int(status)) if isinstance(status, int) else str(status)
        if not STATUS.fullmatch(text):
            problems.append(Problem("status_code", f"{status!r} is no HTTP status."))
        if problems:
            raise InvalidOutput(self._service, problems)

    def _compressed(self, environ: Mapping[str, Any], response: falcon.Response, data: bytes) -> bytes:
        response.set_header("Vary", "Accept-Encoding")
        if len(data) < GZIP_FROM or not accepts_gzip(environ.get("HTTP_ACCEPT_ENCODING", "")):
            return data
        response.set_header("Content-Encoding", "gzip")
        if len(data) < GZIP_INLINE:
            return gzip.compress(data, 6, mtime=0)
        compressed: bytes = gevent.get_hub().threadpool.apply(gzip.compress, (data, 6))
        return compressed


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header names gzip, and not with a weight of zero."""
    for item in header.split(","):
        coding, _, weight = item.partition(";")
        if coding.strip().lower() == "gzip":
            return not NO_WEIGHT.fullmatch(weight.strip().lower())
    return False


def encode(payload: Any) -> bytes:
    """A service's payload as bytes: text and bytes as they are, nothing as nothing, anything else as JSON."""
    if type(payload) is not dict:  # which it nearly always is
        if isinstance(payload, bytes):
            return payload
        if isinstance(payload, str):
            return payload.encode()
        if payload is None:
            return b""
    return orjson.dumps(payload, default=str, option=JSON_OPTIONS)


def read_body(environ: Mapping[str, Any], limit: int) -> bytes:
    """The whole body of a request; raises ``PayloadTooLarge`` when it has more than ``limit`` bytes."""
    body = environ.get("junctor.body")
    if body is None:
        length = environ.get("CONTENT_LENGTH") or ""
        if length and int(length) > limit:
            raise PayloadTooLarge(msg=_too_large(limit))
        if length:
            body = environ["wsgi.input"].read(int(length))
        elif environ.get("wsgi.input_terminated"):
            body = environ["wsgi.input"].read(limit + 1)
        else:
            body = b""
    if len(body) > limit:
        raise PayloadTooLarge(msg=_too_large(limit))
    received: bytes = body
    return received


def _too_large(limit: int) -> str:
    return f"The body is larger than the {limit} bytes that are allowed here."
