"""Requests that a WSGI application of this very process answers, for clients that know nothing of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from http.client import HTTPMessage
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import HTTPHeaderDict, HTTPResponse


class _Original:
    """What ``requests`` reads cookies from."""

    def __init__(self, headers: HTTPHeaderDict) -> None:
        self.msg = HTTPMessage()
        for name, value in headers.items():
            self.msg.add_header(name, value)

    def isclosed(self) -> bool:
        return True


class WsgiAdapter(BaseAdapter):
    """To be mounted in a session of ``requests``: what it sends is answered by ``app``, as if a proxy had ended TLS before it."""

    def __init__(self, app: Callable[..., Any], remote_addr: str = "203.0.113.7") -> None:
        super().__init__()
        self._app, self._remote_addr = app, remote_addr

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        started: dict[str, Any] = {}

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            started["status"], started["headers"] = status, HTTPHeaderDict(headers)

        body = b"".join(self._app(self._environ(request), start_response))
        code, _, reason = started["status"].partition(" ")
        raw = HTTPResponse(
            body=io.BytesIO(body),
            headers=started["headers"],
            status=int(code),
            reason=reason,
            preload_content=False,
            original_response=_Original(started["headers"]),  # type: ignore[arg-type]  # as far as requests needs it
        )
        response: requests.Response = HTTPAdapter().build_response(request, raw)
        return response

    def close(self) -> None:
        """Nothing is open."""

    def _environ(self, request: requests.PreparedRequest) -> dict[str, Any]:
        parts = urlsplit(str(request.url))
        body = request.body or b""
        data = body.encode() if isinstance(body, str) else body
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(parts.path),
            "QUERY_STRING": parts.query,
            "SERVER_NAME": parts.hostname,
            "SERVER_PORT": str(parts.port or 443),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": self._remote_addr,
            "CONTENT_LENGTH": str(len(data)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": parts.scheme,
            "wsgi.input": io.BytesIO(data),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in request.headers.items():
            key = name.upper().replace("-", "_")
            environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
        return environ
