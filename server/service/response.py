"""``self.response``: what a service answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from junctor.server.service.bunch import Bunch
from junctor.server.service.payload import OutputPayload

if TYPE_CHECKING:
    from junctor.server.service.io import ServiceIO

DEFAULT_CONTENT_TYPE = "text/plain"
OK = 200
_UNSET: Any = object()


class Response:
    """``payload`` and what goes with it over HTTP.

    ``content_type`` is text/plain until it is set; a channel sets it from its data format if ``has_content_type`` says
    that the service did not.  ``is_private`` is for what nobody on the way may keep: it is answered with Cache-Control: no-store.
    """

    # As long as a service does not set them, which it seldom does, they cost a call nothing.
    status_code: int = OK
    content_encoding: str | None = None
    is_private: bool = False
    result: str = "ZATO_OK"
    result_details: str = ""
    _content_type: str = ""
    _headers: Bunch | None = None

    def __init__(self, declared: ServiceIO | None = None) -> None:
        self._io = declared if declared is not None and declared.output else None
        self._payload = _UNSET

    @property
    def payload(self) -> Any:
        """With a declared output, an object whose attributes are the elements; otherwise what was assigned, '' at first.

        With a declared output, text and bytes are the whole response, None none at all, and any other object or iterable
        of objects fills the elements.
        """
        if self._payload is _UNSET:
            if self._io is None:
                return ""
            self._payload = OutputPayload(self._io.output_names)
        return self._payload

    @payload.setter
    def payload(self, value: Any) -> None:
        if self._io is not None and not (value is None or isinstance(value, str | bytes | OutputPayload)):
            value = OutputPayload.of(self._io.output_names, value)
        self._payload = value

    @property
    def content_type(self) -> str:
        """The content type of the payload."""
        return self._content_type or DEFAULT_CONTENT_TYPE

    @content_type.setter
    def content_type(self, value: str) -> None:
        self._content_type = value

    @property
    def has_content_type(self) -> bool:
        """Has the service set the content type?"""
        return self._content_type != ""

    @property
    def headers(self) -> Bunch:
        """The headers to answer with."""
        if self._headers is None:
            self._headers = Bunch()
        return self._headers

    @property
    def has_headers(self) -> bool:
        """Are there headers to answer with?"""
        return bool(self._headers)

    @property
    def is_plain(self) -> bool:
        """Is there nothing but the payload: status 200, and no headers of the service's own?"""
        return (
            self.status_code == OK
            and not self._headers
            and self._content_type == ""
            and not self.content_encoding
        )

    def rendered(self) -> Any:
        """The payload as it goes out; JSON types if the output is declared.  Raises ``InvalidOutput``."""
        payload = self._payload
        if self._io is None:
            return "" if payload is _UNSET else payload
        if payload is _UNSET:
            payload = self.payload
        if isinstance(payload, OutputPayload):
            return self._io.render(payload)
        return "" if payload is None else payload
