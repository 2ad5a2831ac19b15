"""REST channels and outgoing REST connections."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Index, UniqueConstraint
from sqlalchemy.orm import Mapped

from junctor.sql.base import Object, Reader
from junctor.sql.errors import Problem
from junctor.sql.fields import boolean, choice, integer, ref, text

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
MEDIA_TYPE = re.compile(r"[\w.+!#$&^-]+/[\w.+!#$&^-]+(\s*;\s*[\w-]+=[^;]+)*", re.ASCII)
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
PLACEHOLDER_NAME = re.compile(r"[\w $.\-|=~^/]+")
NO_SECURITY = "zato-no-security"


def normalise_methods(value: str) -> str:
    """The methods in upper case, sorted, each once, with single commas; '' is any."""
    return ",".join(sorted({item.strip().upper() for item in value.split(",") if item.strip()}))


def no_security(value: str) -> str:
    """'' for Zato's own word for no security."""
    return "" if value in (NO_SECURITY, "ZATO_NONE") else value


def methods(value: str) -> frozenset[str]:
    """The methods that a channel takes, as a set; all of them when none is named."""
    return frozenset(value.split(",")) if value else frozenset(METHODS)


def check_url_path(path: str) -> Iterable[Problem]:
    """What is wrong with a path pattern; nothing when it can be matched."""
    if not path.startswith("/"):
        yield Problem("url_path", "must start with '/'.")
    if "?" in path or "#" in path:
        yield Problem("url_path", "must be a path alone, without a query string or a fragment.")
    rest = PLACEHOLDER.sub("", path)
    if "{" in rest or "}" in rest:
        yield Problem("url_path", "has a brace without its counterpart.")
    names = PLACEHOLDER.findall(path)
    if bad := [name for name in names if not (name.strip() and PLACEHOLDER_NAME.fullmatch(name))]:
        yield Problem(
            "url_path",
            f"has placeholders with characters that names cannot have: {', '.join(map(repr, bad))}.",
        )
    if len(set(names)) != len(names):
        yield Problem("url_path", "has a placeholder more than once.")


def _content_type_problems(values: Mapping[str, Any]) -> Iterable[Problem]:
    if values["content_type"] and not MEDIA_TYPE.fullmatch(values["content_type"]):
        yield Problem("content_type", "must be a media type, such as application/json; charset=utf-8.")


class ChannelRest(Object):
    """An HTTP endpoint that invokes a service."""

    __tablename__ = "channel_rest"
    __table_args__ = (
        UniqueConstraint("cluster_id", "name"),
        Index(None, "cluster_id", "url_path"),
    )
    kind, label = "channel_rest", "REST channel"
    enmasse_aliases = ("channel_plain_http",)
    command_aliases = ("rest-channel",)

    is_active: Mapped[bool] = boolean("Active", "While it is off, the path answers 404.", default=True)
    url_path: Mapped[str] = text("URL path", "Path with {placeholders}, e.g. /orders/{id}.", max=500)
    match_slash: Mapped[bool] = boolean(
        "Match slash", "Whether a {placeholder} may span several path segments.", default=True
    )
    method: Mapped[str] = text(
        "Methods",
        "HTTP methods it takes, separated by commas; empty = any.",
        default="",
        max=60,
        normalise=normalise_methods,
    )
    service: Mapped[int] = ref(
        "service", "Service", "The service to invoke.", column="service_id", aliases=("service_name",)
    )
    security: Mapped[int | None] = ref(
        "security",
        "Security",
        "The definition that requests must satisfy; empty = anybody may call.",
        column="security_id",
        default="",
        aliases=("security_name", "sec_def"),
        normalise=no_security,
    )
    data_format: Mapped[str] = choice(
        "Data format",
        "How bodies are read and written; empty = as they are.",
        ("", "json", "form"),
        default="json",
    )
    content_type: Mapped[str] = text(
        "Content type", "Of responses, instead of what the data format implies.", default="", max=200
    )
    content_encoding: Mapped[str] = choice(
        "Content encoding", "Compression of responses for clients that accept it.", ("", "gzip"), default=""
    )
    error_format: Mapped[str] = choice(
        "Error format",
        "Shape of JSON error bodies; empty = the cluster's own.",
        ("", "3.2", "3.0"),
        default="",
    )
    timeout: Mapped[int] = integer(
        "Timeout", "After which the caller gets 504.", default=30, unit="s", min=1, max=3600
    )
    max_body_size: Mapped[int] = integer(
        "Maximum body size",
        "Larger requests get 413; 0 = the cluster's own.",
        default=0,
        unit="B",
        min=0,
        max=104_857_600,
    )
    merge_url_params_req: Mapped[bool] = boolean(
        "Merge URL parameters", "Whether path and query parameters become part of the input.", default=True
    )
    url_params_pri: Mapped[str] = choice(
        "URL parameter priority",
        "Which one wins when a query and a path parameter have one name.",
        ("qs-over-path", "path-over-qs"),
        default="qs-over-path",
    )
    params_pri: Mapped[str] = choice(
        "Parameter priority",
        "Which one wins when a URL parameter and an element of the body have one name.",
        ("channel-params-over-msg", "msg-over-channel-params"),
        default="channel-params-over-msg",
    )

    @classmethod
    def check(cls, values: Mapping[str, Any], reader: Reader, object_id: int | None) -> Iterable[Problem]:
        """A pattern that can be matched, known methods, and no other channel that would always win or lose."""
        yield from check_url_path(values["url_path"])
        if unknown := set(filter(None, values["method"].split(","))) - set(METHODS):
            yield Problem(
                "method",
                f"has unknown methods: {', '.join(sorted(unknown))}; there are {', '.join(METHODS)}.",
            )
        yield from _content_type_problems(values)
        mine = methods(values["method"])
        for other in reader.others(cls.kind, object_id, url_path=values["url_path"]):
            if methods(other["method"]) & mine:
                yield Problem("url_path", f"is taken by REST channel {other['name']!r} for the same methods.")


class OutgoingRest(Object):
    """A connection to a REST API."""

    __tablename__ = "outgoing_rest"
    __table_args__ = (UniqueConstraint("cluster_id", "name"),)
    kind, label = "outgoing_rest", "Outgoing REST connection"
    enmasse_aliases = ("outconn_plain_http", "outconn_rest")
    command_aliases = ("rest-outconn",)

    is_active: Mapped[bool] = boolean("Active", "While it is off, calls fail at once.", default=True)
    host: Mapped[str] = text("Host", "Scheme, host and port, e.g. https://api.example.com:8443.", max=500)
    url_path: Mapped[str] = text(
        "URL path", "Path with {placeholders} that calls fill in.", default="/", max=500
    )
    security: Mapped[int | None] = ref(
        "security",
        "Security",
        "The credentials that calls give; empty = none.",
        column="security_id",
        default="",
        aliases=("security_name", "sec_def"),
        normalise=no_security,
    )
    data_format: Mapped[str] = choice(
        "Data format",
        "How data given as dicts and lists is written and responses are read.",
        ("", "json", "form"),
        default="json",
    )
    content_type: Mapped[str] = text(
        "Content type", "Of requests, instead of what the data format implies.", default=""
    )
    timeout: Mapped[int] = integer(
        "Timeout",
        "For a whole call, from waiting for a free connection to the last byte.",
        default=10,
        unit="s",
        min=1,
        max=3600,
    )
    pool_size: Mapped[int] = integer(
        "Pool size",
        "Connections that each worker keeps at the most.",
        default=20,
        unit="connections",
        min=1,
        max=1000,
    )
    ping_method: Mapped[str] = choice("Ping method", "HTTP method of a ping.", METHODS, default="HEAD")
    tls_verify: Mapped[bool] = boolean(
        "Verify TLS", "Whether the remote end's certificate must be valid.", default=True
    )

    @classmethod
    def check(cls, values: Mapping[str, Any], reader: Reader, object_id: int | None) -> Iterable[Problem]:
        """A host with a scheme and without credentials or a path, a path that starts with '/'."""
        del reader, object_id
        if not re.fullmatch(r"https?://[^/?#@\s]+", values["host"], re.IGNORECASE):
            yield Problem(
                "host", "must be a scheme, a host and perhaps a port, such as https://api.example.com:8443."
            )
        if values["url_path"] and not values["url_path"].startswith("/"):
            yield Problem("url_path", "must start with '/'.")
        yield from _content_type_problems(values)
