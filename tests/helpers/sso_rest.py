"""The REST API of Single Sign-On in this process: requests go to the services of the channels, and errors become answers as in a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import orjson

from junctor.server import http_errors
from junctor.server.channels.rest import encode
from junctor.server.service.call import Call
from junctor.server.service.channel import CHANNEL, ChannelInfo
from junctor.server.service.info import describe
from junctor.server.service.request import HTTPRequest, parse_query
from junctor.server.sso import http
from junctor.server.sso.openapi import OPENAPI_PATH, OpenApi
from junctor.sql.errors import MethodNotAllowed, ResourceNotFound
from tests.helpers.sso import ADDRESS, APP, BROWSER, SsoUnderTest


@dataclass(frozen=True)
class Answered:
    """What a client gets."""

    status: int
    body: dict[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def codes(self) -> list[str]:
        """The sub-status codes."""
        return list(self.body.get("sub_status", ()))

    @property
    def keys(self) -> set[str]:
        """What the answer has beside the envelope."""
        return set(self.body) - {"status", "cid", "sub_status"}


class SsoRest:
    """Calls paths below /zato/sso with ``current_app``, unless a test gives another one or None."""

    def __init__(self, sso: SsoUnderTest) -> None:
        self.sso = sso
        services = [*http.services(), OpenApi]
        infos = [describe(service, is_internal=True) for service in services]
        sso.context.services.replace("", infos)
        self._paths = {path: http.PREFIX + http.name_of(path) for path in http.by_path()}
        self._paths[OPENAPI_PATH] = OpenApi.name
        self._methods = {path: set(endpoints) for path, endpoints in http.by_path().items()}
        self._methods[OPENAPI_PATH] = {"GET"}

    def __call__(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **body: Any,
    ) -> Answered:
        """The answer to a request whose fields are in the body, but for those of ``query``."""
        given = {"current_app": APP, **body}
        if given["current_app"] is None or "current_app" in (query or {}):
            del given["current_app"]
        return self.raw(method, path, given, urlencode(query or {}, doseq=True), headers or {})

    def raw(
        self, method: str, path: str, body: Any, query: str = "", headers: Mapping[str, str] | None = None
    ) -> Answered:
        """The answer to a request with this body, which is any JSON, and this query string."""
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REMOTE_ADDR": ADDRESS,
            "HTTP_USER_AGENT": BROWSER,
            **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in (headers or {}).items()},
        }
        call: Call | None = None
        try:
            call = self._call(path, method, body, environ)
            result = self.sso.context.invoker.invoke(call)
        except Exception as error:
            refusal = http_errors.answer(error)
            if refusal.status >= 500:
                raise
            data, _ = refusal.body(call.cid if call else "")
            return Answered(refusal.status, orjson.loads(data), refusal.headers)
        response = result.response
        payload = orjson.loads(encode(result.payload))
        headers = dict(response.headers)
        if response.is_private:
            headers["Cache-Control"] = "no-store"  # which is what the channel makes of it
        return Answered(int(response.status_code), payload, headers)

    def _call(self, path: str, method: str, body: Any, environ: dict[str, Any]) -> Call:
        if path not in self._paths:
            raise ResourceNotFound(msg="There is nothing here.")
        if method not in self._methods[path]:
            raise MethodNotAllowed(allowed=sorted(self._methods[path]))
        encoded = orjson.dumps(body) if body is not None else b""
        query = parse_query(environ["QUERY_STRING"])
        return Call(
            self._paths[path],
            orjson.loads(encoded) if encoded else "",
            encoded,
            channel=ChannelInfo(CHANNEL.HTTP_SOAP, is_internal=True),
            data_format="json",
            channel_params=query,
            http=HTTPRequest(environ, query=query, body=encoded),
        )
