"""Settings and applications of Single Sign-On, mail servers: which can be made, and which cannot."""

from __future__ import annotations

from typing import Any

import pytest

from junctor.sql.errors import InvalidInput
from junctor.sql.store import Store
from tests.helpers.objects import add, edit

SECRET = "a-secret-of-thirty-characters-"
BACK = "https://crm.example.com/back"


def refused(field: str, message: str) -> Any:
    """Expects that this field is refused with this message."""
    return pytest.raises(InvalidInput, match=rf"{field}.*{message}")


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        (
            {"password_min_length": 200, "password_max_length": 100},
            "password_min_length",
            "must not be greater",
        ),
        (
            {"search_default_page_size": 60, "search_max_page_size": 50},
            "search_default_page_size",
            "must not be greater",
        ),
        ({"session_expiry": 60, "session_absolute": 30}, "session_absolute", "must not be shorter"),
        ({"apps_http_header": "No Header"}, "apps_http_header", "must be the name of an HTTP header"),
        ({"site_url": "http://www.example.com"}, "site_url", "must begin with https"),
        ({"site_url": "https://[::1"}, "site_url", "is not a URL"),
        ({"oidc_issuer": "https://me@example.com"}, "oidc_issuer", "neither a user name nor a fragment"),
        (
            {"webauthn_rp_id": "example.com", "webauthn_origins": ["https://example.com/path"]},
            "webauthn_origins",
            "without a path",
        ),
        ({"webauthn_origins": ["https://example.com"]}, "webauthn_rp_id", "is required with origins"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(
    store: Store, fields: dict[str, Any], field: str, message: str
) -> None:
    add(store, "sso", "sso")

    with refused(field, message):
        edit(store, "sso", "sso", **fields)


def test_a_session_may_last_for_ever(store: Store) -> None:
    add(store, "sso", "sso")

    made = edit(store, "sso", "sso", session_absolute=0, session_expiry=1000)

    assert (made["session_absolute"], made["session_expiry"]) == (0, 1000)


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"introspection_allowed": True}, "secret", "is required for introspection"),
        ({"secret": "short"}, "secret", "at least 20 characters"),
        ({"is_oidc_client": True}, "redirect_uris", "at least one URI"),
        ({"redirect_uris": ["http://crm.example.com/back"]}, "redirect_uris", "must begin with https"),
        ({"redirect_uris": ["javascript:alert(1)"]}, "redirect_uris", "must begin with https"),
        ({"redirect_uris": [f"{BACK}#part"]}, "redirect_uris", "nor a fragment"),
        (
            {"post_logout_redirect_uris": ["//evil.example.com"]},
            "post_logout_redirect_uris",
            "must begin with",
        ),
        ({"scopes": ["openid", "everything"]}, "scopes", "not everything"),
    ],
)
def test_an_application_that_would_not_be_safe_is_refused(
    store: Store, fields: dict[str, Any], field: str, message: str
) -> None:
    with refused(field, message):
        add(store, "sso_application", "CRM", **fields)


@pytest.mark.parametrize("uri", [BACK, "http://127.0.0.1:3000/back", "http://localhost/back"])
def test_an_application_has_its_users_sent_back_over_tls_or_within_a_machine(store: Store, uri: str) -> None:
    made = add(
        store,
        "sso_application",
        "CRM",
        is_oidc_client=True,
        introspection_allowed=True,
        secret=SECRET,
        redirect_uris=[uri],
    )

    assert made["redirect_uris"] == [uri]
    assert made["secret"].matches(SECRET)


@pytest.mark.parametrize("address", ["10.0.0.1", "10.0.0.0/8", "2001:db8::/32", "*"])
def test_a_user_may_come_from_addresses_and_networks(store: Store, address: str) -> None:
    assert add(store, "sso_user_address", "alice", addresses=[address])["addresses"] == [address]


@pytest.mark.parametrize("address", ["10.0.0.1/8", "example.com", "10.0.0"])
def test_what_is_no_address_is_refused(store: Store, address: str) -> None:
    with refused("addresses", "must be IP addresses, networks or"):
        add(store, "sso_user_address", "alice", addresses=[address])


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"password": "x"}, "username", "is required with a password"),
        (
            {"mode": "plain", "username": "mailer", "password": "x"},
            "mode",
            "lest the password cross the network readable",
        ),
        ({"host": "smtp://mail.example.com"}, "host", "a host name or an address alone"),
        ({"ca_certs": "no certificate"}, "ca_certs", "must be certificates in PEM"),
        ({"ping_address": "nobody"}, "ping_address", "must be an e-mail address"),
    ],
)
def test_a_mail_server_that_could_not_be_used_safely_is_refused(
    store: Store, fields: dict[str, Any], field: str, message: str
) -> None:
    with refused(field, message):
        add(store, "email_smtp", "mail", **{"host": "mail.example.com", **fields})


def test_a_mail_server_of_this_machine_needs_no_encryption(store: Store) -> None:
    made = add(store, "email_smtp", "mail", host="127.0.0.1", mode="plain", username="mailer", password="x")

    assert made["mode"] == "plain"
