"""``self.request``: the message that a service was invoked with, and the HTTP request that brought it."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import falcon
from falcon.media.multipart import BodyPart, MultipartFormHandler
from falcon.uri import parse_query_string

from junctor.server.service.bunch import Bunch, Input, bunchify
from junctor.server.service.channel import PARAMS_PRIORITY
from junctor.sql.errors import InvalidInput

if TYPE_CHECKING:
    from junctor.server.service.call import Call
    from junctor.server.service.io import ServiceIO

MAX_FIELDS = 1_000


def parse_query(text: str) -> dict[str, Any]:
    """The parameters of a query string or of a form: a value each, or the list of them where a name is repeated.

    Raises ``InvalidInput`` for more than 1,000 of them.
    """
    if not text:
        return {}
    if text.count("&") >= MAX_FIELDS:
        raise InvalidInput.one("", f"There are more than {MAX_FIELDS} parameters")
    return parse_query_string(text, keep_blank=True, csv=False)


class Headers(Mapping[str, str]):
    """The headers of a request; names are looked up in any case and listed in lower case."""

    __slots__ = ("_values",)

    def __init__(self, environ: Mapping[str, Any]) -> None:
        values = {
            key[5:].replace("_", "-").lower(): value
            for key, value in environ.items()
            if key.startswith("HTTP_")
        }
        for key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            if environ.get(key):
                values[key.replace("_", "-").lower()] = environ[key]
        self._values: dict[str, str] = values

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({', '.join(self._values)})"


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file of a form."""

    file_name: str
    content_type: str
    data: bytes


class HTTPRequest:
    """``self.request.http``; everything but the method and the path is found out when it is asked for.

    ``params`` are those of the path; ``body`` is the whole body.  ``query`` may be given if it has been parsed already.
    """

    def __init__(
        self,
        environ: dict[str, Any],
        *,
        params: dict[str, Any] | None = None,
        query: dict[str, Any] | None = None,
        body: bytes = b"",
    ) -> None:
        self.environ = environ
        self.params: dict[str, Any] = params if params is not None else {}
        self.body = body
        self._get = query

    @property
    def method(self) -> str:
        """GET, POST and so on; '' if the call did not come over HTTP."""
        return str(self.environ.get("REQUEST_METHOD", ""))

    @property
    def path(self) -> str:
        """The path of the URL, without its percent-encoding."""
        return str(self.environ.get("PATH_INFO", ""))

    @property
    def GET(self) -> dict[str, Any]:  # noqa: N802 - the contract
        """The parameters of the query string: a value each, or a list where a name is repeated."""
        if self._get is None:
            self._get = parse_query(self.environ.get("QUERY_STRING", ""))
        return self._get

    @cached_property
    def POST(self) -> dict[str, Any]:  # noqa: N802 - the contract
        """The fields of a URL-encoded form in the body, like ``GET``; empty for a body of another type."""
        is_form = self._content_type == "application/x-www-form-urlencoded"
        return parse_query(self.body.decode("utf-8", "replace")) if is_form else {}

    @cached_property
    def headers(self) -> Headers:
        """The headers of the request."""
        return Headers(self.environ)

    @property
    def user_agent(self) -> str:
        """The header User-Agent; '' if there is none."""
        return str(self.environ.get("HTTP_USER_AGENT", ""))

    def get_form_data(self) -> dict[str, Any]:
        """The fields of a form, URL-encoded or multipart: text, or ``UploadedFile``; a list where a name is repeated.

        Raises ``InvalidInput`` if it is malformed or has more than 1,000 fields.
        """
        return self._form

    @cached_property
    def _form(self) -> dict[str, Any]:
        return self._parse_multipart() if self._content_type == "multipart/form-data" else self.POST

    @property
    def _content_type(self) -> str:
        return str(self.environ.get("CONTENT_TYPE", "")).partition(";")[0].strip().lower()

    def _parse_multipart(self) -> dict[str, Any]:
        handler = MultipartFormHandler()
        handler.parse_options.max_body_part_count = MAX_FIELDS
        handler.parse_options.max_body_part_buffer_size = (
            len(self.body) + 1
        )  # the channel has bounded the body
        result: dict[str, Any] = {}
        try:
            form = handler.deserialize(io.BytesIO(self.body), self.environ["CONTENT_TYPE"], len(self.body))
            for part in form:
                _add(result, part.name or "", _value(part))
        except (falcon.HTTPError, falcon.MediaMalformedError, UnicodeDecodeError) as error:
            raise InvalidInput.one(
                "", f"The form cannot be read: {getattr(error, 'description', error)}"
            ) from error
        return result


def _value(part: BodyPart) -> str | UploadedFile:
    data = part.get_data()
    return (
        data.decode("utf-8")
        if part.filename is None
        else UploadedFile(part.filename, part.content_type, data)
    )


def _add(fields: dict[str, Any], name: str, value: Any) -> None:
    """Adds a field; a name that is there already gets a list."""
    if name in fields:
        before = fields[name]
        value = [*before, value] if isinstance(before, list) else [before, value]
    fields[name] = value


class Request:
    """What a service was invoked with.

    ``payload`` is the parsed message, ``raw_request`` the message as it came, and ``input`` what the declaration made
    of it; without one, the message (if it is an object) merged with the parameters of the URL.
    """

    __slots__ = ("_call", "_http", "_input", "cid", "payload", "raw_request")

    def __init__(self, call: Call, declared: ServiceIO | None = None) -> None:
        """Raises ``InvalidInput`` if the message does not match the declaration."""
        self.payload = call.payload
        self.raw_request = call.raw_request
        self.cid = call.cid
        self._call = call
        self._http = call.http
        self._input: Any = None
        if declared is not None and declared.input:
            params = (
                call.channel_params
                if call.merge_channel_params or declared.options.use_channel_params_only
                else None
            )
            self._input = declared.parse(call.payload, params, call.params_priority)

    @property
    def channel_params(self) -> Mapping[str, Any]:
        """The parameters of the URL, those of its path and of its query."""
        params = self._call.channel_params
        return {} if params is None else params

    @property
    def merge_channel_params(self) -> bool:
        """Whether the parameters of the URL are part of the input."""
        return self._call.merge_channel_params

    @property
    def params_priority(self) -> str:
        """Which value wins when a name is in the URL and in the message."""
        return self._call.params_priority

    @property
    def data_format(self) -> str | None:
        """The format of the message, None if it has none."""
        return self._call.data_format

    @property
    def transport(self) -> str | None:
        """How the message came, None if that is unknown."""
        return self._call.transport

    @property
    def http(self) -> HTTPRequest:
        """The HTTP request; an empty one if the call did not come over HTTP."""
        if self._http is None:
            self._http = HTTPRequest({})
        return self._http

    @property
    def input(self) -> Any:
        """An ``Input``; a list of these if the service declares its input and the message is a list."""
        if self._input is None:
            message = self.payload if isinstance(self.payload, Mapping) else {}
            params = self.channel_params if self.merge_channel_params else {}
            over_params = self.params_priority == PARAMS_PRIORITY.MSG_OVER_CHANNEL_PARAMS
            self._input = Input({**params, **message} if over_params else {**message, **params})
        return self._input

    @input.setter  # noqa: A003 - the contract's name
    def input(self, value: Any) -> None:
        self._input = value

    def bunchified(self) -> Bunch | Any:
        """The payload with its dictionaries, at any depth, as ``Bunch``."""
        return bunchify(self.payload)

    def deepcopy(self) -> Request:
        """A request whose payload and input are copies; the rest is shared."""
        other = copy.copy(self)
        other.payload = copy.deepcopy(self.payload)
        other._input = copy.deepcopy(self._input)
        return other
