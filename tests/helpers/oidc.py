"""The OpenID provider of a worker in this process, browsers that log in with its pages, and applications that are its clients."""

from __future__ import annotations

import base64
import hashlib
import itertools
import secrets
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
from gevent.event import Event

from junctor.server.app import App
from junctor.server.service.info import describe
from junctor.server.sso.oidc import rest_channels, services
from junctor.sql.secrets import Keyring
from junctor.sql.store import Store
from tests.helpers.sso import PASSWORD, SsoUnderTest
from tests.helpers.wsgi import WsgiAdapter

ISSUER = "https://sso.example.com/zato/sso/oidc"
CALLBACK = "https://grafana.example.com/login/generic_oauth"
AFTER_LOG_OUT = "https://grafana.example.com/bye"
CLIENT, SECRET = "Grafana", "secret-of-grafana-of-the-tests"
SCOPE = "openid profile email"
_numbers = itertools.count(1)


class ProviderUnderTest(SsoUnderTest):
    """A cluster of its own with the provider, and the application Grafana, which has a secret and may ask for all scopes."""

    def __init__(self, engine: Any, keyring: Keyring, **settings: Any) -> None:
        store = Store.create(engine, f"oidc-{next(_numbers)}", keyring)
        super().__init__(store, **{"oidc_issuer": ISSUER, **settings})
        with store.transaction(who="tester") as transaction:
            for service in services.SERVICES:
                self.context.services.replace(f"{service.name}.py", [describe(service)])
                transaction.create("service", {"name": service.name})
            for name, fields in rest_channels.CHANNELS.items():
                transaction.create("channel_rest", {"name": name, **fields})
        self.client()
        self.context.is_loaded = True
        self.app = App(self.context, lambda: None, Event())

    def client(self, name: str = CLIENT, **fields: Any) -> None:
        """An application that uses OpenID Connect, or other fields of one."""
        given = {
            "is_oidc_client": True,
            "secret": SECRET,
            "redirect_uris": [CALLBACK],
            "post_logout_redirect_uris": [AFTER_LOG_OUT],
        }
        self.application(name, **(fields if self.store.id_of("sso_application", name) else given | fields))

    def browser(self, **more: Any) -> Browser:
        """A browser that nobody has used yet."""
        session = requests.Session()
        session.mount(urlsplit(ISSUER).scheme + "://", WsgiAdapter(self.app, **more))
        return Browser(session)

    def http(self) -> requests.Session:
        """What an application sends requests with."""
        return self.browser().session

    def post(self, path: str, data: dict[str, str], auth: Any = (CLIENT, SECRET)) -> requests.Response:
        """What an application gets that sends a form; by default it proves who it is."""
        return self.http().post(f"{ISSUER}/{path}", data=data, auth=auth)


class Form(HTMLParser):
    """The first form of a page: where it is sent to, and its fields; and the text of all of the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action, self.fields, self.text, self._is_over = "", {}, "", False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form" and not self.action:
            self.action = given["action"] or ""
        elif tag == "input" and self.action and not self._is_over:
            self.fields[given["name"] or ""] = given.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        self._is_over = self._is_over or tag == "form"

    def handle_data(self, data: str) -> None:
        self.text += data


class Browser:
    """Follows nothing by itself: tests say what happens next."""

    def __init__(self, session: requests.Session) -> None:
        self.session = session

    def get(self, url: str, **params: str) -> requests.Response:
        """A page."""
        return self.session.get(url, params=params, allow_redirects=False)

    def submit(self, page: requests.Response, **fields: str) -> requests.Response:
        """Fills in the form of a page and sends it."""
        form = Form(page.text)
        return self.session.post(form.action, data=form.fields | fields, allow_redirects=False)

    def log_in(self, page: requests.Response, username: str = "alice", password: str = PASSWORD) -> str:
        """Logs in with the form of a page, and returns where the browser is sent to."""
        answer = self.submit(page, username=username, password=password)
        assert answer.status_code == 303, answer.text
        return answer.headers["Location"]


def verifier() -> str:
    """A code verifier (RFC 7636)."""
    return secrets.token_urlsafe(32)


def challenge_of(code_verifier: str) -> str:
    """Its challenge."""
    return base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest()).rstrip(b"=").decode()


def asked(code_verifier: str = "v" * 43, **changes: str | None) -> dict[str, str]:
    """The parameters of a request to the authorization endpoint; those that are None in ``changes`` are left out."""
    given: dict[str, str | None] = {
        "response_type": "code",
        "client_id": CLIENT,
        "redirect_uri": CALLBACK,
        "scope": SCOPE,
        "state": "a-state",
        "nonce": "a-nonce",
        "code_challenge": challenge_of(code_verifier),
        "code_challenge_method": "S256",
        **changes,
    }
    return {name: value for name, value in given.items() if value is not None}


def query(url: str) -> dict[str, str]:
    """The parameters of a URL."""
    return dict(parse_qsl(urlsplit(url).query))
