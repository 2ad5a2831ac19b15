"""Which endpoint a request comes from, and that wrong credentials tell nothing."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest

from junctor.server import http_errors
from junctor.server.access_log import CALLER
from junctor.server.pubsub import identity
from junctor.server.pubsub.directory import Directory
from junctor.server.pubsub.identity import Identities
from junctor.sql.errors import CredentialsRefused
from junctor.sql.secrets import Keyring
from tests.helpers.one_worker import OneWorker

KEY = "the-shared-key-of-at-least-32-bytes"
NEVER = 32_503_680_000  # the year 3000, in seconds since 1970


class NothingRevoked:
    """What a worker knows of tokens that were logged out: there are none."""

    def load(self) -> None:
        """Nothing is to be loaded."""

    def generation(self, _definition_id: int) -> int:
        """Nothing has changed."""
        return 0

    def __contains__(self, _digest: bytes) -> bool:
        return False


@pytest.fixture
def worker(tmp_path: Path, keyring: Keyring) -> Iterator[OneWorker]:
    """A worker whose endpoints are live, and nothing else of publish/subscribe is."""
    worker = OneWorker(tmp_path)
    context: Any = worker.context
    tokens = SimpleNamespace(revoked=NothingRevoked(), add=lambda _: None, remove=lambda _: None)
    context.store, context.tokens = SimpleNamespace(keyring=keyring), tokens
    context.pubsub = SimpleNamespace(
        directory=Directory(context), deliveries=SimpleNamespace(changed=lambda _: None)
    )
    yield worker
    worker.stop()


@pytest.fixture
def identities(worker: OneWorker) -> Identities:
    """What the worker knows callers by."""
    return Identities(worker.context)


def add_user(worker: OneWorker, username: str = "anna", password: str = "right", name: str = "") -> str:
    """A user with an endpoint of the same name."""
    name = name or username
    worker.create("security_basic_auth", name, username=username, password=password)
    worker.create("pubsub_endpoint", name, endpoint_type="rest", security=name)
    return name


def basic(username: str, password: str) -> dict[str, Any]:
    """A request with these credentials."""
    return {"HTTP_AUTHORIZATION": f"Basic {b64encode(f'{username}:{password}'.encode()).decode()}"}


def bearer(subject: str, key: str = KEY) -> dict[str, Any]:
    """A request with a token."""
    token = jwt.encode({"sub": subject, "exp": NEVER}, key, "HS256")
    return {"HTTP_AUTHORIZATION": f"Bearer {token}"}


class TestWhoIsKnown:
    def test_a_user_is_known_by_name_and_password_and_named_in_the_access_log(
        self, worker: OneWorker, identities: Identities
    ) -> None:
        add_user(worker)
        add_user(worker, "bea", "of bea")
        request = basic("bea", "of bea")
        assert identities.endpoint(request).name == "bea"
        assert request[CALLER] == "bea"

    def test_a_caller_is_known_by_an_api_key_in_the_header_of_its_definition(
        self, worker: OneWorker, identities: Identities
    ) -> None:
        for name, header, key in (
            ("one", "X-API-Key", "k1"),
            ("two", "X-API-Key", "k2"),
            ("three", "X-Own", "k1"),
        ):
            worker.create("security_api_key", name, header=header, key=key)
            worker.create("pubsub_endpoint", name, endpoint_type="rest", security=name)
        assert identities.endpoint({"HTTP_X_API_KEY": "k1"}).name == "one"
        assert identities.endpoint({"HTTP_X_API_KEY": "k2"}).name == "two"
        assert identities.endpoint({"HTTP_X_OWN": "k1"}).name == "three"

    def test_a_caller_is_known_by_the_subject_of_its_token(
        self, worker: OneWorker, identities: Identities
    ) -> None:
        worker.create("security_jwt", "jwt of anna", username="anna", signing_key=KEY)
        worker.create("pubsub_endpoint", "anna", endpoint_type="rest", security="jwt of anna")
        assert identities.endpoint(bearer("anna")).name == "anna"

    def test_of_two_definitions_of_one_user_name_the_password_decides(
        self, worker: OneWorker, identities: Identities
    ) -> None:
        add_user(worker, password="one", name="first")
        add_user(worker, password="two", name="second")
        assert identities.endpoint(basic("anna", "two")).name == "second"

    def test_an_inactive_endpoint_is_known(self, worker: OneWorker, identities: Identities) -> None:
        add_user(worker)
        worker.edit("pubsub_endpoint", "anna", is_active=False)
        assert not identities.endpoint(basic("anna", "right")).is_active


class TestWhoIsNot:
    @pytest.mark.parametrize(
        "request_",
        [
            {},
            basic("anna", "wrong"),
            basic("nobody", "right"),
            {"HTTP_AUTHORIZATION": "Basic not-base64"},
            {"HTTP_AUTHORIZATION": "Basic"},
            bearer("anna", "another-key-of-more-than-32-bytes"),
            bearer("nobody"),
            {"HTTP_AUTHORIZATION": "Bearer no.token"},
            {"HTTP_X_API_KEY": "wrong"},
            {"HTTP_X_API_KEY": ""},
        ],
    )
    def test_every_wrong_credential_gets_the_same_answer(
        self, worker: OneWorker, identities: Identities, request_: dict[str, Any]
    ) -> None:
        add_user(worker)
        worker.create("security_api_key", "key", key="right")
        worker.create("pubsub_endpoint", "key", endpoint_type="rest", security="key")
        worker.create("security_jwt", "jwt", username="anna", signing_key=KEY)
        worker.create("pubsub_endpoint", "jwt", endpoint_type="rest", security="jwt")
        with pytest.raises(CredentialsRefused) as refused:
            identities.endpoint(dict(request_))
        answer = http_errors.answer(refused.value)
        assert (answer.status, answer.details) == (403, "You are not authorized to access this resource.")
        assert answer.headers == {"WWW-Authenticate": 'Basic realm="Junctor", charset="UTF-8"'}

    def test_a_user_without_a_password_or_without_an_endpoint_is_nobody(
        self, worker: OneWorker, identities: Identities
    ) -> None:
        add_user(worker, password="")
        worker.create("security_basic_auth", "bea", username="bea", password="right")
        for request in (basic("anna", ""), basic("bea", "right")):
            with pytest.raises(CredentialsRefused):
                identities.endpoint(request)

    @pytest.mark.parametrize("username", ["anna", "nobody"])
    def test_a_name_that_nobody_has_costs_what_a_wrong_password_does(
        self, worker: OneWorker, identities: Identities, monkeypatch: pytest.MonkeyPatch, username: str
    ) -> None:
        add_user(worker)
        assert identities.endpoint(basic("anna", "right")).name == "anna"
        counted: list[bytes] = []
        for module in ("junctor.server.security.definitions.digest", "junctor.server.pubsub.identity.digest"):
            monkeypatch.setattr(
                module, lambda value, count=identity.digest: (counted.append(value), count(value))[1]
            )
        with pytest.raises(CredentialsRefused):
            identities.endpoint(basic(username, "wrong"))
        assert counted == [f"{username}:wrong".encode()]


class TestChanges:
    def test_a_new_user_is_known_at_once(self, worker: OneWorker, identities: Identities) -> None:
        add_user(worker)
        identities.endpoint(basic("anna", "right"))
        add_user(worker, "bea", "of bea")
        assert identities.endpoint(basic("bea", "of bea")).name == "bea"

    def test_a_new_password_holds_at_once_and_the_old_one_does_not(
        self, worker: OneWorker, identities: Identities
    ) -> None:
        add_user(worker)
        identities.endpoint(basic("anna", "right"))
        worker.edit("security_basic_auth", "anna", password="new")
        assert identities.endpoint(basic("anna", "new")).name == "anna"
        with pytest.raises(CredentialsRefused):
            identities.endpoint(basic("anna", "right"))

    def test_who_has_no_endpoint_any_more_is_nobody(self, worker: OneWorker, identities: Identities) -> None:
        add_user(worker)
        identities.endpoint(basic("anna", "right"))
        worker.delete("pubsub_endpoint", "anna")
        with pytest.raises(CredentialsRefused):
            identities.endpoint(basic("anna", "right"))
