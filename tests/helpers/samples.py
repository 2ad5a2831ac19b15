"""Valid objects of any type, made from its declaration, so that a new type is tested without a word here.

``OVERRIDES`` has what a declaration cannot say: values of texts that must have a certain form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from junctor.sql import base
from junctor.sql.fields import Field, FieldType

SECRET = "canary-{kind}-{field}-{variant}"  # what no output may ever have
OVERRIDES: Mapping[tuple[str, str], tuple[Any, Any]] = {
    ("channel_rest", "url_path"): ("/{name}", "/{name}/other/{{id}}"),
    ("channel_rest", "method"): ("GET,POST", "DELETE"),
    ("channel_rest", "content_type"): ("application/vnd.a+json", "text/csv; charset=utf-8"),
    ("channel_websocket", "address"): ("/{name}", "/{name}/other"),
    ("outgoing_rest", "host"): ("http://127.0.0.1:1", "https://api.example.com:8443"),
    ("outgoing_rest", "url_path"): ("/a/{{id}}", "/b"),
    ("outgoing_rest", "content_type"): ("application/json", "text/plain"),
    ("outgoing_websocket", "address"): ("ws://127.0.0.1:1/{name}", "wss://far.example.com/link"),
    ("outgoing_websocket", "subscription_list"): (["/customer/new"], []),
    ("pubsub_endpoint", "endpoint_type"): ("internal", "internal"),  # the one type without an identity
    ("pubsub_endpoint", "security"): ("", ""),
    ("pubsub_endpoint", "service"): ("", ""),
    ("pubsub_endpoint", "ws_channel"): ("", ""),
    ("pubsub_endpoint", "role"): ("pub-sub", "sub-only"),
    ("pubsub_endpoint", "topic_patterns"): (["pub=/a/**", "sub=/a/*"], ["sub=/**"]),
    ("pubsub_subscription", "delivery_method"): ("notify", "notify"),
    ("pubsub_subscription", "service"): ("", ""),  # it has a REST connection
    ("pubsub_subscription", "delivery_data_format"): ("json", "json"),
    ("pubsub_subscription", "delivery_err_should_block"): (False, True),
    ("pubsub_subscription", "max_in_flight"): (3, 1),
    ("email_smtp", "host"): ("mail.example.com", "127.0.0.1"),
    ("email_smtp", "mode"): ("starttls", "ssl"),  # a password is never sent without encryption
    ("email_smtp", "ca_certs"): ("", ""),
    ("email_smtp", "ping_address"): ("ping@example.com", "ops@example.com"),
    ("email_smtp", "username"): ("mailer", "another"),  # a password needs one
    ("security_api_key", "header"): ("X-One", "X-Two"),
    ("security_jwt", "algorithm"): (
        "HS256",
        "HS256",
    ),  # RS256 has keys of another form, and HS256 none that are public
    ("security_jwt", "public_keys"): ("", ""),
    ("server", "host"): ("10.0.0.1", "app.example.com"),
    ("sso", "apps_http_header"): ("X-App", "X-Other-App"),
    ("sso", "session_absolute"): (600, 0),
    ("sso", "search_default_page_size"): (10, 5),
    ("sso", "search_max_page_size"): (20, 30),
    ("sso", "site_url"): ("https://www.example.com", ""),
    ("sso", "oidc_issuer"): ("https://sso.example.com/zato/sso/oidc", ""),
    ("sso", "webauthn_origins"): (["https://www.example.com"], ["https://login.example.com"]),
    ("sso", "webauthn_rp_id"): ("example.com", "login.example.com"),
    ("sso_application", "redirect_uris"): (["https://crm.example.com/back"], ["http://127.0.0.1:3000/back"]),
    ("sso_application", "post_logout_redirect_uris"): (["https://crm.example.com/out"], []),
    ("sso_application", "scopes"): (["openid", "email"], ["openid"]),
    ("sso_user_address", "addresses"): (["10.0.0.0/8", "2001:db8::1"], ["*"]),
}

ALSO_REQUIRED: Mapping[str, tuple[str, ...]] = {  # by the object's own check, for want of other fields
    "email_smtp": ("username",),
    "pubsub_endpoint": ("endpoint_type",),
    "pubsub_subscription": ("out_rest",),
}

FOR_REFERENCE: Mapping[
    tuple[str, str], Mapping[str, Any]
] = {  # what an object needs to have a value in this field
    ("pubsub_endpoint", "security"): {"endpoint_type": "rest"},
    ("pubsub_endpoint", "service"): {"endpoint_type": "service"},
    ("pubsub_endpoint", "ws_channel"): {"endpoint_type": "wsx"},
    ("pubsub_subscription", "service"): {"out_rest": ""},
}


def settable(kind: str) -> dict[str, Field]:
    """The fields of a type that callers give, but for the name."""
    declared = base.declared(base.kind_class(kind))
    return {name: field for name, field in declared.items() if name != "name" and not field.read_only}


def sample(kind: str, name: str, references: Mapping[str, str], *, variant: int = 0) -> dict[str, Any]:
    """A valid object with a value in every field; with variant 1, another value in every field that has several.

    ``references`` gives the name of an object for each type or family that fields may refer to.
    """
    made: dict[str, Any] = {"name": name}
    for field_name, field in settable(kind).items():
        override = OVERRIDES.get((kind, field_name))
        value = override[variant] if override else _value(kind, field_name, field, references, variant)
        made[field_name] = value.format(name=name) if override and isinstance(value, str) else value
    return made


def required(kind: str, name: str, references: Mapping[str, str]) -> dict[str, Any]:
    """A valid object with nothing but the fields that it must have."""
    fields = settable(kind)
    whole = sample(kind, name, references)
    also = ("name", *ALSO_REQUIRED.get(kind, ()))
    return {key: value for key, value in whole.items() if key in also or fields[key].required}


def referring(kind: str, name: str, references: Mapping[str, str], field: str) -> dict[str, Any]:
    """A valid object but for this reference, which whoever asks puts into it."""
    return required(kind, name, references) | FOR_REFERENCE.get((kind, field), {})


def wrong_values(field: Field) -> list[Any]:
    """Values that no field of this type takes."""
    too_long = "x" * ((field.max or 200) + 1)
    always: list[Any] = [{"a": 1}]
    wrong: dict[FieldType, list[Any]] = {
        FieldType.TEXT: [5, ["x"], "nul\x00", too_long],
        FieldType.SECRET: [5, ["x"], "nul\x00", too_long],
        FieldType.INTEGER: ["many", 1.5, True, [1], 2**40],
        FieldType.BOOLEAN: ["maybe", 5, [True]],
        FieldType.CHOICE: ["no such word", 5, [""]],
        FieldType.REFERENCE: [5, ["x"], "no-such-object"],
        FieldType.LIST: [5, [5]],
    }
    return always + [value for value in wrong[field.type] if not (field.large and value == too_long)]


def _value(kind: str, name: str, field: Field, references: Mapping[str, str], variant: int) -> Any:
    if field.type is FieldType.REFERENCE:
        return references[field.reference]
    if field.type is FieldType.SECRET:
        return SECRET.format(kind=kind, field=name, variant=variant)
    if field.type is FieldType.BOOLEAN:
        return field.default if variant else not field.default
    if field.type is FieldType.CHOICE:
        return field.choices[-1 - variant % len(field.choices)]
    if field.type is FieldType.INTEGER:
        low, high = field.min or 0, 1000 if field.max is None else field.max
        return min(low + 2 - variant, high)
    if field.type is FieldType.LIST:
        return [f"one-{variant}", "two"]
    return f"{name} {variant}"[: field.max]
