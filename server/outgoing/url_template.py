"""The address of an outgoing connection, with ``{parameters}`` that each call fills in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from junctor.sql.errors import InvalidInput

_PARAMETER = re.compile(r"\{([^{}]+)\}")
_HOST_VALUE = re.compile(r"[A-Za-z0-9._-]+")
_SCHEME = re.compile(r"https?://", re.IGNORECASE)


class UrlTemplate:
    """Scheme, host and path, any part of which after the scheme may have parameters.

    Raises ``InvalidInput`` if the host is not an http or https address, or has credentials in it: those belong
    in a security definition, where they are encrypted and never shown.
    """

    def __init__(self, host: str, path: str = "") -> None:
        if not _SCHEME.match(host):
            raise InvalidInput.one("host", "The host starts with http:// or https://.")
        if "@" in urlsplit(_PARAMETER.sub("x", host)).netloc:
            raise InvalidInput.one(
                "host", "Put user name and password in a security definition, not the host."
            )
        text = host.rstrip("/") + path if path.startswith("/") else host + path
        start = text.index("//") + 2
        end = next((place for place in range(start, len(text)) if text[place] in "/?#"), len(text))
        self._authority, self._rest = text[:end], text[end:]
        self.shown = self._authority + self._rest.partition("?")[0].partition("#")[0]
        self.names = tuple(_PARAMETER.findall(text))

    def fill(self, params: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
        """The address with parameters in it, percent-encoded, and the parameters that it has no use for.

        Raises ``ValueError`` if parameters are missing, naming each; so are those that are None or empty, since
        an address that ends early is that of something else, mostly of everything.  The same if a value leads
        to another host or out of its part of the path.
        """
        given = dict(params or {})
        if not self.names:
            return self._authority + self._rest, given
        if missing := [name for name in self.names if given.get(name) in (None, "")]:
            raise ValueError(
                f"The address {self.shown} needs parameters that are missing: {', '.join(missing)}."
            )
        authority = _PARAMETER.sub(lambda found: _in_host(found[1], given[found[1]]), self._authority)
        rest = _PARAMETER.sub(lambda found: quote(str(given[found[1]]), safe=""), self._rest)
        if any(part in (".", "..") for part in re.split(r"[/?#]", rest)):
            raise ValueError(
                f"A parameter of the address {self.shown} is '.' or '..', which leads elsewhere."
            )
        return authority + rest, {name: value for name, value in given.items() if name not in self.names}

    def for_ping(self) -> str:
        """The address up to the part of its path in which the first parameter is."""
        text = self._authority + self._rest
        if not self.names:
            return text
        before = text[: text.index("{")]
        return before[: before.rindex("/") + 1]


def _in_host(name: str, value: object) -> str:
    if not _HOST_VALUE.fullmatch(str(value)):
        raise ValueError(
            f"The parameter {name!r} is part of a host name and has characters these cannot have."
        )
    return str(value)
